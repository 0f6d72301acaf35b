"""Records of a dataset as documents, with the images that can be read and what is written about them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..documents.parts import Document, DocumentImage
from .article_images import ReadImages, read_images


class RecordDocument(NamedTuple):
    """A `document`, and what was `read` of its record's images: which places its images have there, and the broken ones."""

    document: Document
    read: ReadImages


def document_of(record: Mapping[str, Any], *, use_images: bool = True) -> RecordDocument:
    """
    An article of a dataset as a document; a broken image is left out.

    Args:
        record (`Mapping[str, Any]`): With `id`, `title`, `article` and `images`, and `captions` and `alt_texts` as far as the
            dataset has them.
        use_images (`bool`, *optional*, defaults to `True`): False withholds the images and all that is written about them.
    """
    read = read_images(record) if use_images else ReadImages([], [], [])
    captions, alts = (record.get(name) or () for name in ("captions", "alt_texts"))
    images = [
        DocumentImage(f"image {index + 1}", _at(alts, index), image, _at(captions, index))
        for index, image in zip(read.indices, read.images, strict=True)
    ]
    return RecordDocument(Document(record["id"], record["id"], record["title"], record["article"], images), read)


def _at(texts: Any, index: int) -> str:
    return (texts[index] or "").strip() if index < len(texts) else ""
