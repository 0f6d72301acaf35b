"""Accuracy of the facts that a summary states, as an `evaluate` module for the closed world."""

import re
from collections import defaultdict

import datasets
import evaluate

_DESCRIPTION = """
Share of the reference's facts that a summary states. A fact is stated when its value stands in the summary as a whole
word (letter case does not matter) and none of the other values of its kind does. Facts of the source "text" stand in
the article's text; those of the source "image" only in its images, so that a text-only system can but guess them.
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str]`): The summaries.
    references (`list[list[dict]]`): Per article its facts: `kind`, `value`, `alternatives` (the other values of the
        kind) and `source` ("text" or "image").

Returns:
    `text_facts`: share of the text facts that are stated, in [0, 1], or None without any; `visual_facts`: the same per
    kind of image fact; `counts`: the number of facts behind each share, `text` and one per kind.

Raises:
    ValueError: when there is no fact at all, or a source is neither "text" nor "image".
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
            citation="",
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": text, "references": datasets.List(fact)}),
        )

    def _compute(self, predictions: list[str], references: list[list[dict]]) -> dict[str, object]:
        verdicts: dict[str, list[bool]] = defaultdict(list)
        for summary, facts in zip(predictions, references, strict=True):
            for fact in facts:
                if fact["source"] not in ("text", "image"):
                    raise ValueError(
                        f"visual_facts: the source of a fact is 'text' or 'image', not {fact['source']!r}."
                    )
                right = states(summary, fact["value"])
                right = right and not any(states(summary, other) for other in fact["alternatives"])
                verdicts["text" if fact["source"] == "text" else fact["kind"]].append(right)
        if not verdicts:
            raise ValueError("visual_facts: the references hold no facts; there is nothing to average over.")
        shares = {name: sum(values) / len(values) for name, values in verdicts.items()}
        return {
            "text_facts": shares.pop("text", None),
            "visual_facts": shares,
            "counts": {name: len(values) for name, values in verdicts.items()},
        }
