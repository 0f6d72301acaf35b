"""HTML pages, such as saved news articles, with local images."""

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import dropwhile
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from bs4 import BeautifulSoup, CData, NavigableString, ParserRejectedMarkup, Tag, UnusualUsageWarning
from bs4.element import PageElement

from .html_addresses import address_rank, image_addresses
from .local_images import ImageError
from .parts import Document, DocumentError, DocumentImage, LinkedImages, Problem, printable, shortened, shown_address

# Pages that hold their images as data: URIs are this large; the rest of a page is rarely a hundredth of it.
MAX_HTML_BYTES = 64_000_000
MAX_TAGS = 200_000
MAX_BASE_LENGTH = 4096
# Longer ones are read as text.
MAX_CAPTION_LENGTH = 2000
_MAX_CAPTION_NODES = 500
MAX_HEADLINE_LENGTH = 500
# A srcset has a dozen.
_MAX_ADDRESSES = 100
# The smaller ones are spacers and placeholders of scripts that load the image itself later.
MIN_DATA_IMAGE_SIDE = 8

_TEXT = (NavigableString, CData)
_PARAGRAPHS = frozenset(
    "address article aside blockquote body caption center dd details dir div dl dt fieldset figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 header hgroup hr legend li main menu ol p pre search section summary table tbody tfoot "
    "thead tr ul".split()
)
_NO_TEXT = frozenset("link meta script style template title".split())
# The first other tag begins the body: </head> and <body> may be left out.
_HEAD = frozenset("base basefont bgsound link meta noframes noscript script style template title".split())
_FURNITURE = frozenset("aside button datalist dialog footer input nav option rp rt select textarea".split())
_MEDIA = frozenset("applet audio canvas embed frame iframe map math object svg video".split())
# Around the article they are the site's; around the headline they are the article's own.
_FURNITURE_WITHOUT_HEADLINE = frozenset(("form", "header"))
_HIDING_STYLE = re.compile(r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_BLANK_LINES = re.compile(r"\n\s*\n")


def read_html(path: Path, text: str) -> Document:
    """
    Reads the article of an HTML page.

    The article is the one `<article>` of the page, else the one of several that holds the only `<h1>`, else `<main>`,
    else the page: the first of them that has body text. Left out are `<nav>`, `<aside>`, `<footer>`, controls and
    hidden elements, and a `<form>` or `<header>` that holds no `<h1>`; their words and images are counted in a
    problem. Paragraphs, list items, headings, quotes and table rows (cells parted by `|`) become paragraphs; scripts,
    styles, comments and the page's head are no text.

    The title is the article's first `<h1>`, else the page's, else `<title>`, else `og:title`, else the file's stem.

    Images are those of `<img>`, with the alt text and the `<figcaption>` of the innermost `<figure>`; captions that
    describe no image are paragraphs. Where an image has several addresses (those
    of lazy loaders, `src`, `srcset` with the largest first, the `<source>` of a `<picture>`), it is the first that
    names a local file, else a `data:` URI; if none can be read, the first says why. `<base href>` counts. Drawings and
    media (`<svg>`, `<video>`, `<iframe>`, …) and backgrounds of style sheets are not images.

    Args:
        path (`Path`):
            The file, whose folder holds the images.
        text (`str`):
            What it says.

    Raises:
        DocumentError: The page has more than `MAX_TAGS` tags, an endless `<base href>`, or cannot be parsed.
    """
    page = _parsed(path, text)
    base = page.find("base", href=True)
    base_address = str(base["href"]).strip() if base else ""
    if len(base_address) > MAX_BASE_LENGTH:
        raise DocumentError(f"{printable(path)}: its <base href> has more than {MAX_BASE_LENGTH:,} characters.")
    around_headline = _ancestors(page.find_all("h1"))
    for root in _articles(page, around_headline):
        document = Document(path.stem, printable(path), "", "")
        reader = _ArticleReader(document, path.parent.resolve(), base_address, around_headline)
        reader.read(root)
        if document.body:
            break
    _count_around(page, root, reader.left_out)
    if reader.left_out.total():
        counts = ", ".join(f"{count} {name}" for name, count in sorted(reader.left_out.items()) if count)
        document.problems.append(Problem("page_furniture", f"around the article and not read: {counts}"))
    document.title = document.title or _page_title(page) or path.stem
    return document


def _parsed(path: Path, text: str) -> BeautifulSoup:
    shown = printable(path)
    if text.count("<") > MAX_TAGS:
        raise DocumentError(f"{shown}: the page has more than {MAX_TAGS:,} tags; save the article alone.")
    # html.parser searches the rest of the file from each tag, comment or section that is never closed, which takes
    # hours for a file full of them. They are text then, and a section is the comment that HTML takes it for.
    closed = text.rfind(">") + 1
    text = text[:closed] + text[closed:].replace("<", "&lt;")
    closed = text.rfind("-->") + 1
    text = text[:closed] + text[closed:].replace("<!--", "&lt;!--")
    text = text.replace("<![", "<!")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnusualUsageWarning)
            return BeautifulSoup(text, "html.parser")
    # ValueError: a character reference of thousands of digits.
    except (ParserRejectedMarkup, ValueError) as error:
        raise DocumentError(f"{shown}: the HTML cannot be parsed ({shortened(printable(str(error)))}).") from None


