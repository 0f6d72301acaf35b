"""The two kinds of input that the similarity metrics take, read into one: unit embeddings per article."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import datasets
import numpy as np
from PIL import Image, ImageFile

from .rgb_images import DECODING_ERRORS, flat_rgb, open_rgb

if TYPE_CHECKING:
    from .dual_encoder import DualEncoder

INPUTS_DESCRIPTION = """
Args:
    predictions: Per article either the embeddings of its summary's sentences (S x D numbers), or the summary (`str`)
        with its sentences parted by newlines (blank ones are left out).
    references: Per article either the embeddings of its selected images (K x D numbers), or the images themselves (PIL
        images, or paths of JPEG, PNG, GIF, WebP, BMP or TIFF files). They are read upright, as RGB with transparency over
        white, and reduced to 1024 pixels a side. `[]`: nothing was selected. `None`: the article has no images at all; it
        is left out and counted.
    model (`str` or `PreTrainedModel`, *optional*): Only with summaries and images: folder or Hub id of a SigLIP, SigLIP 2
        or CLIP (only safetensors are read, no remote code is run), or the loaded model. Sentences longer than its text
        tower are cut and counted; those of SigLIP 2 are put into lower case, as in its training.
    processor (`ProcessorMixin`, *optional*): The model's tokenizer and image processor; needed with a loaded model, and by
        default the one saved with the model otherwise.
    device (`str`, *optional*, defaults to `"cpu"`): Where the model runs; a loaded model is moved there, too.
    batch_size (`int`, *optional*, defaults to 32): Texts or images per forward pass.
    per_example (`bool`, *optional*, defaults to `False`): Also return `per_example`: each score per article, in order;
        `None` where the article is left out of the mean.

