"""HTML pages, such as saved news articles, with local images."""

from collections import Counter
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from bs4.element import PageElement

from ..linked_files import LinkedFiles
from ..linked_images import LinkedImages
from ..parts import Document, DocumentError, Problem, printable, shortened
from .article import MAX_HEADLINE_LENGTH, ArticleReader
from .captions import mark_named_captions
from .furniture import PageFurniture
from .tree import NO_TEXT, TEXT, ancestors, contents, outermost, parsed, tags

# Pages that hold their images as data: URIs are this large; the rest of a page is rarely a hundredth of it.
MAX_HTML_BYTES = 64_000_000
MAX_BASE_LENGTH = 4096
# Lines that a problem quotes.
_MAX_QUOTES, _MAX_QUOTE_LENGTH = 8, 50


def read_html(path: Path, text: str, *, images_by_name: bool = False) -> Document:
    """
    Reads the article of an HTML page.

    The article is the one `<article>` of the page, else the one of several that holds the only `<h1>`, else `<main>`,
    else the page: the first of them that has body text. Left out are `<nav>`, `<aside>`, `<footer>`, controls and
    hidden elements, and a `<form>` or `<header>` that holds no `<h1>`; their words and images are counted in a
    problem. So are, by the rule in [`~spectra_sum.documents.html.furniture`], bylines, share lines, teasers and
    notices within the article; a problem quotes them. Paragraphs, list items, headings, quotes and table rows (cells
    parted by `|`) become paragraphs; scripts, styles, comments and the page's head are no text.

    The title is the article's first `<h1>`, else the page's, else `<title>`, else `og:title`, else the file's stem.

    Images are those of `<img>`, with the alt text and the `<figcaption>` of the innermost `<figure>`, or what has
    "caption" in its `class` right below the image; captions that describe no image are paragraphs. Where an image has
    several addresses, [`~spectra_sum.documents.html.addresses.image_addresses`] says which are tried first; if none can
    be read, a problem says why. An image that is named again, as in the `<noscript>` beside it, is the same one. One of
    less than 24 pixels a side, in the file or as the page shows it, is not the article's. Drawings and media (`<svg>`,
    `<video>`, `<iframe>`, …) and backgrounds of style sheets are not images.

    Args:
        path (`Path`):
            The file, whose folder holds the images.
        text (`str`):
            What it says.
        images_by_name (`bool`, *optional*, defaults to `False`):
            Look first for a file of the folder with the name at the end of an image's address.

    Raises:
        DocumentError: The page has more than `MAX_TAGS` tags, an endless `<base href>`, or cannot be parsed.
    """
    page = parsed(path, text)
    base = next((tag for tag in tags(page, "base") if tag.has_attr("href")), None)
    base_address = str(base["href"]).strip() if base else ""
    if len(base_address) > MAX_BASE_LENGTH:
        raise DocumentError(f"{printable(path)}: its <base href> has more than {MAX_BASE_LENGTH:,} characters.")
    files = LinkedFiles(path.parent.resolve(), by_name=images_by_name)
    mark_named_captions(page)
    around_headline = ancestors(tags(page, "h1"))
    for root in _articles(page, around_headline):
        document = Document(path.stem, printable(path), "", "")
        images = LinkedImages(files, data_uris=True)
        reader = ArticleReader(document, images, base_address, PageFurniture(root, around_headline))
        reader.read(root)
        if document.body:
            break
    _count_around(page, root, reader.left_out)
    if reader.left_out.total():
        document.problems.append(
            Problem("page_furniture", f"around the article and not read: {counted(reader.left_out)}")
        )
    if reader.furniture_lines:
        document.problems.append(
            Problem("page_furniture", f"not read as the article's text: {_quoted(reader.furniture_lines)}")
        )
    document.title = document.title or _page_title(page) or path.stem
    return document


def counted(left_out: Counter[str]) -> str:
    """What was left out, as a problem says it: "2 img, 12 words"."""
    return ", ".join(f"{count} {name}" for name, count in sorted(left_out.items()) if count)


def _quoted(lines: list[str]) -> str:
    quotes = [f"“{shortened(printable(line), _MAX_QUOTE_LENGTH)}”" for line in lines[:_MAX_QUOTES]]
    return ", ".join(quotes) + (f" and {len(lines) - _MAX_QUOTES} more" if len(lines) > _MAX_QUOTES else "")


def _articles(page: BeautifulSoup, around_headline: set[int]) -> list[Tag]:
    """What may be the article, the likeliest first; the last is the whole page."""
    with_text = ancestors(node for node in page.descendants if type(node) in TEXT and node.strip())
    main = next((tag for tag in outermost(page, ("main",)) if id(tag) in with_text), page)
    # An article within another is one of its comments or teasers.
    articles = [tag for tag in outermost(main, ("article",)) if id(tag) in with_text]
    if len(articles) > 1:
        articles = [tag for tag in articles if id(tag) in around_headline]
    # A tag's own hash is that of all its text.
    return list({id(tag): tag for tag in (*(articles if len(articles) == 1 else ()), main, page)}.values())


def _count_around(page: BeautifulSoup, article: Tag, left_out: Counter[str]) -> None:
    stack: list[PageElement] = [page]
    while stack:
        node = stack.pop()
        if type(node) in TEXT:
            left_out["words"] += len(node.split())
        elif isinstance(node, Tag) and node is not article and node.name not in NO_TEXT:
            left_out["img"] += node.name == "img"
            stack += contents(node)


def _page_title(page: BeautifulSoup) -> str:
    graph = next((tag for tag in tags(page, "meta") if tag.get("property") == "og:title"), None)
    found = (next(tags(page, name), None) for name in ("h1", "title"))
    texts = [tag.get_text(" ") for tag in found if tag]
    texts.append(str(graph.get("content", "")) if graph else "")
    titles = [" ".join(text.split()) for text in texts]
    return next((title for title in titles if 0 < len(title) <= MAX_HEADLINE_LENGTH), "")
