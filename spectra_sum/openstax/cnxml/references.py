"""What stands in the text where the source links to a figure, a table or another section."""

import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element

from spectra_sum.openstax.cnxml.xml_reading import local_name

# Characters that no text has stand for what is not in the article, until the sentence around them is known.
_NOUNS = {"\ufdd0": "figure", "\ufdd1": "table", "\ufdd2": "equation", "\ufdd3": "example", "\ufdd4": "section"}
_MARKS = {noun: mark for mark, noun in _NOUNS.items()}
_ANY = f"[{''.join(_NOUNS)}]"
_ASIDE = re.compile(
    rf"\s*[(\[](?=[^()\[\]]*{_ANY})(?:{_ANY}|[\s,;:.–—-]|\b(?:see|also|and|or|as|in|cf|e\.g|shown|above|below)\b)*[)\]]",
    re.IGNORECASE,
)
_SEVERAL = re.compile(rf"({_ANY})(?:(?:\s*,)?\s*(?:and|or|to|through|–|,)\s*\1)+")
_MARK = re.compile(rf"(?P<before>^|[.!?]\s+)?(?P<article>\b[Tt]he\s+)?(?P<mark>{_ANY})(?P<several>s?)")


class References:
    """
    The text of links.

    Args:
        module (`str`): The module's id.
        kinds (`Mapping[str, str]`): By the id of an element of the module: its name.
        numbers (`Mapping[str, int]`): By the id of a figure of the article: its number, from 1.
    """

    def __init__(self, module: str, kinds: Mapping[str, str], numbers: Mapping[str, int]):
        self.module = module
        self.kinds = kinds
        self.numbers = numbers

    def text(self, link: Element) -> str:
        """What a link without a text of its own says: `Figure N`, nothing, or a mark for [`spoken`]."""
        target, document = link.get("target-id", ""), link.get("document", "") or self.module
        if not target:
            return _MARKS["section"] if link.get("document") else ""
        if document != self.module:
            return _MARKS[_likely(target)]
        if target in self.numbers:
            return f"Figure {self.numbers[target]}"
        kind = self.kinds.get(target, "")
        return _MARKS[{"subfigure": "figure"}.get(kind, kind if kind in _MARKS else "section")]


def spoken(text: str) -> str:
    """
    A text without marks: an aside that says nothing else ("(see Table 2)") is left out, any other one becomes a noun ("the
    table").
    """
    return _MARK.sub(_noun, _SEVERAL.sub(r"\1s", _ASIDE.sub("", text)))


def kinds_of(root: Element) -> dict[str, str]:
    """By the id of an element: its name."""
    return {element.get("id", ""): local_name(element) for element in root.iter()}


def _likely(target: str) -> str:
    """What an id of another module stands for, by its letters."""
    lowered = target.lower()
    kinds = {"fig": "figure", "tab": "table", "eq": "equation", "example": "example"}
    return next((kind for letters, kind in kinds.items() if letters in lowered), "section")


def _noun(match: re.Match) -> str:
    noun = _NOUNS[match["mark"]] + match["several"]
    article = match["article"] or ("the " if noun != "section" else "another ")
    if match["before"] is not None:
        article = article[0].upper() + article[1:]
    return (match["before"] or "") + article + noun