Embeddings need not have unit length: rows are normalised. A row that is zero or not finite is an error. Cosines are taken
as they are, neither rescaled nor calibrated; their usual size differs between encoders (SigLIP's are far smaller than
CLIP's), so compare scores of the same encoder only.
"""

READABLE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")


class EmbeddedArticle(NamedTuple):
    """Unit rows, float64: `sentences` (S, D) of the summary, `images` (K, D) of the selection; None: no images at all."""

    sentences: np.ndarray
    images: np.ndarray | None


class SimilarityInputs:
    """Mixin before `evaluate.Metric`: no articles are an error that says so; PIL images and paths may be mixed."""

    def add_batch(self, *, predictions: Sequence | None = None, references: Sequence | None = None, **kwargs) -> None:
        """Add a batch of predictions and references."""
        if predictions is not None and not len(predictions):
            raise ValueError(f"{self.name}: there are no articles; there is nothing to average over.")
        if predictions is not None:
            _check_summaries(self.name, predictions)
        if predictions is not None and isinstance(predictions[0], str):
            for index, images in enumerate(references):
                if images is not None and any(image is None for image in images):
                    raise ValueError(f"{self.name}: references of article {index} hold None in place of an image.")
            # Of a list, `datasets` looks at the first item only to learn whether it has to encode the others.
            references = [
                images
                if images is None
                else [_encode_image(f"{self.name}: article {index}", image) for image in images]
                for index, images in enumerate(references)
            ]
        super().add_batch(predictions=predictions, references=references, **kwargs)


def similarity_features() -> list[datasets.Features]:
    """The alternatives of the inputs' types: embeddings, or summaries with images."""
    embeddings = datasets.List(datasets.List(datasets.Value("float64")))
    # Decoding by `datasets` would fetch whatever path looks like a URL.
    images = datasets.List(datasets.Image(decode=False))
    return [
        datasets.Features({"predictions": embeddings, "references": embeddings}),
        datasets.Features({"predictions": datasets.Value("string"), "references": images}),
    ]


def embed_articles(
    metric: str,
    predictions: Sequence[str] | Sequence[Sequence[Sequence[float]]],
    references: Sequence[Sequence[Any] | None],
    load_encoder: Callable[[], DualEncoder] | None,
    batch_size: int = 32,
) -> tuple[list[EmbeddedArticle], dict[str, int]]:
    """
    Reads the articles of a similarity metric.

    Args:
        metric (`str`): Its name, for messages.
        predictions, references: As in `INPUTS_DESCRIPTION`, images as dictionaries of path and bytes.
        load_encoder (`Callable`, *optional*): Loads the dual encoder; called after the inputs are checked.
        batch_size (`int`, *optional*, defaults to `32`): Texts or images per forward pass.

    Returns:
        `tuple`: the articles, and `{"texts_cut": how many sentences were cut}`, empty without an encoder.

    Raises:
        ValueError: A summary is missing, an embedding is unusable, an image cannot be read, or the encoder does not
            fit the inputs; it names the article.
    """
    if batch_size < 1:
        raise ValueError(f"{metric}: batch_size must be at least 1, got {batch_size}.")
    _check_summaries(metric, predictions)
    if all(images is None for images in references):
        raise ValueError(f"{metric}: no article has images; there is nothing to average over.")
    if not isinstance(predictions[0], str):
        if load_encoder is not None:
            raise ValueError(f"{metric}: `model` is for summaries and images; these are embeddings already.")
        return [
            _unit_article(f"{metric}: article {index}", sentences, images)
            for index, (sentences, images) in enumerate(zip(predictions, references, strict=True))
        ], {}
    if load_encoder is None:
        raise ValueError(
            f"{metric}: summaries and images need a dual encoder; give its folder or Hub id as `model`, or it loaded."
        )
    for index, images in enumerate(references):
        for image in images or ():
            if image["bytes"] is None and not Path(image["path"]).is_file():
                raise ValueError(f"{metric}: article {index}: {image['path']} is no file; images are read locally.")
    encoder = load_encoder()
    texts = [[line.strip() for line in summary.splitlines() if line.strip()] for summary in predictions]
    lines = [line for sentences in texts for line in sentences]
    sources = [(index, image) for index, images in enumerate(references) for image in images or ()]
    image_rows = []
    for start in range(0, len(sources), batch_size):
        # A corpus of decoded images would not fit into memory.
        opened = [
            _open_image(f"{metric}: article {index}", image) for index, image in sources[start : start + batch_size]
        ]
        image_rows.extend(encoder.embed_images(opened, batch_size))
    text_rows = iter(encoder.embed_texts(lines, batch_size))
    images_left = iter(image_rows)
    articles = [
        _unit_article(
            f"{metric}: article {index}",
            [next(text_rows) for _ in sentences],
            None if images is None else [next(images_left) for _ in images],
        )
        for index, (sentences, images) in enumerate(zip(texts, references, strict=True))
    ]
    return articles, {"texts_cut": encoder.count_cut(lines)}


def _check_summaries(metric: str, predictions: Sequence) -> None:
    for index, prediction in enumerate(predictions):
        if prediction is None:
            raise ValueError(
                f"{metric}: article {index} has no summary, predictions hold None; give an empty one if it is empty."
            )


def _unit_article(place: str, sentences: Sequence, images: Sequence | None) -> EmbeddedArticle:
    article = EmbeddedArticle(
        _unit_rows(f"{place}: sentence", sentences),
        None if images is None else _unit_rows(f"{place}: image", images),
    )
    if len(sentences) and images and article.sentences.shape[1] != article.images.shape[1]:
        raise ValueError(
            f"{place}: the sentences' embeddings have {article.sentences.shape[1]} numbers and the images' "
            f"{article.images.shape[1]}; both must come from one dual encoder."
        )
    return article


def _unit_rows(place: str, rows: Sequence[Sequence[float]]) -> np.ndarray:
    if not len(rows):
        return np.empty((0, 0))
    if any(row is None or len(row) != len(rows[0]) or not len(row) for row in rows):
        raise ValueError(f"{place} embeddings must be rows of one length.")
    matrix = np.array(rows, dtype=np.float64)
    largest = np.abs(matrix).max(axis=1, keepdims=True)
    for index, value in enumerate(largest[:, 0]):
        if not np.isfinite(value) or value == 0:
            kind = "zero" if value == 0 else "not finite"
            raise ValueError(f"{place} {index}: its embedding is {kind}, so its cosines are undefined.")
    # Without this step the squares of very large or small numbers overflow or vanish.
    matrix /= largest
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def _open_image(place: str, image: dict[str, Any]) -> Image.Image:
    source = image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])
    try:
        return open_rgb(source, READABLE_FORMATS)
    except DECODING_ERRORS as error:
        raise ValueError(f"{place}: {image['path'] or 'an image'} cannot be decoded ({error}).") from None


def _encode_image(place: str, image: Any) -> dict[str, Any]:
    """An image as `datasets` stores it. Of one that is in memory, `datasets` would lose transparency or, of JPEG, pixels."""
    if isinstance(image, Image.Image) and not (isinstance(image, ImageFile.ImageFile) and image.filename):
        try:
            image = flat_rgb(image)
        except DECODING_ERRORS as error:
            raise ValueError(f"{place}: an image cannot be decoded ({error}).") from None
    return datasets.Image().encode_example(image)
