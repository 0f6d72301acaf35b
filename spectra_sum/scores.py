"""Scores of predictions against their records: the project's metric modules, applied to what the records have."""

from collections.abc import Sequence
from typing import Any

from spectra_sum.metrics import load_metric


def coverage(
    selected: Sequence[Sequence[int]], captions: Sequence[Sequence[str]], gold: Sequence[Sequence[int]]
) -> float:
    """Share of articles whose selection shows everything that their gold images show.

    Gold images with equal captions show the same; one of them is enough. Articles without gold images are left out.

    Raises:
        ValueError: when no article has gold images.
    """
    rows = [row for row in zip(selected, captions, gold, strict=True) if row[2]]
    if not rows:
        raise ValueError("coverage needs at least one article with gold images.")
    covered = [{texts[i] for i in chosen} >= {texts[i] for i in wanted} for chosen, texts, wanted in rows]
    return sum(covered) / len(covered)


def score_predictions(predictions: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """ROUGE, and as far as the records allow it, image precision and the accuracy of facts.

    Args:
        predictions: From [`predict_summaries`], in the order of the records.
        records: Articles with `summary` (sentences) and `gold_images`; `facts` and `captions` in the closed world.

    Returns:
        `rouge1`, `rouge2`, `rougeL`, `rougeLsum`; `image_precision` when an article has gold images; in the closed world
        also `coverage`, `text_facts` and `visual_facts_KIND`. All in [0, 1].
    """
    summaries = [prediction["summary"] for prediction in predictions]
    columns = {name: [record[name] for record in records] for name in ("summary", "gold_images")}
    references = ["\n".join(sentences) for sentences in columns["summary"]]
    scores = load_metric("summary_rouge").compute(predictions=summaries, references=references)
    selected = [prediction["selected"] for prediction in predictions]
    has_probabilities = any(prediction["probabilities"] for prediction in predictions)
    if has_probabilities and any(columns["gold_images"]):
        metric = load_metric("image_precision")
        result = metric.compute(predictions=selected, references=columns["gold_images"])
        scores["image_precision"] = result["image_precision"]
    if "facts" in records[0]:
        facts = load_metric("visual_facts").compute(
            predictions=summaries, references=[record["facts"] for record in records]
        )
        scores["text_facts"] = facts["text_facts"]
        scores.update({f"visual_facts_{kind}": share for kind, share in facts["visual_facts"].items()})
        if has_probabilities:
            captions = [record["captions"] for record in records]
            scores["coverage"] = coverage(selected, captions, columns["gold_images"])
    return scores
