"""The article within a parsed page: its title, paragraphs and images."""

import re
from collections import Counter

from bs4 import NavigableString, Tag
from bs4.element import PageElement

from ..linked_images import LinkedImages
from ..parts import Document, printable
from .addresses import image_addresses, shown_size
from .furniture import PageFurniture, is_furniture_line, is_hidden, is_spoken
from .tree import NO_TEXT, TEXT, contents, outermost

# Longer ones are read as text.
MAX_CAPTION_LENGTH = 2000
_MAX_CAPTION_NODES = 200
MAX_HEADLINE_LENGTH = 500

MEDIA = frozenset("applet audio canvas embed frame iframe map math object svg video".split())
_IMAGES = ("img", "amp-img")
_PARAGRAPHS = frozenset(
    "address article aside blockquote body caption center dd details dir div dl dt fieldset figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 header hgroup hr legend li main menu ol p pre search section summary table tbody tfoot "
    "thead tr ul".split()
)
_LISTED = frozenset("h2 h3 h4 h5 h6 li dt dd tr pre".split())
_WITHIN_WORDS = frozenset("a abbr b cite code del em i ins mark q s small strong sub sup u".split())
_SPACE = NavigableString(" ")
_BLANK_LINES = re.compile(r"\n\s*\n")


class ArticleReader:
    """
    Adds the title, the body, the images and their problems to a document, in one pass.

    Args:
        document (`Document`): Receives them; a title that it has stays.
        images (`LinkedImages`): Opens the images.
        base (`str`, *optional*, defaults to `""`): The page's `<base href>`.
        furniture (`PageFurniture`, *optional*): Tells what is not read; without it all is that a browser shows.
        title_captions (`bool`, *optional*, defaults to `False`): The `title` of an `<img>` is its caption where it has
            no other.

    Attributes:
        left_out (`Counter[str]`): Images, media and words of elements that were not read.
        furniture_lines (`list[str]`): What was not read as the article's text.
    """

    def __init__(
        self,
        document: Document,
        images: LinkedImages,
        base: str = "",
        furniture: PageFurniture | None = None,
        *,
        title_captions: bool = False,
    ):
        self.document = document
        self.left_out: Counter[str] = Counter()
        self.furniture_lines: list[str] = []
        self._images = images
        self._base = base
        self._furniture = furniture
        self._title_captions = title_captions
        self._pieces: list[str] = []
        # Characters of the paragraph within links, and whether it has cells of a table.
        self._linked = 0
        self._cells = False
        # Each paragraph with the id of the caption that it is of, or 0.
        self._paragraphs: list[tuple[str, int]] = []
        # The texts of the captions that were read, and of those that an image was given, by their ids.
        self._caption_texts: dict[int, str] = {}
        self._given_captions: dict[int, str] = {}
        # What the reader is within, from the outside to the inside.
        self._captions = [0]
        self._figures: list[Tag | None] = [None]
        self._sources: list[list[Tag]] = [[]]
        self._listed = 0
        self._links = 0
        self._preformatted = 0
        self._without_script = 0
        self._headline: Tag | None = None
        self._headline_start = 0

    def read(self, root: Tag) -> None:
        """Reads all of a tag."""
        # A stack of our own: pages may be nested deeper than Python recurses. False stands for the end of a tag.
        stack: list[tuple[PageElement, bool]] = [(root, True)]
        while stack:
            node, opens = stack.pop()
            if not isinstance(node, Tag):
                if type(node) in TEXT:
                    self._add_text(node)
            elif not opens:
                self._close(node)
            elif node is root or self._is_read(node):
                self._open(node)
                stack.append((node, False))
                stack.extend((child, True) for child in reversed(list(contents(node))))
        self._end_paragraph()
        shown = self._images.finish(self.document)
        used = {caption for caption, text in self._given_captions.items() if printable(text) in shown}
        self.document.body = "\n\n".join(text for text, of in self._paragraphs if of not in used)

    def _is_read(self, tag: Tag) -> bool:
        if tag.name in NO_TEXT:
            return False
        if tag.name in MEDIA:
            self.left_out[tag.name] += 1
            return False
        if is_hidden(tag) or (self._furniture and self._furniture.holds(tag)):
            self.left_out["words"] += len(tag.get_text(" ").split())
        elif self._furniture and self._furniture.names(tag):
            line = " ".join(tag.get_text(" ").split())
            if line:
                self.furniture_lines.append(line)
        else:
            return True
        self.left_out["img"] += len(tag.find_all(_IMAGES)) + (tag.name in _IMAGES)
        return False

    def _add_text(self, text: NavigableString) -> None:
        if self._without_script:
            self.left_out["words"] += len(text.split())
            return
        self._pieces.append(str(text) if self._preformatted else re.sub(r"\s+", " ", text))
        if self._links:
            self._linked += len("".join(text.split()))

    def _open(self, tag: Tag) -> None:
        if tag.name == "figure":
            inner = outermost(tag, ("figure", "figcaption"))
            self._figures.append(next((found for found in inner if found.name == "figcaption"), None))
        elif tag.name == "picture":
            self._sources.append(list(outermost(tag, ("picture", "source"))))
        elif tag.name in _IMAGES:
            self._add_image(tag)
        elif tag.name == "noscript":
            self._without_script += 1
        if self._without_script:
            return
        if tag.name in _PARAGRAPHS:
            self._end_paragraph()
        self._listed += tag.name in _LISTED
        self._links += _is_link(tag)
        if tag.name == "pre":
            self._preformatted += 1
        elif tag.name == "figcaption":
            self._captions.append(id(tag))
        elif tag.name == "h1" and not self.document.title and self._headline is None:
            self._headline, self._headline_start = tag, len(self._paragraphs)
        elif tag.name == "br":
            self._pieces.append("\n")
        elif tag.name in ("td", "th") and "".join(self._pieces).strip():
            self._pieces.append(" | ")
            self._cells = True

    def _close(self, tag: Tag) -> None:
        if tag.name == "figure":
            self._figures.pop()
        elif tag.name == "picture":
            # Browsers show nothing of a picture without an <img>.
            self.left_out["picture"] += any(source.name == "source" for source in self._sources.pop())
        elif tag.name == "noscript":
            self._without_script -= 1
        if self._without_script:
            return
        if tag.name in _PARAGRAPHS:
            self._end_paragraph()
        self._listed -= tag.name in _LISTED
        self._links -= _is_link(tag)
        if tag.name == "pre":
            self._preformatted -= 1
        elif tag.name == "figcaption":
            self._captions.pop()
        elif tag is self._headline:
            self._headline = None
            title = " ".join(" ".join(text for text, _ in self._paragraphs[self._headline_start :]).split())
            # An <h1> that is never closed holds the article.
            if len(title) <= MAX_HEADLINE_LENGTH:
                self.document.title = title
                del self._paragraphs[self._headline_start :]

    def _end_paragraph(self) -> None:
        text, linked, cells = "".join(self._pieces), self._linked, self._cells
        self._pieces, self._linked, self._cells = [], 0, False
        if self._preformatted:
            paragraphs = [text.strip()]
        else:
            paragraphs = [" ".join(paragraph.split()) for paragraph in _BLANK_LINES.split(text)]
        for paragraph in filter(None, paragraphs):
            # A headline that is all link leads to its own page.
            if self._furniture and self._captions[-1] == 0 and self._headline is None and not cells:
                all_linked = linked >= len("".join(text.split()))
                if is_furniture_line(paragraph, linked=all_linked, in_list=self._listed > 0):
                    self.furniture_lines.append(paragraph)
                    continue
            self._paragraphs.append((paragraph, self._captions[-1]))

    def _add_image(self, tag: Tag) -> None:
        sources, self._sources[-1] = self._sources[-1], []
        caption = self._figures[-1]
        if id(caption) not in self._caption_texts:
            self._caption_texts[id(caption)] = _caption_text(caption)
        text = self._caption_texts[id(caption)]
        if text:
            self._given_captions[id(caption)] = text
        elif self._title_captions:
            text = " ".join(str(tag.get("title", "")).split())
        alt = " ".join(str(tag.get("alt", "")).split())
        self._images.add(image_addresses(tag, sources, self._base), alt, text, shown_size(tag))


def _is_link(tag: Tag) -> bool:
    # Headings link to themselves.
    return tag.name == "a" and not re.match("#.", str(tag.get("href", "")))


def _caption_text(caption: Tag | None) -> str:
    """The caption on one line; empty if there is none, or one too long for a caption."""
    texts: list[str] = []
    stack: list[PageElement] = [caption] if caption else []
    visited = length = 0
    # Tag.descendants would first go down to the last of them.
    while stack:
        node = stack.pop()
        visited += 1
        if type(node) in TEXT:
            texts.append(node)
            length += len(node)
        elif isinstance(node, Tag) and not is_spoken(node):
            # Beside other elements words are apart, as those of a caption and of its credit.
            if node.name in _WITHIN_WORDS:
                stack += reversed(node.contents)
            else:
                stack.append(_SPACE)
                stack += reversed(node.contents)
                stack.append(_SPACE)
        if visited > _MAX_CAPTION_NODES or length > MAX_CAPTION_LENGTH:
            return ""
    return " ".join("".join(texts).split())
