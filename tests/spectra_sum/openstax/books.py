"""Small checkouts of books, written by hand as OpenStax writes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

from PIL import Image

from spectra_sum.openstax.checkout import Checkout, find_checkouts

BY = "https://creativecommons.org/licenses/by/4.0/"
BY_NC_SA = "http://creativecommons.org/licenses/by-nc-sa/4.0/"
BY_TEXT = "Attribution 4.0 International\n\nCreative Commons Attribution 4.0 International Public License\n"
SUMMARY = '<section class="summary"><title>Summary</title><para>Cells divide.</para></section>'


def document(content: str, title: str = "Cells", metadata: str = "") -> str:
    """A module as text."""
    return (
        '<document xmlns="http://cnx.rice.edu/cnxml" xmlns:m="http://www.w3.org/1998/Math/MathML">'
        f'<title>{title}</title><metadata xmlns:md="http://cnx.rice.edu/mdml"><md:title>{title}</md:title>{metadata}'
        f"</metadata><content>{content}</content></document>"
    )


def parsed(content: str) -> Element:
    """A module's root element."""
    return fromstring(document(content))


def figure(name: str, caption: str = "", alt: str = "A cell.", image: str = "") -> str:
    """A figure of a module; `image` is its file's address, by default one in media."""
    caption = f"<caption>{caption}</caption>" if caption else ""
    image = image or f"../../media/{name}.png"
    return f'<figure id="{name}"><media alt="{alt}"><image mime-type="image/png" src="{image}"/></media>{caption}</figure>'


def collection(chapters: Sequence[Sequence[str]], slug: str, licence: str = BY, words: str = "CC BY") -> str:
    """A collection as text."""
    parts = "".join(
        "<subcollection><md:title>Chapter</md:title><content>"
        + "".join(f'<module document="{module}"/>' for module in modules)
        + "</content></subcollection>"
        for modules in chapters
    )
    return (
        '<col:collection xmlns:col="http://cnx.rice.edu/collxml" xmlns:md="http://cnx.rice.edu/mdml" '
        f'xmlns="http://cnx.rice.edu/collxml"><col:metadata><md:title>A Book: {slug}</md:title><md:slug>{slug}</md:slug>'
        f'<md:license url="{licence}">{words}</md:license></col:metadata><content>{parts}</content></col:collection>'
    )


def make_checkout(
    folder: Path,
    modules: Mapping[str, str],
    *,
    chapters: Sequence[Sequence[str]] | None = None,
    images: Mapping[str, tuple[int, int]] | None = None,
    licence: str = BY,
    words: str = "Creative Commons Attribution License 4.0",
    licence_text: str = BY_TEXT,
) -> Path:
    """
    A checkout with one book.

    Args:
        folder (`Path`): The folder to make.
        modules (`Mapping[str, str]`): The text of each module, by its id.
        chapters (`Sequence[Sequence[str]]`, *optional*): The modules of each chapter. Defaults to one chapter of all.
        images (`Mapping[str, tuple[int, int]]`, *optional*): Files in media, each of another colour, and their sizes.
        licence (`str`), words (`str`), licence_text (`str`): What the collection and the LICENSE file say.
    """
    slug = folder.name.removeprefix("osbooks-")
    for name in ("META-INF", "collections", "media", "modules"):
        (folder / name).mkdir(parents=True)
    (folder / "LICENSE").write_text(licence_text)
    (folder / "META-INF" / "books.xml").write_text(
        '<container xmlns="https://openstax.org/namespaces/book-container" version="1">'
        f'<book slug="{slug}" href="../collections/{slug}.collection.xml"/></container>'
    )
    text = collection(chapters or [list(modules)], slug, licence, words)
    (folder / "collections" / f"{slug}.collection.xml").write_text(text)
    for name, content in modules.items():
        (folder / "modules" / name).mkdir()
        (folder / "modules" / name / "index.cnxml").write_text(content)
    for number, (name, size) in enumerate((images or {}).items()):
        Image.new("RGB", size, (40 * number % 256, 90, 160)).save(folder / "media" / name)
    return folder


def only(folder: Path) -> Checkout:
    """The one checkout of a folder."""
    [checkout] = find_checkouts(folder)
    return checkout
