"""The user's own documents: Markdown with local images, and plain text with images given separately."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.front_matter import front_matter_plugin
from PIL import Image

from .local_images import ImageError, open_local_image
from .msmo.layout import parse_article

MARKDOWN_SUFFIXES = (".md", ".markdown")
TEXT_SUFFIXES = (".txt",)
MAX_TITLE_LENGTH = 120

_BLANK_LINES = re.compile(r"\n\s*\n")
_MSMO_OPENING = re.compile(r"\s*@(?:title|body)\s")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_HTML_IMAGE = re.compile(r"<(?:img|picture|svg)\b", re.IGNORECASE)
_HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


class DocumentError(ValueError):
    """A document that cannot be read at all. The message names the file and the fix."""


@dataclass(frozen=True)
class Problem:
    """
    Something of a document that was left out, or another remark on it.

    Attributes:
        kind (`str`): `"remote_image"` (not fetched), `"outside_folder"`, `"missing_image"`, `"broken_image"`,
            `"oversized_image"`, `"unsupported_image"` (`data:` and other schemes, raw HTML), `"raw_html"` (text in
            HTML blocks, not read) or `"front_matter"` (no valid YAML); the summarizer adds its own.
        detail (`str`): What it was, and why, in words.
    """

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')}: {self.detail}"


@dataclass(frozen=True)
class DocumentImage:
    """An image of a document: its `name` as the document writes it, its alt text, and the decoded RGB `image`."""

    name: str
    alt: str
    image: Image.Image


@dataclass
class Document:
    """
    A document.

    Attributes:
        id (`str`): The file's stem.
        source (`str`): The file's path.
        title (`str`), body (`str`): The text; the body's paragraphs are parted by an empty line.
        images (`list[DocumentImage]`): In the document's order.
        problems (`list[Problem]`): What was left out.
        reference (`str`, *optional*): The summary that an article in the MSMO layout brings along.
    """

    id: str
    source: str
    title: str
    body: str
    images: list[DocumentImage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    reference: str | None = None


def read_document(path: str | Path, images: Sequence[str | Path] = ()) -> Document:
    """
    Reads a Markdown or text file.

    Markdown: the title is the first level-1 heading, else the front matter's `title`, else the first heading, else the
    file's stem. Images are the local ones of the Markdown syntax, in order, with their alt text. A path may not leave
    the document's folder, also not by a symbolic link; remote images are not fetched. Whatever is left out stands in
    `problems`.

    Text: the title is the first paragraph when it is one short line without a full stop and more text follows, else
    the file's stem. A text that opens with `@title` or `@body` is an article in the MSMO layout; its `@summary` is
    kept as the reference.

    Args:
        path (`str` or `Path`):
            A UTF-8 file with the suffix `.md`, `.markdown` or `.txt`.
        images (`Sequence[str | Path]`, *optional*, defaults to `()`):
            Images of a text document. They are the user's own choice and may lie anywhere.

    Raises:
        DocumentError: There is no such file, it is a folder, its type or encoding is not supported, it has no text, or
            one of `images` cannot be read.
    """
    path = Path(path)
    shown = printable(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        raise DocumentError(f"{shown}: this is a folder; name the .md or .txt files in it.")
    if not path.is_file():
        raise DocumentError(f"{shown}: there is no such file; check the path.")
    if suffix not in MARKDOWN_SUFFIXES + TEXT_SUFFIXES:
        raise DocumentError(f"{shown}: unsupported file type {suffix!r}; convert it to Markdown (.md) or text (.txt).")
    if images and suffix not in TEXT_SUFFIXES:
        raise DocumentError(
            f"{shown}: images given separately go with a .txt document; in Markdown, write ![alt](path)."
        )

    text = _read_text(path, shown)
    document = _read_markdown(path, text) if suffix in MARKDOWN_SUFFIXES else _read_plain_text(path, text)
    document.images += [_own_image(Path(image)) for image in images]
    document.id = printable(document.id)
    document.title = printable(document.title)
    document.body = "\n".join(printable(line) for line in document.body.split("\n"))
    if not document.body:
        raise DocumentError(f"{shown}: the document has no body text; there is nothing to summarize.")
    return document


def printable(text: str | Path) -> str:
    """The text on one line, safe in a terminal, JSON and HTML: control characters, direction overrides and lone
    surrogates (undecodable bytes of a file name) become U+FFFD, a tab becomes a space."""
    return _UNPRINTABLE.sub("\ufffd", str(text).replace("\t", " "))


def _read_text(path: Path, shown: str) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{shown}: byte {error.start} is not UTF-8; save the document as UTF-8 text.") from None
    except OSError as error:
        raise DocumentError(f"{shown}: the file cannot be read ({error.strerror}); check its permissions.") from None
    if "\0" in text:
        raise DocumentError(f"{shown}: the file holds NUL characters and is no text; save the document as UTF-8 text.")
    if not text.strip():
        raise DocumentError(f"{shown}: the document is empty; there is nothing to summarize.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _own_image(path: Path) -> DocumentImage:
    try:
        return DocumentImage(printable(path.name), "", open_local_image(path))
    except ImageError as error:
        raise DocumentError(f"{printable(path)}: {error}; mend the image or leave it out of --images.") from None


def _read_plain_text(path: Path, text: str) -> Document:
    document = Document(path.stem, printable(path), path.stem, "")
    if _MSMO_OPENING.match(text):
        article = parse_article(text)
        document.title = article.title or path.stem
        document.reference = "\n".join(map(printable, article.summary)) or None
        paragraphs = _paragraphs(article.body)
    else:
        paragraphs = _paragraphs(text)
        first = paragraphs[0].strip()
        if len(paragraphs) > 1 and "\n" not in first and len(first) <= MAX_TITLE_LENGTH and not first.endswith("."):
            document.title = first
            del paragraphs[0]
    document.body = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return document


def _paragraphs(text: str) -> list[str]:
    return [paragraph for paragraph in _BLANK_LINES.split(text) if paragraph.strip()]


def _read_markdown(path: Path, text: str) -> Document:
    parser = MarkdownIt("commonmark", {"maxNesting": 100}).enable(["table", "strikethrough"]).use(front_matter_plugin)
    # Nothing is rendered, and a link that the parser rejects (file:, data:) would stay in the body as source text.
    parser.validateLink = lambda url: True
    document = Document(path.stem, printable(path), "", "")
    folder = path.parent.resolve()

    front_matter_title = ""
    headings: list[tuple[int, str, int]] = []  # level, text, index of the paragraph
    paragraphs: list[str] = []
    level = 0
    for token in parser.parse(text):
        if token.type == "front_matter":
            front_matter_title = _front_matter_title(token.content, document.problems)
        elif token.type == "heading_open":
            level = int(token.tag[1:])
        elif token.type == "inline":
            content = " ".join(_inline_text(token.children or [], folder, document).split())
            if level and content:
                headings.append((level, content, len(paragraphs)))
            level = 0
            paragraphs.append(content)
        elif token.type in ("fence", "code_block"):
            paragraphs.append(token.content.strip())
        elif token.type == "html_block":
            _note_html(token.content, document.problems)

    main_headings = [heading for heading in headings if heading[0] == 1]
    if main_headings or (headings and not front_matter_title):
        _, document.title, index = (main_headings or headings)[0]
        paragraphs[index] = ""
    else:
        document.title = front_matter_title or path.stem
    document.body = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return document


def _front_matter_title(content: str, problems: list[Problem]) -> str:
    try:
        # The base loader makes strings only: no tags, no dates that fail.
        values = yaml.load(content, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        problems.append(Problem("front_matter", f"no valid YAML ({type(error).__name__}); its title is not used"))
        return ""
    title = values.get("title") if isinstance(values, dict) else None
    return " ".join(title.split()) if isinstance(title, str) else ""


def _inline_text(tokens: Sequence[Token], folder: Path, document: Document) -> str:
    pieces = []
    for token in tokens:
        if token.type == "image":
            _add_image(str(token.attrs["src"]), _alt_text(token.children or []), folder, document)
        elif token.type in ("softbreak", "hardbreak"):
            pieces.append(" ")
        elif token.type == "html_inline":
            _note_html(token.content, document.problems)
        else:
            pieces.append(token.content)
    return "".join(pieces)


def _alt_text(tokens: Sequence[Token]) -> str:
    pieces = []
    for token in tokens:
        if token.type == "image":
            pieces.append(_alt_text(token.children or []))
        else:
            pieces.append(" " if token.type in ("softbreak", "hardbreak") else token.content)
    return " ".join("".join(pieces).split())


def _note_html(content: str, problems: list[Problem]) -> None:
    content = _HTML_COMMENT.sub("", content)
    for _ in _HTML_IMAGE.findall(content):
        problems.append(Problem("unsupported_image", "an image in raw HTML; write it as ![alt](path)"))
    text = " ".join(re.sub(r"<[^>]*>", " ", content).split())
    if text:
        problems.append(Problem("raw_html", f"text in an HTML block is not read: {_shortened(printable(text))}"))


def _add_image(source: str, alt: str, folder: Path, document: Document) -> None:
    """Opens the image that a Markdown `source` (a URL, percent-encoded) names, or records why not."""
    shown = _shortened(printable(unquote(source)))

    def problem(kind: str, reason: str) -> None:
        document.problems.append(Problem(kind, f"{shown}: {reason}"))

    try:
        url = urlsplit(source)
    except ValueError:
        return problem("unsupported_image", "this is no valid path")
    if url.scheme in ("http", "https") or url.netloc:
        return problem("remote_image", "remote images are not fetched; save it beside the document")
    if url.scheme:
        return problem("unsupported_image", f"{url.scheme}: addresses are not read; save it beside the document")
    if not url.path:
        return problem("missing_image", "the image has no path")
    try:
        # realpath follows every symbolic link on the way; an absolute path replaces the folder.
        path = Path(os.path.realpath(folder / unquote(url.path)))
        if not path.is_relative_to(folder):
            return problem("outside_folder", "images outside the document's folder are not read; copy it there")
        image = open_local_image(path)
    except ImageError as error:
        return problem(error.kind, str(error))
    except (OSError, ValueError) as error:  # a name too long, a NUL byte
        return problem("missing_image", f"this is no usable file name ({error})")
    document.images.append(DocumentImage(shown, printable(alt), image))


def _shortened(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
