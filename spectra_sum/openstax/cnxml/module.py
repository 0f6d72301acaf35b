"""A module of CNXML: its title, its body, the summary at its end, and its figures."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from xml.etree.ElementTree import Element

from spectra_sum.openstax.cnxml.end_matter import is_left_out, is_summary
from spectra_sum.openstax.cnxml.mathml import linear, superscript
from spectra_sum.openstax.cnxml.references import References, kinds_of, spoken
from spectra_sum.openstax.cnxml.xml_reading import CNXML, MATHML, local_name

# Elements that begin a paragraph of their own, unless they say that they stand in a line.
_BLOCKS = {
    "definition",
    "div",
    "example",
    "item",
    "list",
    "note",
    "para",
    "preformat",
    "proof",
    "quote",
    "rule",
    "section",
    "statement",
}
# Left by line breaks and markup of the source; not before ".5".
_SPACE_BEFORE_STOP = re.compile(r" (?=[,;]|\.(?!\d))")


class FigureSource(NamedTuple):
    """
    A figure as the module has it.

    Attributes:
        ids (`list[str]`): Its id; the first part of a figure of several has the whole's, too.
        address (`str`): The image file's address, relative to the module's folder; `""` if there is no image.
        alt (`str`): Its alternative text.
        caption (`Element`, *optional*): Its caption, or that of the whole.
    """

    ids: list[str]
    address: str
    alt: str
    caption: Element | None


class Module:
    """
    A module.

    Args:
        name (`str`): Its id.
        root (`Element`): Its root element.

    Attributes:
        has_summary (`bool`): Whether the authors sum up at its end.
        figures (`list[FigureSource]`): The figures of its body, in their order.
    """

    def __init__(self, name: str, root: Element):
        self.name = name
        self._root = root
        self._content = [element for element in root if local_name(element) == "content"]
        self._summaries = [element for element in root.iter(f"{{{CNXML}}}section") if is_summary(element)]
        self._kinds = kinds_of(root)
        self.has_summary = bool(self._summaries)
        self.figures = [figure for content in self._content for figure in _figures(content)]

    @property
    def title(self) -> str:
        """The title on one line."""
        found = self._root.find(f"{{{CNXML}}}title")
        return "" if found is None else self.line(found, {})

    def body(self, numbers: Mapping[str, int]) -> list[str]:
        """
        The paragraphs of the body: paragraphs, list items and quotations, without headings.

        Args:
            numbers (`Mapping[str, int]`): By the id of a figure of the article: its number, from 1.
        """
        references = self._references(numbers)
        return [text for content in self._content for text in _paragraphs(content, references)]

    def summary(self, numbers: Mapping[str, int]) -> list[str]:
        """The paragraphs and list items of the summary; arguments as in [`Module.body`]."""
        references = self._references(numbers)
        return [text for section in self._summaries for text in _paragraphs(section, references)]

    def line(self, element: Element, numbers: Mapping[str, int]) -> str:
        """An element's text on one line; arguments as in [`Module.body`]."""
        return _one_line([_inner(element, self._references(numbers))])

    def _references(self, numbers: Mapping[str, int]) -> References:
        return References(self.name, self._kinds, numbers)


def _paragraphs(element: Element, references: References) -> Iterator[str]:
    pieces = [element.text]
    for child in element:
        # A footnote or a picture in a line does not end its paragraph.
        if _is_block(child) or (is_left_out(child) and local_name(child) not in ("footnote", "media")):
            if text := _one_line(pieces):
                yield text
            pieces = []
            if not is_left_out(child):
                yield from _paragraphs(child, references)
        else:
            pieces.append(_inline(child, references))
        pieces.append(child.tail)
    if text := _one_line(pieces):
        yield text


def _is_block(element: Element) -> bool:
    return local_name(element) in _BLOCKS and element.get("display") != "inline"


def _inline(element: Element, references: References) -> str:
    if element.tag == f"{{{MATHML}}}math":
        return linear(element)
    name = local_name(element)
    if is_left_out(element):
        return ""
    if name in ("newline", "space"):
        return " "
    inner = _inner(element, references)
    if name == "sup":
        return superscript(inner) or inner
    if name == "link" and not inner.strip():
        return references.text(element)
    return f" {inner} " if name in ("item", "meaning", "para") else inner


def _inner(element: Element, references: References) -> str:
    pieces = [element.text, *(piece for child in element for piece in (_inline(child, references), child.tail))]
    return "".join(piece or "" for piece in pieces)


def _one_line(pieces: list[str | None]) -> str:
    text = " ".join("".join(piece or "" for piece in pieces).split())
    return spoken(_SPACE_BEFORE_STOP.sub("", text))


def _figures(element: Element) -> Iterator[FigureSource]:
    for child in element:
        name = local_name(child)
        if name in ("figure", "subfigure"):
            parts = list(child.iter(f"{{{CNXML}}}subfigure"))
            caption = child.find(f"{{{CNXML}}}caption")
            own = FigureSource([child.get("id", "")], *_image(child), caption)
            if not parts:
                yield own
            for place, part in enumerate(parts):
                inner = part.find(f"{{{CNXML}}}caption")
                ids = [part.get("id", ""), *(own.ids if place == 0 else [])]
                yield FigureSource(ids, *_image(part), caption if inner is None else inner)
        elif not is_left_out(child):
            yield from _figures(child)


def _image(figure: Element) -> tuple[str, str]:
    """The address of the first image that is not only for print, and its alternative text."""
    for media in figure.iter(f"{{{CNXML}}}media"):
        images = [image for image in media.iter(f"{{{CNXML}}}image") if image.get("for") != "pdf"]
        if images:
            return images[0].get("src", ""), " ".join(media.get("alt", "").split())
    return "", ""
