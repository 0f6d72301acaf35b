"""A parsed page, and ways through it that nesting does not slow down: pages may be nested deeper than Python recurses."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import dropwhile
from pathlib import Path

from bs4 import BeautifulSoup, CData, NavigableString, ParserRejectedMarkup, Tag, UnusualUsageWarning
from bs4.element import PageElement

from ..parts import DocumentError, printable, shortened

MAX_TAGS = 200_000

# The classes of strings that are text; comments, scripts and declarations have others.
TEXT = (NavigableString, CData)
NO_TEXT = frozenset("link meta script style template title".split())
# The first other tag begins the body: </head> and <body> may be left out.
_HEAD = frozenset("base basefont bgsound link meta noframes noscript script style template title".split())


def parsed(path: Path, text: str) -> BeautifulSoup:
    """
    Parses a page.

    Args:
        path (`Path`): The file, for errors.
        text (`str`): What it says.

    Raises:
        DocumentError: It has more than `MAX_TAGS` tags, or cannot be parsed.
    """
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


def tags(page: Tag, *names: str) -> Iterator[Tag]:
    """
    The tags of a page in its order, or those of these names.

    `find_all` takes several times as long, as it compares each tag with all that it may be asked for.
    """
    return (node for node in page.descendants if isinstance(node, Tag) and (not names or node.name in names))


def ancestors(nodes: Iterable[PageElement]) -> set[int]:
    """The ids of all tags around the nodes."""
    found: set[int] = set()
    for node in nodes:
        for parent in node.parents:
            if id(parent) in found:
                break
            found.add(id(parent))
    return found


def outermost(root: Tag, names: Sequence[str]) -> Iterator[Tag]:
    """The tags of these names in `root`, but not those within one another."""
    stack = root.contents[::-1]
    while stack:
        node = stack.pop()
        if isinstance(node, Tag):
            if node.name in names:
                yield node
            else:
                stack += reversed(node.contents)


def contents(tag: Tag) -> Iterable[PageElement]:
    """What is in a tag; of a page's head only what is no longer head."""
    if tag.name != "head":
        return tag.contents
    return dropwhile(lambda node: node.name in _HEAD if isinstance(node, Tag) else not node.strip(), tag.contents)
