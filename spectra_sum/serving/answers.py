"""A finished summary as JSON."""

from typing import Any, NamedTuple

from ..documents.parts import Document
from ..summaries.document_summary import DocumentSummary
from .jobs import Timings


class ServedModel(NamedTuple):
    """The model as clients see it: a name without folders, and the commit of its repository, if it has one."""

    name: str
    revision: str | None


def summary_answer(
    model: ServedModel, document: Document, summary: DocumentSummary, timings: Timings
) -> dict[str, Any]:
    """
    What `POST /v1/summarize` answers, without its id.

    Args:
        model (`ServedModel`): The model.
        document (`Document`): What was read.
        summary (`DocumentSummary`): Its summary.
        timings (`Timings`): How long it took.
    """
    tokens = summary.tokens
    return {
        "model": model.name,
        "revision": model.revision,
        "summary": summary.summary,
        "sentences": _sentences(summary),
        "images": _images(document, summary),
        "remarks": [
            {"kind": problem.kind, "detail": problem.detail} for problem in [*document.problems, *summary.problems]
        ],
        "usage": None
        if tokens is None
        else {
            "prompt_tokens": tokens.read,
            "completion_tokens": tokens.written,
            "total_tokens": tokens.read + tokens.written,
        },
        "timings": {name: round(seconds, 4) for name, seconds in timings._asdict().items()},
    }


def _sentences(summary: DocumentSummary) -> list[dict[str, Any]]:
    weights = {entry.sentence: list(entry.image_weights) for entry in summary.evidence}
    return [
        {
            "text": sentence.text,
            "origin": sentence.origin,
            "images": sentence.images,
            "image_weights": weights.get(sentence.text),
        }
        for sentence in summary.sentences
    ]


def _images(document: Document, summary: DocumentSummary) -> list[dict[str, Any]]:
    ranks = {index: rank for rank, index in enumerate(summary.selected, start=1)}
    return [
        {
            "index": index,
            "name": image.name,
            "caption": image.caption,
            "alt": image.alt,
            "probability": summary.probabilities[index],
            "score": summary.scores[index],
            "selected": index in ranks,
            "rank": ranks.get(index),
            "sentence": summary.image_sentences[index],
        }
        for index, image in enumerate(document.images)
    ]
