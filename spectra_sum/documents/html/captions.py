"""Captions of a page that are none by their tag: they become `<figcaption>`s of a `<figure>`, which the reader knows."""

import re

from bs4 import BeautifulSoup, Tag
from bs4.element import PageElement

from .tree import TEXT, tags

_NAME = re.compile(r"caption", re.IGNORECASE)
# Around an image and its caption there is no more than this.
_MAX_NODES = 60


def mark_named_captions(page: BeautifulSoup) -> None:
    """
    Marks elements with "caption" in their `class`, as `<p class="wp-caption-text">`, whose parent holds an image before
    them and no other text.
    """
    for tag in [tag for tag in tags(page) if _NAME.search(" ".join(tag.get("class", ())))]:
        around = tag.parent
        if tag.name == "figcaption" or around is None or around.name in ("figure", "body", "[document]"):
            continue
        if _is_captioned(around, tag):
            tag.name, around.name = "figcaption", "figure"


def _is_captioned(around: Tag, caption: Tag) -> bool:
    """Whether there are images in `around`, all before the caption, and no text but the caption's."""
    stack: list[PageElement] = [around]
    visited, image, passed = 0, False, False
    while stack:
        node = stack.pop()
        if isinstance(node, Tag):
            if node.name == "img":
                if passed:
                    return False
                image = True
            visited += len(node.contents)
            passed = passed or node is caption
            if visited > _MAX_NODES:
                return False
            stack += reversed(node.contents)
        elif type(node) in TEXT and node.strip() and not _is_in(node, caption, around):
            return False
    return image and passed


def _is_in(node: PageElement, tag: Tag, around: Tag) -> bool:
    while node is not around and node is not tag:
        node = node.parent
    return node is tag
