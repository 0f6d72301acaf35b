"""What the demo shows of its results: the HTML report and the table in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spectra_sum.documents.parts import Document, DocumentImage
from spectra_sum.evaluation.evaluation_report import ranking_curves
from spectra_sum.models.loading import LoadedModel
from spectra_sum.report import (
    GateOpening,
    ReportArticle,
    ReportImage,
    SelectionRow,
    TrainingCurve,
    VariantRow,
    write_report,
)
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer

LOSS_PARTS = ("loss", "loss_lm", "loss_align", "loss_distill")
NOTES = (
    "The closed world is made by code: images of charts and scenes, and articles whose summaries need them. Its figures "
    "say what the architecture can learn, not how it does on news.",
    "Text facts (group, city, person, number) stand in the article's text; visual facts (trend, setting) only in its "
    "images. ROUGE is no evidence here: the template alone scores high.",
    "All variants start from the same text-only model and get the same number of steps. concat's projector starts "
    "untrained, and no gates open slowly there.",
)


def training_curves(name: str, log_history: Sequence[dict[str, Any]]) -> list[TrainingCurve]:
    """The loss parts of a variant that the trainer logged."""
    curves = []
    for part in LOSS_PARTS:
        points = [(entry["step"], float(entry[part])) for entry in log_history if part in entry]
        if points:
            curves.append(TrainingCurve(name, part, points))
    return curves


def gate_openings(name: str, log_history: Sequence[dict[str, Any]]) -> list[GateOpening]:
    """The gates of a variant over its training; none for a variant that never used them."""
    points: dict[int, list[tuple[float, float]]] = {}
    for entry in log_history:
        for key, value in entry.items():
            if key.startswith("gate_"):
                points.setdefault(int(key.removeprefix("gate_")), []).append((entry["step"], float(value)))
    used = {layer: series for layer, series in points.items() if any(value for _, value in series)}
    return [GateOpening(name, layer, series[-1][1], series) for layer, series in sorted(used.items())]


def report_article(summarizer: Summarizer, record: dict[str, Any]) -> ReportArticle:
    """An article of the closed world with its summary, selection and evidence."""
    images = [
        DocumentImage(f"image {index}", caption, image)
        for index, (image, caption) in enumerate(zip(record["images"], record["captions"], strict=True), start=1)
    ]
    document = Document(record["id"], record["id"], record["title"], record["article"], images)
    summary = summarizer.summarize(document)
    return ReportArticle(
        id=record["id"],
        title=record["title"],
        body=record["article"],
        images=[
            ReportImage(
                image.image,
                image.alt,
                probability=probability,
                selected=index in summary.selected,
                gold=index in record["gold_images"],
            )
            for index, (image, probability) in enumerate(zip(images, summary.probabilities, strict=True))
        ],
        summary=summary.summary,
        reference=" ".join(record["summary"]),
        evidence=summary.evidence,
        remarks=[str(problem) for problem in summary.problems],
    )


def write_example(folder: Path, record: dict[str, Any]) -> None:
    """An article as a Markdown document with its images, to try `spectra-sum summarize` on."""
    folder.mkdir(exist_ok=True)
    lines = [f"# {record['title']}", record["article"]]
    for index, image in enumerate(record["images"], start=1):
        image.save(folder / f"image_{index}.png")
        lines.append(f"![image {index}](image_{index}.png)")
    (folder / "article.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def write_demo_report(
    path: Path,
    loaded: LoadedModel,
    records: Sequence[dict[str, Any]],
    metrics: dict[str, Any],
    logs: dict[str, list[dict[str, Any]]],
    probabilities: Sequence[Sequence[float]],
    gold: Sequence[Sequence[int]],
) -> None:
    """Write the report: articles, the tables of `metrics`, the curves and gates of every variant's log, and how good the
    image probabilities of all test articles are."""
    precision, reliability = ranking_curves("mm-dvp", probabilities, gold)
    summarizer = Summarizer(loaded, SummaryOptions(max_new_tokens=64))
    write_report(
        path,
        title="SPeCTrA-Sum in the closed world",
        articles=[report_article(summarizer, record) for record in records],
        curves=[curve for name, log in logs.items() for curve in training_curves(name, log)],
        gates=[gate for name, log in logs.items() for gate in gate_openings(name, log)],
        variants=[VariantRow(name=name, **row) for name, row in metrics["variants"].items()],
        selection=[SelectionRow(name=name, **row) for name, row in metrics["selection"].items()],
        chance=metrics["chance"],
        precision_curves=[precision],
        calibration=[reliability],
        notes=NOTES,
    )


def results_table(metrics: dict[str, Any]) -> str:
    """The tables of `metrics` as text."""
    kinds = list(metrics["chance"])
    head = ["variant", "ROUGE-1", "ROUGE-2", "ROUGE-L", "text facts", *kinds, "seconds", "parameters"]
    rows = [
        [name]
        + [f"{row[key]:.3f}" for key in ("rouge1", "rouge2", "rougeL", "text_facts")]
        + [f"{row['visual_facts'][kind]:.3f}" for kind in kinds]
        + [f"{row['seconds']:.0f}", f"{row['parameters']:,}"]
        for name, row in metrics["variants"].items()
    ]
    rows.append(["chance", "", "", "", ""] + [f"{metrics['chance'][kind]:.3f}" for kind in kinds] + ["", ""])
    selection = [
        [name, f"{row['image_precision']:.3f}", f"{row['coverage']:.3f}"] for name, row in metrics["selection"].items()
    ]
    return _aligned([head, *rows]) + "\n\n" + _aligned([["selection of 2", "precision", "coverage"], *selection])


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
