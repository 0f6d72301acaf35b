"""What is written about the images of a record: for each image its caption, or else its alternative text."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from modeling_spectra import SpectraSumProcessor

from ..errors import SpectraSumError
from .article_images import ReadImages

COLUMNS = ("captions", "alt_texts")


def image_texts(record: Mapping[str, Any], indices: Sequence[int] | None = None) -> list[str]:
    """
    The texts of an article's images, empty where there is neither caption nor alternative text.

    Args:
        record (`Mapping[str, Any]`): With `id`, and `captions` and `alt_texts` as far as the dataset has them.
        indices (`Sequence[int]`, *optional*): Places of images in the article; all by default.

    Returns:
        `list[str]`: One per image; an empty list where the article has no texts.

    Raises:
        SpectraSumError: There are not as many texts as images.
    """
    columns = [list(record[name]) for name in COLUMNS if record.get(name)]
    counts = [len(texts) for texts in columns]
    counts += [len(record["images"])] if record.get("images") is not None and columns else []
    if len(set(counts)) > 1:
        shown = ", ".join(f"{len(record[name] or ())} {name}" for name in ("images", *COLUMNS) if name in record)
        raise SpectraSumError(
            f"article {record['id']} has {shown}: give one text per image, empty where there is none."
        )
    texts = [next((text for text in row if text and text.strip()), "") for row in zip(*columns, strict=True)]
    return texts if indices is None or not texts else [texts[index] for index in indices]


def captions_for(
    processor: SpectraSumProcessor, records: Sequence[Mapping[str, Any]], read: Sequence[ReadImages] | None
) -> list[list[str]] | None:
    """
    What a processor is given as `captions`; None where it reads none.

    Args:
        processor (`SpectraSumProcessor`): The model's own.
        records (`Sequence[Mapping[str, Any]]`): The articles.
        read (`Sequence[ReadImages]`, *optional*): Their images that the processor is given, of which alone there are texts;
            without them, where images are withheld, the texts of all.
    """
    if not processor.reads_captions:
        return None
    places = [None] * len(records) if read is None else [article.indices for article in read]
    return [image_texts(record, indices) for record, indices in zip(records, places, strict=True)]


def texts_digest(records: Dataset) -> str:
    """SHA-256 of the texts of all articles, which are no part of [`articles_digest`]: most systems read none."""
    rows = records.select_columns(["id", *(name for name in COLUMNS if name in records.column_names)])
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(image_texts(row), ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
