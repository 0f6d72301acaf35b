"""The books of a checkout, their chapters, and which modules these have."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from spectra_sum.documents.parts import printable
from spectra_sum.msmo.layout import is_inside, is_plain_name
from spectra_sum.openstax.checkout import Checkout, OpenStaxError
from spectra_sum.openstax.cnxml.xml_reading import BOOK_CONTAINER, COLLXML, MDML, XMLDamage, parse_xml
from spectra_sum.openstax.licence import check_licence

COLLECTION_ENDING = ".collection.xml"


class Chapter(NamedTuple):
    """A chapter: its number in the book, from 1, and the ids of its modules in their order."""

    number: int
    modules: list[str]


class Book(NamedTuple):
    """
    A book.

    Attributes:
        name (`str`): As ids and `sources.tsv` have it: the repository's name without `osbooks-`, of a bundle
            of several books (`osbooks-…-bundle`) or any other folder the book's own.
        slug (`str`): Its own name, of which a repository may have several.
        title (`str`): Its title.
        licence (`str`): Its licence, such as `"CC BY 4.0"`.
        checkout (`Checkout`): Where it is.
        chapters (`list[Chapter]`): Its chapters; what stands outside of all (a preface, appendices) is one by itself.
    """

    name: str
    slug: str
    title: str
    licence: str
    checkout: Checkout
    chapters: list[Chapter]

    @property
    def address(self) -> str:
        """Where the licence stands."""
        return f"https://creativecommons.org/licenses/by/{self.licence.removeprefix('CC BY').strip()}"


def read_books(checkout: Checkout, wanted: Collection[str] = ()) -> list[Book]:
    """
    The books of a checkout, in the order of its `META-INF/books.xml`, or of the names of its collections.

    Args:
        checkout (`Checkout`): The checkout.
        wanted (`Collection[str]`, *optional*): Names or slugs of the books to read. Defaults to all.

    Raises:
        OpenStaxError: A collection cannot be read, or the checkout is not under CC BY as a whole.
    """
    listed = _listed(checkout)
    collections = {path: _root(checkout, path) for path in dict.fromkeys([*listed, *_lying(checkout)])}
    if not collections:
        raise OpenStaxError(
            f"{checkout.shown(checkout.folder / 'collections')}: there is no *{COLLECTION_ENDING} in it."
        )
    licence = check_licence(checkout, collections.items())
    alone = checkout.folder.name.startswith("osbooks-") and not checkout.name.endswith("-bundle")
    books = []
    for path in listed or collections:
        root = collections[path]
        metadata = root.find(f"{{{COLLXML}}}metadata")
        slug, title = (_text(metadata, name) for name in ("slug", "title"))
        slug = slug or path.name.removesuffix(COLLECTION_ENDING)
        name = checkout.name if alone else slug
        if not wanted or {name, slug} & set(wanted):
            books.append(Book(name, slug, title or slug, licence, checkout, _chapters(checkout, path, root)))
    return books


def _listed(checkout: Checkout) -> list[Path]:
    path = checkout.folder / "META-INF" / "books.xml"
    if not path.is_file():
        return []
    checkout.file("META-INF", "books.xml")
    addresses = [book.get("href", "") for book in _root(checkout, path).iter(f"{{{BOOK_CONTAINER}}}book")]
    return [checkout.file("META-INF", address).resolve() for address in addresses if address]


def _lying(checkout: Checkout) -> list[Path]:
    paths = sorted((checkout.folder / "collections").glob(f"*{COLLECTION_ENDING}"))
    return [checkout.file("collections", path.name).resolve() for path in paths]


def _root(checkout: Checkout, path: Path) -> Element:
    try:
        return parse_xml(path)
    except XMLDamage as error:
        raise OpenStaxError(f"{checkout.shown(path)}: {error}.") from None


def _text(metadata: Element | None, name: str) -> str:
    found = None if metadata is None else metadata.find(f"{{{MDML}}}{name}")
    return "" if found is None else " ".join("".join(found.itertext()).split())


def _chapters(checkout: Checkout, path: Path, root: Element) -> list[Chapter]:
    groups: list[list[str]] = []

    def visit(content: Element, alone: bool) -> None:
        own: list[str] = []
        for child in content:
            if child.tag == f"{{{COLLXML}}}module":
                module = child.get("document", "")
                if not is_plain_name(module) or not is_inside(checkout.folder / "modules" / module, checkout.folder):
                    raise OpenStaxError(
                        f"{checkout.shown(path)}: the module {printable(module)!r} is no name of a folder in modules."
                    )
                if alone or not own:
                    own = [module]
                    groups.append(own)
                else:
                    own.append(module)
            elif child.tag == f"{{{COLLXML}}}subcollection":
                for inner in child.findall(f"{{{COLLXML}}}content"):
                    visit(inner, False)

    for content in root.findall(f"{{{COLLXML}}}content"):
        visit(content, True)
    return [Chapter(number, modules) for number, modules in enumerate(groups, start=1)]