def _articles(page: BeautifulSoup, around_headline: set[int]) -> list[Tag]:
    """What may be the article, the likeliest first; the last is the whole page."""
    strings = page.find_all(string=lambda string: bool(string.strip()))
    with_text = _ancestors(string for string in strings if type(string) in _TEXT)
    main = next((tag for tag in _outermost(page, ("main",)) if id(tag) in with_text), page)
    # An article within another is one of its comments or teasers.
    articles = [tag for tag in _outermost(main, ("article",)) if id(tag) in with_text]
    if len(articles) > 1:
        articles = [tag for tag in articles if id(tag) in around_headline]
    return list(dict.fromkeys([*(articles if len(articles) == 1 else ()), main, page]))


def _ancestors(nodes: Iterable[PageElement]) -> set[int]:
    """The ids of all tags around the nodes."""
    found: set[int] = set()
    for node in nodes:
        for parent in node.parents:
            if id(parent) in found:
                break
            found.add(id(parent))
    return found


def _outermost(root: Tag, names: Sequence[str]) -> Iterator[Tag]:
    """The tags of these names in `root`, but not those within one another."""
    stack = root.contents[::-1]
    while stack:
        node = stack.pop()
        if isinstance(node, Tag):
            if node.name in names:
                yield node
            else:
                stack += reversed(node.contents)


def _contents(tag: Tag) -> Iterable[PageElement]:
    """What is in a tag; of a page's head only what is no longer head."""
    if tag.name != "head":
        return tag.contents
    return dropwhile(lambda node: node.name in _HEAD if isinstance(node, Tag) else not node.strip(), tag.contents)


def _count_around(page: BeautifulSoup, article: Tag, left_out: Counter[str]) -> None:
    stack: list[PageElement] = [page]
    while stack:
        node = stack.pop()
        if type(node) in _TEXT:
            left_out["words"] += len(node.split())
        elif isinstance(node, Tag) and node is not article and node.name not in _NO_TEXT:
            left_out["img"] += node.name == "img"
            stack += _contents(node)


def _page_title(page: BeautifulSoup) -> str:
    graph = page.find("meta", property="og:title")
    texts = [tag.get_text(" ") for tag in (page.find("h1"), page.find("title")) if tag]
    texts.append(str(graph.get("content", "")) if graph else "")
    titles = [" ".join(text.split()) for text in texts]
    return next((title for title in titles if 0 < len(title) <= MAX_HEADLINE_LENGTH), "")


