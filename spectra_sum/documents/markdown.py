"""Markdown documents with local images."""

import re
import tomllib
from pathlib import Path

import yaml
from bs4 import BeautifulSoup
from markdown_it.token import Token

from .html.article import MEDIA, ArticleReader
from .html.page import counted
from .html.tree import NO_TEXT, parsed
from .linked_files import LinkedFiles
from .linked_images import LinkedImages
from .markdown_syntax import markdown_parser
from .parts import Document, DocumentError, Problem, printable

# Each may open a link, for which the parser looks again at all that follows, up to its nesting.
MAX_BRACKETS = 10_000
# The parsers of front matter take quadratic time.
MAX_FRONT_MATTER_LENGTH = 20_000

_TOML = re.compile(r"\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*$", re.DOTALL | re.MULTILINE)
# One that is left open takes in what follows it.
_TAKES_IN = re.compile(rf"<({'|'.join(sorted(MEDIA | NO_TEXT))})\b", re.IGNORECASE)


def read_markdown(path: Path, text: str, *, images_by_name: bool = False) -> Document:
    """
    Reads CommonMark with tables, strikethrough, footnotes, and front matter in YAML (between lines `---`) or TOML
    (`+++`).

    The title is the first level-1 heading, else the front matter's `title`, else the first heading, else the file's
    stem. Table rows become paragraphs, their cells parted by `|`. Footnotes stand once, at the end. Attributes in
    braces (`{width=50%}`) and marks for a table of contents (`[TOC]`) are no text. HTML is read as in a page, without
    its rule for furniture.

    Images are those of the Markdown syntax, also with spaces in the path, `![[file.png]]`, `![[file.png|300]]`, and
    `<img>`. The caption is the `<figcaption>`, else an italic line right below the image, else the image's title.

    Args:
        path (`Path`):
            The file, whose folder holds the images.
        text (`str`):
            What it says.
        images_by_name (`bool`, *optional*, defaults to `False`):
            Look first for a file of the folder with the name at the end of an image's address.

    Raises:
        DocumentError: The text has more than `MAX_BRACKETS` opening brackets, is nested too deeply, or makes more tags
            than a page may have.
    """
    if text.count("[") > MAX_BRACKETS:
        raise DocumentError(
            f"{printable(path)}: the document has more than {MAX_BRACKETS:,} opening brackets; save the article alone."
        )
    document = Document(path.stem, printable(path), "", "")
    front_matter_title = ""
    toml = _TOML.match(text)
    if toml:
        front_matter_title = _front_matter_title(toml[1], "TOML", document.problems)
        text = text[toml.end() :]
    parser, env = markdown_parser(), {}
    try:
        tokens = parser.parse(text, env)
    except RecursionError:  # a footnote within a footnote, and so on
        raise DocumentError(f"{printable(path)}: its footnotes are nested too deeply; take some out.") from None
    for token in tokens:
        if token.type == "front_matter":
            front_matter_title = _front_matter_title(token.content, "YAML", document.problems)
        elif token.type == "html_block":
            _close_what_takes_in(token, path)

    page = parsed(path, parser.renderer.render(tokens, parser.options, env))
    if not front_matter_title:
        _mark_headline(page)
    images = LinkedImages(LinkedFiles(path.parent.resolve(), by_name=images_by_name))
    reader = ArticleReader(document, images, title_captions=True)
    reader.read(page)
    if reader.left_out.total():
        document.problems.append(Problem("raw_html", f"HTML in the document, not read: {counted(reader.left_out)}"))
    document.title = document.title or front_matter_title or path.stem
    return document


def _front_matter_title(content: str, kind: str, problems: list[Problem]) -> str:
    if len(content) > MAX_FRONT_MATTER_LENGTH:
        problem = f"it has more than {MAX_FRONT_MATTER_LENGTH:,} characters; its title is not used"
        problems.append(Problem("front_matter", problem))
        return ""
    try:
        # The base loader makes strings only: no tags, no dates that fail.
        values = tomllib.loads(content) if kind == "TOML" else yaml.load(content, Loader=yaml.BaseLoader)
    except (tomllib.TOMLDecodeError, yaml.YAMLError, RecursionError) as error:
        problems.append(Problem("front_matter", f"no valid {kind} ({type(error).__name__}); its title is not used"))
        return ""
    title = values.get("title") if isinstance(values, dict) else None
    return " ".join(title.split()) if isinstance(title, str) else ""


def _close_what_takes_in(block: Token, path: Path) -> None:
    if _TAKES_IN.search(block.content):
        block.content = str(parsed(path, block.content))


def _mark_headline(page: BeautifulSoup) -> None:
    """Makes the first heading the headline where there is none of level 1."""
    headings = [tag for tag in page.find_all(["h1", "h2", "h3", "h4", "h5", "h6"]) if tag.get_text().strip()]
    if headings and not any(tag.name == "h1" for tag in headings):
        headings[0].name = "h1"
