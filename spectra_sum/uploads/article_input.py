"""What a visitor gave, checked on the server: texts and uploaded files → a document with its images."""

import re
import shutil
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from spectra_sum.documents.local_images import ImageError, check_side, open_local_image
from spectra_sum.documents.parts import Document, DocumentError, DocumentImage, Problem, printable
from spectra_sum.documents.reading import DOCUMENT_SUFFIXES, read_document

_BLANK_LINES = re.compile(r"\n\s*\n")


class TooLargeError(DocumentError):
    """Something exceeds one of the [`Limits`]. The message is one sentence that names it and the limit."""


@dataclass(frozen=True)
class Limits:
    """
    What is accepted of a visitor.

    Args:
        text_length (`int`, *optional*, defaults to `50_000`): Characters of a text, pasted or of a document.
        title_length (`int`, *optional*, defaults to `300`): Characters of a title.
        caption_length (`int`, *optional*, defaults to `5_000`): Characters of a caption or alternative text; textbooks
            have alternative texts of 4,600.
        images (`int`, *optional*, defaults to `20`): Images of an article.
        document_size (`int`, *optional*, defaults to `200_000`): Bytes of a document; a character has at most four.
        image_size (`int`, *optional*, defaults to `10_000_000`): Bytes of an image file.
    """

    text_length: int = 50_000
    title_length: int = 300
    caption_length: int = 5_000
    images: int = 20
    document_size: int = 200_000
    image_size: int = 10_000_000


def read_article(
    title: str,
    text: str,
    document: str | None,
    images: Sequence[str],
    limits: Limits | None = None,
    *,
    captions: Sequence[str] = (),
    alts: Sequence[str] = (),
    leave_out: bool = True,
) -> Document:
    """
    The article that a visitor pasted or uploaded, by the same rules as the command line's documents.

    The images that a document names are taken from the uploaded ones, by their file names alone, whatever folder or
    host the document names; they have the alternative texts and captions that it gives them. All other uploaded images
    follow them in the order of their upload. An image that cannot be used is left out, and stands in `problems`.

    Args:
        title (`str`): Title; empty for none, or for the document's own.
        text (`str`): The pasted text, or empty when a document is given.
        document (`str`, *optional*): Path of an uploaded file of one of the `DOCUMENT_SUFFIXES`.
        images (`Sequence[str]`): Paths of the uploaded images.
        limits (`Limits`, *optional*): What is accepted; `Limits()` by default.
        captions (`Sequence[str]`, *optional*): One per uploaded image, or none at all; one that is not empty takes the
            place of the document's.
        alts (`Sequence[str]`, *optional*): Alternative texts, likewise.
        leave_out (`bool`, *optional*, defaults to `True`): False: an uploaded image that cannot be used is an error.

    Raises:
        TooLargeError: One of `limits` is exceeded.
        DocumentError: There is no text, or two of them, something is of the wrong type, there are captions and not one per
            image, or, without `leave_out`, an image cannot be used.
    """
    limits = limits or Limits()
    title = printable(" ".join(title.split()))
    if len(title) > limits.title_length:
        raise TooLargeError(f"The title has {len(title):,} characters; shorten it to {limits.title_length:,}.")
    if document and text.strip():
        raise DocumentError("There is a pasted text and a document; remove one of them.")
    if len(images) > limits.images:
        raise TooLargeError(f"There are {len(images)} images; leave at most {limits.images}.")
    captions = _described("caption", captions, len(images), limits)
    alts = _described("alternative text", alts, len(images), limits)
    opened = _open_images([Path(image) for image in images], limits, leave_out=leave_out)
    usable = [(file, replace(image, alt=alts[place], caption=captions[place])) for place, file, image in opened.usable]
    refused = opened.refused
    if document:
        article = _read_upload(Path(document), usable, refused, limits)
        article.title = title or article.title
    else:
        paragraphs = [" ".join(paragraph.split()) for paragraph in _BLANK_LINES.split(text)]
        body = "\n\n".join(printable(paragraph) for paragraph in paragraphs if paragraph)
        article = Document("pasted", "pasted text", title, body)
        if not article.body:
            raise DocumentError("There is no text; paste an article or upload a document.")
    if len(article.body) > limits.text_length:
        raise TooLargeError(f"The text has {len(article.body):,} characters; shorten it to {limits.text_length:,}.")

    article.problems += refused.values()
    if len(article.images) > limits.images:
        raise TooLargeError(f"The document shows {len(article.images)} images; leave at most {limits.images}.")
    placed = {_pixels(image) for image in article.images}
    article.images = [_with_own_texts(image, usable) for image in article.images]
    article.images += [image for _, image in usable if _pixels(image) not in placed]
    if len(article.images) > limits.images:
        raise TooLargeError(f"The article has {len(article.images)} images; leave at most {limits.images}.")
    return article


