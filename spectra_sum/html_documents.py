"""HTML pages, such as saved news articles, with local images."""

import codecs
import re
import warnings
from collections import Counter
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from bs4 import BeautifulSoup, CData, NavigableString, ParserRejectedMarkup, Tag, UnusualUsageWarning
from bs4.dammit import EncodingDetector
from PIL import Image

from .document_parts import Document, DocumentError, DocumentImage, Problem, printable, shortened, shown_address
from .local_images import ImageError, open_data_image, open_linked_image

# Pages that hold their images as data: URIs are this large; the rest of a page is rarely a hundredth of it.
MAX_HTML_BYTES = 64_000_000
MAX_TAGS = 200_000
# The smaller ones are spacers and placeholders of scripts that load the image itself later.
MIN_DATA_IMAGE_SIDE = 8

_PARAGRAPHS = frozenset(
    "address article aside blockquote body caption center dd details dir div dl dt fieldset figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 header hgroup hr legend li main menu ol p pre search section summary table tbody tfoot "
    "thead tr ul".split()
)
_NO_TEXT = frozenset("head link meta script style template title".split())
_FURNITURE = frozenset("aside button datalist dialog footer input nav noscript option rp rt select textarea".split())
_MEDIA = frozenset("applet audio canvas embed frame iframe map math object svg video".split())
# Around the article they are the site's; around the headline they are the article's own.
_FURNITURE_WITHOUT_HEADLINE = frozenset(("form", "header"))
_HIDING_STYLE = re.compile(r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_LAZY_ATTRIBUTES = ("data-src", "data-original", "data-lazy-src")
_BLANK_LINES = re.compile(r"\n\s*\n")


def decode_html(data: bytes, shown: str) -> str:
    """
    The text of an HTML file: by its byte order mark, else by the character set it declares, else UTF-8.

    A page that declares a set which it is not in, or which does not exist, is read as UTF-8 when it is that. Latin-1
    stands for Windows-1252, as in browsers.

    Args:
        data (`bytes`):
            The file.
        shown (`str`):
            Its name in an error.

    Raises:
        DocumentError: The bytes are in neither.
    """
    data, marked = EncodingDetector.strip_byte_order_mark(data)
    declared = marked or EncodingDetector.find_declared_encoding(data, is_html=True) or "utf-8"
    try:
        if codecs.lookup(declared).name in ("ascii", "iso8859-1"):
            declared = "cp1252"
        return data.decode(declared)
    except (LookupError, ValueError):
        pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        tried = "UTF-8" if declared == "utf-8" else f"UTF-8, nor is the page in {printable(declared)}"
        raise DocumentError(
            f"{shown}: byte {error.start} is not {tried}; save the page as UTF-8 or declare its <meta charset>."
        ) from None


def read_html(path: Path, text: str) -> Document:
    """
    Reads the article of an HTML page.

    The article is the one `<article>` of the page, else the one of several that holds the only `<h1>`, else `<main>`,
    else the body. Left out are `<nav>`, `<aside>`, `<footer>`, controls and hidden elements, and a `<form>` or
    `<header>` that holds no `<h1>`; their words and images are counted in a problem. Paragraphs, list items, headings,
    quotes and table rows (cells parted by `|`) become paragraphs; scripts, styles and comments are no text.

    The title is the article's first `<h1>`, else the page's, else `<title>`, else `og:title`, else the file's stem.

    Images are those of `<img>`, with the alt text and the `<figcaption>`. Where an image has several addresses (those
    of lazy loaders, `src`, `srcset` with the largest first, the `<source>` of a `<picture>`), it is the first that
    names a local file, else a `data:` URI; if none can be read, the first says why. `<base href>` counts. Drawings and
    media (`<svg>`, `<video>`, `<iframe>`, …) and backgrounds of style sheets are not images.

    Args:
        path (`Path`):
            The file, whose folder holds the images.
        text (`str`):
            What it says.

    Raises:
        DocumentError: The page has more than `MAX_TAGS` tags or cannot be parsed.
    """
    page = _parsed(path, text)
    whole = page.body or page
    root = _article(whole)
    reader = _ArticleReader(page, path.parent.resolve())
    document = Document(path.stem, printable(path), "", "", reader.images, reader.problems)
    reader.read(root)
    if root is not whole:
        reader.left_out["words"] += len(whole.get_text(" ").split()) - len(root.get_text(" ").split())
        reader.left_out["img"] += len(whole.find_all("img")) - len(root.find_all("img"))
    if reader.left_out.total():
        counts = ", ".join(f"{count} {name}" for name, count in sorted(reader.left_out.items()) if count)
        document.problems.append(Problem("page_furniture", f"around the article and not read: {counts}"))
    document.title = reader.title or _page_title(page) or path.stem
    document.body = "\n\n".join(reader.paragraphs)
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


def _article(whole: Tag) -> Tag:
    main = next((tag for tag in whole.find_all("main") if _has_text(tag)), whole)
    articles = [tag for tag in main.find_all("article") if _has_text(tag)]
    # An article within another is one of its comments or teasers.
    inner = {id(tag) for article in articles for tag in article.find_all("article")} if len(articles) > 1 else set()
    articles = [tag for tag in articles if id(tag) not in inner]
    if len(articles) > 1:
        articles = [tag for tag in articles if tag.find("h1")]
    return articles[0] if len(articles) == 1 else main


def _has_text(tag: Tag) -> bool:
    return next(tag.stripped_strings, None) is not None


def _page_title(page: BeautifulSoup) -> str:
    graph = page.find("meta", property="og:title")
    texts = [tag.get_text(" ") for tag in (page.find("h1"), page.find("title")) if tag]
    texts.append(str(graph.get("content", "")) if graph else "")
    return next((" ".join(text.split()) for text in texts if text.strip()), "")


class _ArticleReader:
    """Collects the paragraphs, the images and the problems of an article in one pass."""

    def __init__(self, page: BeautifulSoup, folder: Path):
        self.folder = folder
        base = page.find("base", href=True)
        self.base = str(base["href"]).strip() if base else ""
        self.title = ""
        self.paragraphs: list[str] = []
        self.images: list[DocumentImage] = []
        self.problems: list[Problem] = []
        self.left_out: Counter[str] = Counter()
        self._pieces: list[str] = []
        self._seen: set[str] = set()
        self._around_headline: set[int] = set()
        for headline in page.find_all("h1"):
            for parent in headline.parents:
                if id(parent) in self._around_headline:
                    break
                self._around_headline.add(id(parent))

    def read(self, root: Tag) -> None:
        # A stack of our own: pages may be nested deeper than Python recurses. False stands for the end of a tag.
        stack: list[tuple[Tag | NavigableString, bool]] = [(root, True)]
        preformatted = 0
        while stack:
            node, opens = stack.pop()
            if not isinstance(node, Tag):
                if type(node) in (NavigableString, CData):
                    self._pieces.append(str(node) if preformatted else re.sub(r"\s+", " ", node))
            elif not opens:
                preformatted -= node.name == "pre"
                self._end_paragraph(node.name, bool(preformatted) or node.name == "pre")
            elif node is root or self._is_read(node):
                if node.name in _PARAGRAPHS:
                    self._end_paragraph("", bool(preformatted))
                    stack.append((node, False))
                    preformatted += node.name == "pre"
                elif node.name == "br":
                    self._pieces.append("\n")
                elif node.name in ("td", "th") and "".join(self._pieces).strip():
                    self._pieces.append(" | ")
                elif node.name == "img":
                    self._add_image(node)
                stack.extend((child, True) for child in reversed(node.contents))
        self._end_paragraph("", False)

    def _is_read(self, tag: Tag) -> bool:
        if tag.name in _NO_TEXT:
            return False
        if tag.name in _MEDIA:
            self.left_out[tag.name] += 1
            return False
        if tag.name == "figcaption" and (figure := tag.find_parent("figure")) and figure.find("img"):
            return False
        if not (
            tag.name in _FURNITURE
            or (tag.name in _FURNITURE_WITHOUT_HEADLINE and id(tag) not in self._around_headline)
            or tag.has_attr("hidden")
            or tag.get("aria-hidden") == "true"
            or _HIDING_STYLE.search(str(tag.get("style", "")))
        ):
            return True
        images = tag.find_all("img") + ([tag] if tag.name == "img" else [])
        if tag.name == "noscript":
            # It repeats the images that a script would load.
            for image in images:
                if not self._seen.intersection(_addresses(image)):
                    self._add_image(image)
        else:
            self.left_out["img"] += len(images)
        self.left_out["words"] += len(tag.get_text(" ").split())
        return False

    def _end_paragraph(self, name: str, preformatted: bool) -> None:
        text = "".join(self._pieces)
        self._pieces = []
        if preformatted:
            paragraphs = [text.strip()]
        else:
            paragraphs = [" ".join(paragraph.split()) for paragraph in _BLANK_LINES.split(text)]
        paragraphs = [paragraph for paragraph in paragraphs if paragraph]
        if name == "h1" and paragraphs and not self.title:
            self.title = " ".join(" ".join(paragraphs).split())
        else:
            self.paragraphs += paragraphs

    def _add_image(self, tag: Tag) -> None:
        alt = " ".join(str(tag.get("alt", "")).split())
        caption = tag.find_parent("figure") and tag.find_parent("figure").find("figcaption")
        caption = " ".join(caption.get_text(" ").split()) if caption else ""
        description = printable(" – ".join(dict.fromkeys(text for text in (alt, caption) if text)))

        addresses = _addresses(tag)
        self._seen.update(addresses)
        first: Problem | None = None
        for address in sorted(addresses or [""], key=lambda address: _rank(self._resolved(address))):
            is_data = address[:5].lower() == "data:"
            kind = printable(address[5:].split(",")[0].split(";")[0])
            shown = f"embedded image {kind}".strip() if is_data else shown_address(address)
            try:
                image = self._opened(address)
                if is_data and len(addresses) > 1 and max(image.size) < MIN_DATA_IMAGE_SIDE:
                    raise ImageError("broken_image", "it is a placeholder")
            except ImageError as error:
                about = f" (described as: {shortened(description)})" if description else ""
                first = first or Problem(error.kind, f"{shortened(shown)}: {error}{about}")
            else:
                self.images.append(DocumentImage(shortened(shown), description, image))
                return
        self.problems.append(first)

    def _opened(self, address: str) -> Image.Image:
        address = self._resolved(address)
        if address[:5].lower() == "data:":
            return open_data_image(address)
        return open_linked_image(address, self.folder)

    def _resolved(self, address: str) -> str:
        """The address after `<base href>`."""
        try:
            base, url = urlsplit(self.base), urlsplit(address)
            if base.scheme or base.netloc:
                return urljoin(self.base, address)
        except ValueError:
            return address
        # urljoin would drop a leading "..", and so name another file.
        if not url.path or url.scheme or url.netloc or address.startswith("/"):
            return address
        return "".join(base.path.rpartition("/")[:2]) + address


def _addresses(image: Tag) -> list[str]:
    """All addresses that an `<img>` gives for its image."""
    addresses = [str(image.get(name, "")).strip() for name in (*_LAZY_ATTRIBUTES, "src")]
    sets = [str(image.get(name, "")) for name in ("srcset", "data-srcset")]
    picture = image.find_parent("picture")
    if picture:
        sets += [str(source.get("srcset", "")) for source in picture.find_all("source")]
    for text in sets:
        addresses += [address for address, _ in sorted(_srcset(text), key=lambda entry: -entry[1])]
    return list(dict.fromkeys(address for address in addresses if address))


def _srcset(text: str) -> list[tuple[str, float]]:
    """The addresses of a `srcset` with their widths or densities."""
    entries = []
    words = text.split()[::-1]
    while words:
        address, descriptor = words.pop(), ""
        if not address.endswith(","):
            descriptor, _, rest = words.pop().partition(",") if words else ("", "", "")
            if rest:
                words.append(rest)
        try:
            size = float(descriptor[:-1])
        except ValueError:
            size = 1.0
        entries.append((address.strip(","), size))
    return entries


def _rank(address: str) -> int:
    """Local paths before remote addresses, whose refusal tells more than a placeholder's, before `data:` URIs."""
    if address[:5].lower() == "data:":
        return 2
    try:
        url = urlsplit(address)
    except ValueError:
        return 1
    return 1 if url.scheme or url.netloc else 0
