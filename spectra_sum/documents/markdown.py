"""Markdown documents with local images."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.front_matter import front_matter_plugin

from .local_images import ImageError
from .parts import Document, DocumentError, DocumentImage, LinkedImages, Problem, printable, shortened, shown_address

# Each may open a link, for which the parser looks again at all that follows, up to its nesting.
MAX_BRACKETS = 10_000

_HTML_IMAGE = re.compile(r"<(?:img|picture|svg)\b", re.IGNORECASE)
_HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_HTML_TAG = re.compile(r"<[^>]*>")


def read_markdown(path: Path, text: str) -> Document:
    """
    Reads CommonMark with tables, strikethrough and front matter.

    The title is the first level-1 heading, else the front matter's `title`, else the first heading, else the file's
    stem. Images are those of the Markdown syntax.

    Args:
        path (`Path`):
            The file, whose folder holds the images.
        text (`str`):
            What it says.

    Raises:
        DocumentError: The text has more than `MAX_BRACKETS` opening brackets.
    """
    if text.count("[") > MAX_BRACKETS:
        raise DocumentError(
            f"{printable(path)}: the document has more than {MAX_BRACKETS:,} opening brackets; save the article alone."
        )
    parser = MarkdownIt("commonmark", {"maxNesting": 100}).enable(["table", "strikethrough"]).use(front_matter_plugin)
    # Nothing is rendered, and a link that the parser rejects (file:, data:) would stay in the body as source text.
    parser.validateLink = lambda url: True
    document = Document(path.stem, printable(path), "", "")
    images = LinkedImages(path.parent.resolve(), document)

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
            content = " ".join(_inline_text(token.children or [], images, document).split())
            if level and content:
                headings.append((level, content, len(paragraphs)))
            level = 0
            paragraphs.append(content)
        elif token.type in ("fence", "code_block"):
            paragraphs.append(token.content.strip())
        elif token.type == "html_block":
            _note_html(token.content, document.problems)
    images.report_refused()

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


def _inline_text(tokens: Sequence[Token], images: LinkedImages, document: Document) -> str:
    pieces = []
    for token in tokens:
        if token.type == "image":
            _add_image(str(token.attrs["src"]), _alt_text(token.children or []), images, document)
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
    content = _without(_HTML_COMMENT, "-->", content)
    for _ in _HTML_IMAGE.findall(content):
        problems.append(Problem("unsupported_image", "an image in raw HTML; write it as ![alt](path)"))
    text = " ".join(_without(_HTML_TAG, ">", content).split())
    if text:
        problems.append(Problem("raw_html", f"text in an HTML block is not read: {shortened(printable(text))}"))


def _without(markup: re.Pattern[str], end: str, content: str) -> str:
    # After the last end mark, the search would run to the end of the file from each opening.
    head, mark, tail = content.rpartition(end)
    return markup.sub(" ", head + mark) + tail


def _add_image(source: str, alt: str, images: LinkedImages, document: Document) -> None:
    if not images.has_room():
        return
    try:
        image = images.open(source)
    except ImageError as error:
        document.problems.append(Problem(error.kind, f"{shown_address(source)}: {error}"))
    else:
        document.images.append(DocumentImage(shown_address(source), printable(alt), image))