def _described(what: str, texts: Sequence[str], count: int, limits: Limits) -> list[str]:
    """The images' texts on one line each."""
    if texts and len(texts) != count:
        raise DocumentError(
            f"There are {count} images, but {len(texts)} of the field {what}; give one per image, or none."
        )
    shown = [printable(" ".join(text.split())) for text in texts] or [""] * count
    for number, text in enumerate(shown, start=1):
        if len(text) > limits.caption_length:
            raise TooLargeError(
                f"The {what} of image {number} has {len(text):,} characters; shorten it to {limits.caption_length:,}."
            )
    return shown


def _with_own_texts(image: DocumentImage, uploads: Sequence[tuple[str, DocumentImage]]) -> DocumentImage:
    """The document's image with the texts that were uploaded with it."""
    own = next((upload for _, upload in uploads if _pixels(upload) == _pixels(image)), image)
    return replace(image, alt=own.alt or image.alt, caption=own.caption or image.caption)


def _read_upload(
    path: Path, images: Sequence[tuple[str, DocumentImage]], refused: Mapping[str, Problem], limits: Limits
) -> Document:
    name = printable(path.name)
    if path.suffix.lower() not in DOCUMENT_SUFFIXES:
        raise DocumentError(f"{name}: this is no document of the types {', '.join(DOCUMENT_SUFFIXES)}.")
    size = path.stat().st_size
    if size > limits.document_size:
        raise TooLargeError(
            f"{name}: the document has {_megabytes(size)}; the limit is {_megabytes(limits.document_size)}."
        )
    with tempfile.TemporaryDirectory() as folder:
        # Nothing but the visitor's own files lies in the folder that the document's paths are held to.
        copy = Path(shutil.copy(path, folder))
        for file, image in images:
            place = copy.with_name(file)
            if not place.exists():
                # As it will be used: a document that shows it many times then has small files to decode.
                image.image.save(place, "BMP")
        try:
            article = read_document(copy, images_by_name=True)
        except DocumentError as error:
            raise DocumentError(str(error).replace(f"{folder}/", "")) from None
    article.source = name
    article.problems = [
        Problem(problem.kind, f"{problem.detail}; upload it") if problem.kind == "missing_image" else problem
        for problem in article.problems
        # An upload that cannot be used is no missing file; it has a problem of its own.
        if not (problem.kind == "missing_image" and _file_name(problem) in refused)
    ]
    return article


class _OpenedImages(NamedTuple):
    """The usable ones of the uploaded images, each with its place among them and its file's name, and what is wrong with
    the others, by their shown names in Unicode's form NFC."""

    usable: list[tuple[int, str, DocumentImage]]
    refused: dict[str, Problem]


def _file_name(problem: Problem) -> str:
    """Of the image that a document names by an address; a problem shows addresses without percent-encoding."""
    address = problem.detail.partition(": ")[0]
    return unicodedata.normalize("NFC", re.split(r"[/\\]", re.split("[?#]", address)[0])[-1])


def _open_images(paths: Sequence[Path], limits: Limits, *, leave_out: bool) -> _OpenedImages:
    opened = _OpenedImages([], {})
    for place, path in enumerate(paths):
        name = printable(path.name)
        size = path.stat().st_size
        try:
            if size > limits.image_size:
                raise ImageError(
                    "oversized_image", f"it has {_megabytes(size)}; the limit is {_megabytes(limits.image_size)}"
                )
            image = open_local_image(path)
            check_side(*image.size)
        except ImageError as error:
            if not leave_out:
                kind = TooLargeError if error.kind == "oversized_image" else DocumentError
                raise kind(f"Image {place + 1}, {name}: {error}.") from None
            opened.refused[unicodedata.normalize("NFC", name)] = Problem(error.kind, f"{name}: {error}")
        else:
            opened.usable.append((place, path.name, DocumentImage(name, "", image)))
    return opened


def _pixels(image: DocumentImage) -> tuple[tuple[int, int], bytes]:
    return image.image.size, image.image.tobytes()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
