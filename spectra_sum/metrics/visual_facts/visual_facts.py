"""Accuracy of the facts that a summary states, as an `evaluate` module for the closed world."""

import re
from collections import defaultdict
from collections.abc import Sequence

import datasets
import evaluate

_DESCRIPTION = """
Share of the reference's facts that a summary states; each fact weighs the same, whatever its article. A fact is stated
when its value stands in the summary as a whole word (letter case does not matter) and none of the other values of its
kind does. Facts of the source "text" stand in the article's text; those of the source "image" only in its images, so
that a text-only system can but guess them. Source: this project's closed world, where every fact is known. An empty
summary states nothing: all facts of its article count as missed. An article without facts is left out and counted; how
many images it has and which were selected plays no part.
"""
_CITATION = """
@software{spectra_sum,
    title = {spectra-sum: an open implementation of SPeCTrA-Sum, with a closed world for multimodal summarization},
    year = {2026}}
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str]`): The summaries; `""` where empty.
    references (`list[list[dict]]`): Per article its facts: `kind` (for image facts anything but "text"), `value`,
        `alternatives` (the other values of the kind) and `source` ("text" or "image").
    per_example (`bool`, *optional*, defaults to `False`): Whether to return each article's shares as well.

Returns:
    `text_facts`: share of the text facts that are stated, in [0, 1], or None without any; `visual_facts`: the same per
    kind of image fact; `counts`: the number of facts behind each share, `text` and one per kind;
    `articles_without_facts`: how many articles were left out, as they have none; `per_example` (on demand): `text_facts` and
    `visual_facts_KIND`, the share of each article's own facts, None where it has none of them. Their mean weighs articles
    alike, and is the share above where the articles have equally many.

Raises:
    ValueError: when a summary, an article's facts or a part of a fact is None, there is no fact at all, a source is neither
        "text" nor "image", or an image fact is of kind "text".
"""


def states(summary: str, value: str) -> bool:
    """Whether `value` stands in the summary as a whole word."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", summary, re.IGNORECASE) is not None


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class VisualFacts(evaluate.Metric):
    """Share of the facts that are stated, those of the text together and those of the images by kind."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        fact = {"kind": text, "value": text, "alternatives": datasets.List(text), "source": text}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": text, "references": datasets.List(fact)}),
        )

    def add_batch(self, *, predictions: Sequence[str], references: Sequence[Sequence[dict]]) -> None:
        """Add a batch of predictions and references."""
        for argument, values in (("predictions", predictions), ("references", references)):
            for index, value in enumerate(values):
                if value is None:
                    raise ValueError(
                        f"visual_facts: {argument} of article {index} is None; give an empty text or list if it is empty."
                    )
        super().add_batch(predictions=predictions, references=references)

    def _compute(
        self, predictions: list[str], references: list[list[dict]], per_example: bool = False
    ) -> dict[str, object]:
        verdicts: dict[str, list[list[bool]]] = defaultdict(lambda: [[] for _ in references])
        for index, (summary, facts) in enumerate(zip(predictions, references, strict=True)):
            for fact in facts:
                if fact is None or None in fact.values() or None in fact["alternatives"]:
                    raise ValueError(f"visual_facts: references of article {index} hold None in a fact: {fact}.")
                if fact["source"] not in ("text", "image"):
                    raise ValueError(
                        f"visual_facts: the source of a fact is 'text' or 'image', not {fact['source']!r} as in article "
                        f"{index}."
                    )
                if fact["source"] == "image" and fact["kind"] == "text":
                    raise ValueError(
                        f"visual_facts: article {index} has an image fact of the kind 'text', the name that stands for all "
                        "facts of the text; name the kind otherwise."
                    )
                right = states(summary, fact["value"])
                right = right and not any(states(summary, other) for other in fact["alternatives"])
                verdicts["text" if fact["source"] == "text" else fact["kind"]][index].append(right)
        if not verdicts:
            raise ValueError("visual_facts: the references hold no facts; there is nothing to average over.")
        counts = {name: sum(map(len, rows)) for name, rows in verdicts.items()}
        shares = {name: sum(map(sum, rows)) / counts[name] for name, rows in verdicts.items()}
        result = {
            "text_facts": shares.pop("text", None),
            "visual_facts": shares,
            "counts": counts,
            "articles_without_facts": sum(not facts for facts in references),
        }
        if per_example:
            result["per_example"] = {
                "text_facts" if name == "text" else f"visual_facts_{name}": [
                    sum(row) / len(row) if row else None for row in rows
                ]
                for name, rows in verdicts.items()
            }
        return result
