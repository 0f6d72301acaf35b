"""A section as the articles have it."""

import hashlib
from typing import NamedTuple


class Figure(NamedTuple):
    """
    A figure of a section.

    Attributes:
        file (`str`): The image file's name in the checkout.
        digest (`str`): SHA-256 of that file: equal for equal pictures.
        caption (`str`), credit (`str`), alt (`str`): Its texts; empty where there is none.
    """

    file: str
    digest: str
    caption: str
    credit: str
    alt: str


class Section(NamedTuple):
    """
    A section of a book.

    Attributes:
        book (`str`), slug (`str`), commit (`str`), chapter (`int`), module (`str`): Where it comes from.
        title (`str`): Its title.
        body (`list[str]`): Its paragraphs.
        summary (`list[str]`): The lines of its summary.
        figures (`list[Figure]`): Its figures, in their order.
    """

    book: str
    slug: str
    commit: str
    chapter: int
    module: str
    title: str
    body: list[str]
    summary: list[str]
    figures: list[Figure]

    @property
    def id(self) -> str:
        """The SHA-1 of book and module."""
        return section_id(self.book, self.module)


def section_id(book: str, module: str) -> str:
    """The id of the section that is made of a module of a book."""
    return hashlib.sha1(f"{book}/{module}".encode()).hexdigest()
