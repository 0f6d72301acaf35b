"""The user's own documents: Markdown and HTML with local images, and plain text with images given separately."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from .html.encoding import decode_html
from .html.page import MAX_HTML_BYTES, read_html
from .local_images import ImageError, check_side, open_local_image
from .markdown import read_markdown
from .msmo_article import is_msmo_article, read_msmo_article
from .parts import Document, DocumentError, DocumentImage, Problem, printable

__all__ = [
    "DOCUMENT_SUFFIXES",
    "Document",
    "DocumentError",
    "DocumentImage",
    "Problem",
    "check_document",
    "printable",
    "read_document",
]

MARKDOWN_SUFFIXES = (".md", ".markdown")
HTML_SUFFIXES = (".html", ".htm")
TEXT_SUFFIXES = (".txt",)
DOCUMENT_SUFFIXES = MARKDOWN_SUFFIXES + HTML_SUFFIXES + TEXT_SUFFIXES
# A long novel; the parser takes up to 20 seconds for this much Markdown.
MAX_TEXT_BYTES = 1_000_000
MAX_TITLE_LENGTH = 120

_BLANK_LINES = re.compile(r"\n\s*\n")


def check_document(path: str | Path, images: Sequence[str | Path] = ()) -> None:
    """
    Checks, without reading it, that `path` can be a document.

    Raises:
        DocumentError: There is no such file, it is a folder, empty, unreadable or too large, its type is not
            supported, or `images` are given with a type of document that names its own.
    """
    path = Path(path)
    shown = printable(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        raise DocumentError(f"{shown}: this is a folder; name the documents in it.")
    if not path.is_file():
        raise DocumentError(f"{shown}: there is no such file; check the path.")
    if suffix not in DOCUMENT_SUFFIXES:
        raise DocumentError(
            f"{shown}: unsupported file type {suffix!r}; convert it to Markdown (.md), HTML (.html) or text (.txt)."
        )
    if images and suffix not in TEXT_SUFFIXES:
        syntax = "![alt](path)" if suffix in MARKDOWN_SUFFIXES else '<img src="path" alt="…">'
        raise DocumentError(
            f"{shown}: images given separately go with a .txt document; in this one, write {syntax} instead."
        )
    if not os.access(path, os.R_OK):
        raise DocumentError(f"{shown}: the file cannot be read; check its permissions.")
    size = path.stat().st_size
    if not size:
        raise DocumentError(f"{shown}: the document is empty; there is nothing to summarize.")
    if suffix in HTML_SUFFIXES and size > MAX_HTML_BYTES:
        raise DocumentError(
            f"{shown}: the page has {size:,} bytes, the limit is {MAX_HTML_BYTES:,}; save its images beside it."
        )
    if suffix not in HTML_SUFFIXES and size > MAX_TEXT_BYTES:
        raise DocumentError(
            f"{shown}: the document has {size:,} bytes, the limit is {MAX_TEXT_BYTES:,}; split it into articles."
        )


def read_document(path: str | Path, images: Sequence[str | Path] = (), *, images_by_name: bool = False) -> Document:
    """
    Reads a Markdown, HTML or text file.

    Markdown and HTML name their images; see [`~spectra_sum.documents.markdown.read_markdown`] and
    [`~spectra_sum.documents.html.page.read_html`]. A path may not leave the document's folder, also not by a symbolic link;
    remote images are not fetched. An image of less than 24 pixels a side is not the article's. Whatever is left out
    stands in `problems`.

    Text: the title is the first paragraph when it is one short line without a full stop and more text follows, else
    the file's stem. A text that opens with `@title` or `@body` is an article in the MSMO layout; its `@summary` is
    kept as the reference, and where no `images` are given, those of its copy of the dataset are read with their captions
    and alternative texts, see [`~spectra_sum.documents.msmo_article.read_msmo_article`].

    Args:
        path (`str` or `Path`):
            A file with the suffix `.md`, `.markdown`, `.html`, `.htm` or `.txt`, in UTF-8; HTML may declare another
            character set.
        images (`Sequence[str | Path]`, *optional*, defaults to `()`):
            Images of a text document. They are the user's own choice and may lie anywhere.
        images_by_name (`bool`, *optional*, defaults to `False`):
            For Markdown and HTML: look first for a file of the document's folder that has the name at the end of an
            image's address, whatever folder or host that names. Uploaded files have names only.

    Raises:
        DocumentError: As [`check_document`], and the encoding is not supported, the HTML cannot be parsed, there is no
            text, there is too much markup, or one of `images` cannot be read.
    """
    check_document(path, images)
    path = Path(path)
    shown = printable(path)
    suffix = path.suffix.lower()
    text = _read_text(path, shown)
    if suffix in MARKDOWN_SUFFIXES:
        document = read_markdown(path, text, images_by_name=images_by_name)
    elif suffix in HTML_SUFFIXES:
        document = read_html(path, text, images_by_name=images_by_name)
    else:
        document = _read_plain_text(path, text, with_images=not images)
    for image in images:
        _add_own_image(Path(image), document)
    document.id = printable(document.id)
    document.title = printable(document.title)
    document.body = "\n".join(printable(line) for line in document.body.split("\n"))
    if not document.body:
        raise DocumentError(f"{shown}: the document has no body text; there is nothing to summarize.")
    return document


def _read_text(path: Path, shown: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DocumentError(f"{shown}: the file cannot be read ({error.strerror}); check its permissions.") from None
    if path.suffix.lower() in HTML_SUFFIXES:
        text = decode_html(data, shown)
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DocumentError(
                f"{shown}: byte {error.start} is not UTF-8; save the document as UTF-8 text."
            ) from None
    if "\0" in text:
        raise DocumentError(f"{shown}: the file holds NUL characters and is no text; save the document as UTF-8 text.")
    if not text.strip():
        raise DocumentError(f"{shown}: the document is empty; there is nothing to summarize.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _add_own_image(path: Path, document: Document) -> None:
    try:
        image = open_local_image(path)
        check_side(*image.size)
    except ImageError as error:
        if error.kind != "small_image":
            raise DocumentError(f"{printable(path)}: {error}; mend the image or leave it out of --images.") from None
        document.problems.append(Problem(error.kind, f"{printable(path.name)}: {error}"))
    else:
        document.images.append(DocumentImage(printable(path.name), "", image))


def _read_plain_text(path: Path, text: str, *, with_images: bool) -> Document:
    if is_msmo_article(text):
        document = read_msmo_article(path, text, with_images=with_images)
        paragraphs = _paragraphs(document.body)
    else:
        document = Document(path.stem, printable(path), path.stem, "")
        paragraphs = _paragraphs(text)
        first = paragraphs[0].strip()
        if len(paragraphs) > 1 and "\n" not in first and len(first) <= MAX_TITLE_LENGTH and not first.endswith("."):
            document.title = first
            del paragraphs[0]
    document.body = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return document


def _paragraphs(text: str) -> list[str]:
    return [paragraph for paragraph in _BLANK_LINES.split(text) if paragraph.strip()]
