"""The HTML report of an evaluation: scores, relevance against diversity, precision over k, calibration, articles."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from PIL import Image

from spectra_sum.evaluation.curves import calibration, precision_over_k
from spectra_sum.evaluation.readable_articles import ReadableArticles
from spectra_sum.records.article_images import BrokenImage, UndecodedArticles, read_images
from spectra_sum.report import (
    CalibrationCurve,
    PrecisionCurve,
    RelevancePoint,
    ReportArticle,
    ReportImage,
    ScoreTable,
    write_report,
)
from spectra_sum.summaries.remarks import summary_remarks

MAX_K = 10


class ShownArticle(NamedTuple):
    """An article with its `images` by their places, without the `broken` ones."""

    record: dict[str, Any]
    images: dict[int, Image.Image]
    broken: list[BrokenImage]


def read_article(records: datasets.Dataset, index: int) -> ShownArticle:
    """An article to show, with its images."""
    record = UndecodedArticles(records)[index]
    read = read_images(record)
    return ShownArticle(record, dict(zip(read.indices, read.images, strict=True)), read.broken)


def ranking_curves(
    name: str, probabilities: Sequence[Sequence[float]], gold: Sequence[Sequence[int]]
) -> tuple[PrecisionCurve, CalibrationCurve]:
    """The report's curves of one ranking: precision over the first images, at most `MAX_K`, and calibration.

    Raises:
        ValueError: when no article has both gold and scored images.
    """
    largest = min(MAX_K, max(map(len, probabilities)))
    bins = calibration(probabilities, gold)
    return (
        PrecisionCurve(name, precision_over_k(probabilities, gold, largest)),
        CalibrationCurve(name, bins.points, bins.expected_calibration_error),
    )


def write_evaluation_report(
    path: Path,
    metrics: dict[str, Any],
    predictions: Sequence[dict[str, Any]],
    records: ReadableArticles,
    *,
    shown: Sequence[ShownArticle],
) -> None:
    """
    Writes the report.

    Args:
        path (`Path`): The HTML file.
        metrics (`dict`): The content of `metrics.json`.
        predictions: In the records' order; they count the images that remain.
        records (`ReadableArticles`): The articles.
        shown (`Sequence[ShownArticle]`): Its first articles, which the report shows.
    """
    data = metrics["data"]
    gold = list(records["gold_images"])
    probabilities = [prediction["probabilities"] for prediction in predictions]
    precision_curves, calibration_curves = [], []
    if any(wanted and scored for wanted, scored in zip(gold, probabilities, strict=True)):
        precision, reliability = ranking_curves(metrics["selection"], probabilities, gold)
        precision_curves, calibration_curves = [precision], [reliability]
    relevance = "image_precision" if any(gold) else "max_sim"
    points = [
        RelevancePoint(name, scores[relevance], scores["pcd_mean"])
        for name, scores in metrics["selections"].items()
        if relevance in scores and "pcd_mean" in scores
    ]
    write_report(
        path,
        title=f"{metrics['system']} on {data['name']} ({data['split']})",
        articles=[
            _article(article, kept, gold, prediction)
            for article, kept, gold, prediction in zip(shown, records.kept, gold, predictions, strict=False)
        ],
        score_tables=[_scores(metrics), *_selections(metrics)],
        trade_off=points,
        relevance_label="Image precision" if relevance == "image_precision" else "MaxSim",
        precision_curves=precision_curves,
        calibration=calibration_curves,
        notes=[*metrics["notes"], f"The first {len(shown)} of {len(records)} articles are shown."],
    )


def _scores(metrics: dict[str, Any]) -> ScoreTable:
    rows = [
        [name, f"{score['value']:.4f}", f"{score['low']:.4f} to {score['high']:.4f}", f"{score['articles']:,}"]
        for name, score in metrics["scores"].items()
    ]
    notes = [f"{name}: not computed, {reason}." for name, reason in metrics["not_computed"].items()]
    notes += [f"{name}: {count:,}." for name, count in metrics["dropped"].items()]
    return ScoreTable("Scores", ["Score", "Mean", "95 % interval", "Articles"], rows, notes)


def _selections(metrics: dict[str, Any]) -> list[ScoreTable]:
    selections = metrics["selections"]
    if not selections:
        return []
    names = list(dict.fromkeys(name for scores in selections.values() for name in scores))
    rows = [
        [label, *(f"{scores[name]:.3f}" if name in scores else "–" for name in names)]
        for label, scores in selections.items()
    ]
    notes = ["Every row selects from the same images for the same summaries; the first one is the evaluated system's."]
    return [ScoreTable("Ways to select images", ["Selection", *names], rows, notes)]


def _article(
    shown: ShownArticle, kept: Sequence[int], gold: Sequence[int], prediction: dict[str, Any]
) -> ReportArticle:
    record = shown.record
    probabilities = prediction["probabilities"] + [None] * (len(kept) - len(prediction["probabilities"]))
    captions = record.get("captions") or [""] * (max(kept, default=0) + 1)
    images = [
        ReportImage(
            shown.images[place],
            captions[place],
            probability=probabilities[index],
            selected=index in prediction["selected"],
            gold=index in gold if gold else None,
        )
        for index, place in enumerate(kept)
    ]
    return ReportArticle(
        id=record["id"],
        title=record["title"],
        body=record["article"],
        images=images,
        summary=prediction["summary"],
        reference=" ".join(record["summary"]),
        remarks=[str(remark) for remark in summary_remarks(prediction["summary"])],
        notes=[str(image) for image in shown.broken],
    )
