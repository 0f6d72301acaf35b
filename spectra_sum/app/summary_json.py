"""A summary as JSON: what the app answers to programs."""

from collections.abc import Mapping
from typing import Any

from spectra_sum.documents.parts import Document
from spectra_sum.sentences import split_sentences

from .writer import Written


def summary_json(article: Document, written: Written) -> dict[str, Any]:
    """
    The answer about an article.

    Args:
        article (`Document`): The article.
        written (`Written`): What was made of it.

    Returns:
        `dict`:

        - `"summary"` (`str`);
        - `"selected_images"`: per selected image, best first, `"index"` (from 0, in the article's order), `"name"` and
          what it was ranked by: `"probability"`, or, where that is `None`, `"score"`;
        - `"images"`: the same of all images, with `"alt"`, `"caption"` and `"selected"`, in the article's order;
        - `"sentences"`: `"text"`, `"origin"` (`"written"` by the model or `"extracted"`, the document's own), `"images"`, the
          selected ones that belong to it, and `"image_weights"`, per image its share of the attention, or `None`;
        - `"remarks"` (`list[str]`): what was left out, and what must be known of summary and model.
    """
    result = written.result
    probabilities = result["image_probabilities"]
    scores = result.get("image_scores", probabilities)
    selected = [entry["index"] for entry in result["selected_images"]]
    ranked = [
        {"index": index, "name": image.name, "probability": probability, "score": score}
        for index, (image, probability, score) in enumerate(zip(article.images, probabilities, scores, strict=True))
    ]
    weights = {entry["sentence"]: list(entry["image_weights"]) for entry in result["evidence"]}
    return {
        "summary": result["summary_text"],
        "selected_images": [ranked[index] for index in selected],
        "images": [
            {**entry, "alt": image.alt, "caption": image.caption, "selected": entry["index"] in selected}
            for entry, image in zip(ranked, article.images, strict=True)
        ],
        "sentences": [
            {**sentence, "image_weights": weights.get(sentence["text"])} for sentence in _sentences(result, selected)
        ],
        "remarks": [*map(str, article.problems), *written.remarks],
    }


def _sentences(result: Mapping[str, Any], selected: list[int]) -> list[dict[str, Any]]:
    """The sentences; of a pipeline, which has none, each selected image belongs to the one that attended to it most."""
    if "sentences" in result:
        return result["sentences"]
    sentences = [{"text": text, "origin": "written", "images": []} for text in split_sentences(result["summary_text"])]
    by_text = {sentence["text"]: sentence for sentence in reversed(sentences)}
    for index in selected:
        seen = [entry for entry in result["evidence"] if entry["image_weights"][index] is not None]
        if seen:
            strongest = max(seen, key=lambda entry: entry["image_weights"][index])
            by_text[strongest["sentence"]]["images"].append(index)
    return sentences
