"""Writes the report: prepares what the template shows, embeds the images, renders one self-contained HTML file."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from ..atomic_write import write_text_atomically
from ..documents.local_images import open_local_image
from .charts import LineChart, line_chart
from .contents import (
    CalibrationCurve,
    GateOpening,
    PrecisionCurve,
    RelevancePoint,
    ReportArticle,
    ReportImage,
    ScoreTable,
    SelectionRow,
    TrainingCurve,
    VariantRow,
)
from .evaluation import checked_tables, precision_over_k, reliability
from .evaluation import trade_off as trade_off_section

MAX_SIDE, THUMBNAIL_SIDE = 640, 96
# Images up to this side are drawn pixel by pixel: they are renderings, and JPEG would smear them.
PIXELATED_SIDE = 96
STRONGEST_IMAGES = 5
LONG_BODY = 900
PART_TITLES = {
    "loss": "Total loss",
    "loss_lm": "Language modelling (loss_lm)",
    "loss_align": "Alignment (loss_align)",
    "loss_distill": "Distillation (loss_distill)",
}


@dataclass(frozen=True)
class EmbeddedImage:
    """An image as a `data:` URI."""

    uri: str
    width: int
    height: int
    pixelated: bool


@dataclass(frozen=True)
class ShownImage:
    """A report image with its number in the article (from 1), embedded in full and as a thumbnail."""

    number: int
    content: ReportImage
    full: EmbeddedImage
    thumbnail: EmbeddedImage

    @property
    def alt(self) -> str:
        """Alternative text, never empty: images carry information here."""
        return self.content.alt or self.content.caption or f"Image {self.number}, no description"


def write_report(
    path: str | Path,
    *,
    title: str,
    articles: Sequence[ReportArticle],
    curves: Sequence[TrainingCurve] = (),
    gates: Sequence[GateOpening] = (),
    variants: Sequence[VariantRow] = (),
    selection: Sequence[SelectionRow] = (),
    chance: Mapping[str, float] | None = None,
    score_tables: Sequence[ScoreTable] = (),
    trade_off: Sequence[RelevancePoint] = (),
    relevance_label: str = "Image precision",
    diversity_label: str = "Pairwise cosine distance (mean)",
    precision_curves: Sequence[PrecisionCurve] = (),
    calibration: Sequence[CalibrationCurve] = (),
    notes: Sequence[str] = (),
) -> None:
    """
    Writes a report as one HTML file without scripts or external resources.

    Args:
        path (`str` or `Path`):
            The file to write; it is replaced as a whole.
        title (`str`):
            Title of the page.
        articles (`Sequence[ReportArticle]`):
            Articles with their summaries and images.
        curves (`Sequence[TrainingCurve]`, *optional*, defaults to `()`):
            Loss curves; those of one loss part share a chart.
        gates (`Sequence[GateOpening]`, *optional*, defaults to `()`):
            Gate openings by variant and layer.
        variants (`Sequence[VariantRow]`, *optional*, defaults to `()`):
            The table of variants.
        selection (`Sequence[SelectionRow]`, *optional*, defaults to `()`):
            The table of image selections.
        chance (`Mapping[str, float]`, *optional*):
            Chance level in [0, 1] by column of the table of variants: `"rouge1"`, `"rouge2"`, `"rougeL"`,
            `"text_facts"` or a kind of visual fact.
        score_tables (`Sequence[ScoreTable]`, *optional*, defaults to `()`):
            Further tables, each in its own section.
        trade_off (`Sequence[RelevancePoint]`, *optional*, defaults to `()`):
            The points of the plot of relevance against diversity.
        relevance_label (`str`, *optional*, defaults to `"Image precision"`):
            What the `relevance` of these points is.
        diversity_label (`str`, *optional*, defaults to `"Pairwise cosine distance (mean)"`):
            What their `diversity` is.
        precision_curves (`Sequence[PrecisionCurve]`, *optional*, defaults to `()`):
            Image precision over k; all curves share a chart.
        calibration (`Sequence[CalibrationCurve]`, *optional*, defaults to `()`):
            Reliability diagrams, one for each curve.
        notes (`Sequence[str]`, *optional*, defaults to `()`):
            Remarks on the whole run.

    Raises:
        ValueError: An evidence entry has not one weight per image, `chance` names no column, a row of a score table has
            not one text per column, a point is not finite, or a curve is empty or has the name of another one.
    """
    for article in articles:
        for entry in article.evidence:
            if len(entry.image_weights) != len(article.images):
                raise ValueError(
                    f"article {article.id!r}: a sentence has {len(entry.image_weights)} image weights for "
                    f"{len(article.images)} images; give one weight per image."
                )
    kinds = list(dict.fromkeys(kind for row in variants for kind in row.visual_facts))
    unknown = set(chance or ()) - {"rouge1", "rouge2", "rougeL", "text_facts", *kinds}
    if unknown:
        raise ValueError(f"chance has no column for {sorted(unknown)}; use a score's name or one of {kinds}.")

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    images = [image for article in articles for image in article.images]
    page = environment.get_template("report.html.j2").render(
        title=title,
        articles=[_shown_article(article) for article in articles],
        loss_charts=_loss_charts(curves),
        gates=_shown_gates(gates),
        variants=variants,
        kinds=kinds,
        selection=selection,
        chance=chance or {},
        score_tables=checked_tables(score_tables),
        trade_off=trade_off_section(trade_off, relevance_label, diversity_label),
        precision=precision_over_k(precision_curves),
        reliability=reliability(calibration),
        probabilities=any(image.probability is not None for image in images),
        ranked=any(image.score is not None for image in images if image.probability is None),
        notes=notes,
    )
    write_text_atomically(path, page)


def _embedded(image: Image.Image, max_side: int) -> EmbeddedImage:
    image = image.copy()
    pixelated = max(image.size) <= PIXELATED_SIDE
    # A thumbnail of a tiny image is the image itself, sharp at any scale.
    image.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    if pixelated:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=82, optimize=True)
    kind = "png" if pixelated else "jpeg"
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return EmbeddedImage(f"data:image/{kind};base64,{data}", image.width, image.height, pixelated)


def _shown_article(article: ReportArticle) -> dict[str, object]:
    # Not at the top: the command line describes its report before torch is there.
    from modeling_spectra.rgb_images import flat_rgb

    images = []
    for number, content in enumerate(article.images, start=1):
        # Shown as the model sees it.
        image = open_local_image(content.image) if isinstance(content.image, Path) else flat_rgb(content.image)
        images.append(ShownImage(number, content, _embedded(image, MAX_SIDE), _embedded(image, THUMBNAIL_SIDE)))
    evidence = []
    for entry in article.evidence:
        read = [
            (image, weight) for image, weight in zip(images, entry.image_weights, strict=True) if weight is not None
        ]
        ranked = sorted(read, key=lambda pair: -pair[1])
        rest = ranked[STRONGEST_IMAGES:]
        evidence.append(
            {
                "sentence": entry.sentence,
                "strongest": ranked[:STRONGEST_IMAGES],
                "others": len(rest),
                "others_weight": sum(weight for _, weight in rest),
            }
        )
    return {
        "content": article,
        "paragraphs": [paragraph for paragraph in article.body.split("\n\n") if paragraph.strip()],
        "words": len(article.body.split()),
        "long": len(article.body) > LONG_BODY,
        "selected": [image for image in images if image.content.selected],
        "others": [image for image in images if not image.content.selected],
        "evidence": evidence,
    }


def _loss_charts(curves: Sequence[TrainingCurve]) -> list[LineChart]:
    styles = {name: index for index, name in enumerate(dict.fromkeys(curve.name for curve in curves))}
    parts = dict.fromkeys([*PART_TITLES, *(curve.part for curve in curves)])
    charts = [
        line_chart(
            PART_TITLES.get(part, part),
            {curve.name: curve.points for curve in curves if curve.part == part},
            styles,
        )
        for part in parts
    ]
    return [chart for chart in charts if chart is not None]


def _shown_gates(gates: Sequence[GateOpening]) -> list[dict[str, object]]:
    layers = sorted({gate.layer for gate in gates})
    styles = {f"layer {layer}": index for index, layer in enumerate(layers)}
    shown = []
    for name in dict.fromkeys(gate.name for gate in gates):
        own = sorted((gate for gate in gates if gate.name == name), key=lambda gate: gate.layer)
        series = {f"layer {gate.layer}": gate.points for gate in own}
        shown.append({"name": name, "gates": own, "chart": line_chart("During training", series, styles)})
    return shown
