"""A summary as HTML. Every text in it, the visitor's and the model's, is escaped by the template."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from spectra_sum.documents.parts import Document, DocumentImage

IMAGE_SIDE, THUMBNAIL_SIDE = 480, 96
# Small images are renderings; they are shown pixel by pixel, and JPEG would smear them.
PIXELATED_SIDE = 96
STRONGEST_IMAGES = 3


@dataclass(frozen=True)
class ShownImage:
    """An image of the article with its number (from 1), p̂ in percent (`None`: not scored), its rank among the selected
    images (from 1; `None`: not selected), and what it was ranked by where that is no probability."""

    number: int
    name: str
    alt: str
    caption: str
    uri: str
    thumbnail: str
    pixelated: bool
    percent: float | None
    rank: int | None
    score: float | None = None


@dataclass(frozen=True)
class ShownSentence:
    """A sentence of the summary, and the images it attended to most, each with its share in percent."""

    text: str
    images: list[tuple[ShownImage, float]]


def render_summary(article: Document, result: Mapping[str, Any], remarks: Sequence[str] = ()) -> str:
    """
    The page's part about a summarized article: summary, remarks, images with the selected ones first, evidence.

    Args:
        article (`Document`): The article, whose problems are shown.
        result (`Mapping[str, Any]`): What the pipeline returned for it, evidence included.
        remarks (`Sequence[str]`, *optional*): Further remarks.
    """
    ranks = {selected["index"]: rank for rank, selected in enumerate(result["selected_images"], start=1)}
    probabilities = result["image_probabilities"]
    scores = result.get("image_scores", [None] * len(probabilities))
    images = [
        _shown(index, image, probability, ranks.get(index), score)
        for index, (image, probability, score) in enumerate(zip(article.images, probabilities, scores, strict=True))
    ]
    evidence = [ShownSentence(entry["sentence"], _strongest(entry, images)) for entry in result["evidence"]]
    return _render(
        "summary.html.j2",
        title=article.title,
        summary=result["summary_text"],
        remarks=[*map(str, article.problems), *remarks],
        images=sorted(
            images,
            key=lambda image: (image.rank or len(images) + 1, -(image.percent or image.score or 0), image.number),
        ),
        # A pipeline scores by probabilities alone.
        by_probability="image_scores" not in result or any(value is not None for value in probabilities),
        num_selected=len(ranks),
        evidence=[sentence for sentence in evidence if sentence.images],
    )


def render_writing(title: str, text: str) -> str:
    """
    The same part while the summary is written.

    Args:
        title (`str`): The article's title; may be empty.
        text (`str`): What has been written; empty while the model reads.
    """
    return _render("writing.html.j2", title=title, text=text)


def render_error(message: str) -> str:
    """A message that says why nothing was summarized."""
    return _render("error.html.j2", message=message)


def render_notice(message: str) -> str:
    """What stands in the place of the whole app."""
    return _render("notice.html.j2", message=message)


def render_welcome(limits: str) -> str:
    """What stands in the place of the first summary."""
    return _render("welcome.html.j2", limits=limits)


def render_model(model: str, notice: str = "") -> str:
    """The line that names the model, and says what it is where that needs to be said."""
    return _render("model_line.html.j2", model=model, notice=notice)


def _render(template: str, **fields: Any) -> str:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(fields)


def _shown(
    index: int, image: DocumentImage, probability: float | None, rank: int | None, score: float | None
) -> ShownImage:
    return ShownImage(
        number=index + 1,
        name=image.name,
        alt=image.alt,
        caption=image.caption,
        uri=_embedded(image.image, IMAGE_SIDE),
        thumbnail=_embedded(image.image, THUMBNAIL_SIDE),
        pixelated=max(image.image.size) <= PIXELATED_SIDE,
        percent=None if probability is None else 100 * probability,
        rank=rank,
        score=score,
    )


def _strongest(entry: Mapping[str, Any], images: Sequence[ShownImage]) -> list[tuple[ShownImage, float]]:
    weighted = [(image, weight) for image, weight in zip(images, entry["image_weights"], strict=True) if weight]
    weighted.sort(key=lambda pair: -pair[1])
    return [(image, 100 * weight) for image, weight in weighted[:STRONGEST_IMAGES]]


def _embedded(image: Image.Image, side: int) -> str:
    pixelated = max(image.size) <= PIXELATED_SIDE
    shown = image.copy()
    shown.thumbnail((side, side))
    buffer = io.BytesIO()
    shown.save(buffer, **({"format": "PNG"} if pixelated else {"format": "JPEG", "quality": 85}))
    kind = "png" if pixelated else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