class _ArticleReader:
    """Adds the title, the body, the images and the problems of an article to a document in one pass."""

    def __init__(self, document: Document, folder: Path, base: str, around_headline: set[int]):
        self.document = document
        self.left_out: Counter[str] = Counter()
        self._images = LinkedImages(folder, document, data_uris=True)
        self._base = base
        self._around_headline = around_headline
        self._seen: set[str] = set()
        self._pieces: list[str] = []
        # Each paragraph with the id of the caption that it is of, or 0.
        self._paragraphs: list[tuple[str, int]] = []
        self._used_captions: set[int] = set()
        # What the reader is within, from the outside to the inside.
        self._captions = [0]
        self._figures: list[Tag | None] = [None]
        self._sources: list[list[str]] = [[]]
        self._preformatted = 0
        self._without_script = 0
        self._headline: Tag | None = None
        self._headline_start = 0

    def read(self, root: Tag) -> None:
        # A stack of our own: pages may be nested deeper than Python recurses. False stands for the end of a tag.
        stack: list[tuple[PageElement, bool]] = [(root, True)]
        while stack:
            node, opens = stack.pop()
            if not isinstance(node, Tag):
                if type(node) in _TEXT:
                    self._add_text(node)
            elif not opens:
                self._close(node)
            elif node is root or self._is_read(node):
                self._open(node)
                stack.append((node, False))
                stack.extend((child, True) for child in reversed(list(_contents(node))))
        self._end_paragraph()
        self._images.report_refused()
        self.document.body = "\n\n".join(text for text, of in self._paragraphs if of not in self._used_captions)

    def _is_read(self, tag: Tag) -> bool:
        if tag.name in _NO_TEXT:
            return False
        if tag.name in _MEDIA:
            self.left_out[tag.name] += 1
            return False
        if not (
            tag.name in _FURNITURE
            or (tag.name in _FURNITURE_WITHOUT_HEADLINE and id(tag) not in self._around_headline)
            or tag.has_attr("hidden")
            or tag.get("aria-hidden") == "true"
            or _HIDING_STYLE.search(str(tag.get("style", "")))
        ):
            return True
        self.left_out["img"] += len(tag.find_all("img")) + (tag.name == "img")
        self.left_out["words"] += len(tag.get_text(" ").split())
        return False

    def _add_text(self, text: NavigableString) -> None:
        if self._without_script:
            self.left_out["words"] += len(text.split())
        else:
            self._pieces.append(str(text) if self._preformatted else re.sub(r"\s+", " ", text))

    def _open(self, tag: Tag) -> None:
        if tag.name == "figure":
            inner = _outermost(tag, ("figure", "figcaption"))
            self._figures.append(next((found for found in inner if found.name == "figcaption"), None))
        elif tag.name == "picture":
            self._sources.append([str(found.get("srcset", "")) for found in _outermost(tag, ("picture", "source"))])
        elif tag.name == "img":
            self._add_image(tag)
        elif tag.name == "noscript":
            self._without_script += 1
        if self._without_script:
            return
        if tag.name in _PARAGRAPHS:
            self._end_paragraph()
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

    def _close(self, tag: Tag) -> None:
        if tag.name == "figure":
            self._figures.pop()
        elif tag.name == "picture":
            self._sources.pop()
        elif tag.name == "noscript":
            self._without_script -= 1
        if self._without_script:
            return
        if tag.name in _PARAGRAPHS:
            self._end_paragraph()
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
        text = "".join(self._pieces)
        self._pieces = []
        if self._preformatted:
            paragraphs = [text.strip()]
        else:
            paragraphs = [" ".join(paragraph.split()) for paragraph in _BLANK_LINES.split(text)]
        self._paragraphs += [(paragraph, self._captions[-1]) for paragraph in paragraphs if paragraph]

    def _add_image(self, tag: Tag) -> None:
        sources, self._sources[-1] = self._sources[-1], []
        addresses = image_addresses(tag, sources)
        if self._without_script and self._seen.intersection(addresses):
            # It repeats an image that a script would load.
            return
        self._seen.update(addresses)
        if not self._images.has_room():
            return
        alt = " ".join(str(tag.get("alt", "")).split())
        caption = self._figures[-1]
        caption_text = _caption_text(caption)
        description = printable(" – ".join(dict.fromkeys(text for text in (alt, caption_text) if text)))

        first: Problem | None = None
        resolved = [(self._resolved(address), address) for address in addresses[:_MAX_ADDRESSES] or [""]]
        for link, address in sorted(resolved, key=lambda entry: address_rank(entry[0])):
            is_data = address[:5].lower() == "data:"
            kind = printable(address[5:].split(",")[0].split(";")[0])
            shown = f"embedded image {kind}".strip() if is_data else shown_address(address)
            try:
                image = self._images.open(link)
                if is_data and len(addresses) > 1 and max(image.size) < MIN_DATA_IMAGE_SIDE:
                    raise ImageError("broken_image", "it is a placeholder")
            except ImageError as error:
                about = f" (described as: {shortened(description)})" if description else ""
                first = first or Problem(error.kind, f"{shortened(shown)}: {error}{about}")
            else:
                self.document.images.append(DocumentImage(shortened(shown), description, image))
                break
        else:
            self.document.problems.append(first)
            if shortened(description) != description:
                return
        if caption_text:
            self._used_captions.add(id(caption))

    def _resolved(self, address: str) -> str:
        """The address after `<base href>`."""
        try:
            base, url = urlsplit(self._base), urlsplit(address)
            if base.scheme or base.netloc:
                return urljoin(self._base, address)
        except ValueError:
            return address
        # urljoin would drop a leading "..", and so name another file.
        if not url.path or url.scheme or url.netloc or address.startswith("/"):
            return address
        return "".join(base.path.rpartition("/")[:2]) + address


def _caption_text(caption: Tag | None) -> str:
    """The caption on one line; empty if there is none, or one too long for a caption."""
    texts: list[str] = []
    stack = [caption] if caption else []
    visited = length = 0
    # Tag.descendants would first go down to the last of them.
    while stack:
        node = stack.pop()
        visited += 1
        if type(node) in _TEXT:
            texts.append(node)
            length += len(node)
        elif isinstance(node, Tag):
            stack += reversed(node.contents)
        if visited > _MAX_CAPTION_NODES or length > MAX_CAPTION_LENGTH:
            return ""
    return " ".join(" ".join(texts).split())
