"""A long document in parts that a model can read, whose summaries are read in the place of the document."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from ..documents.parts import Document
from ..extraction.body_sentences import BodySentence, body_sentences, joined

Size = Callable[[str], int]


class Section(NamedTuple):
    """
    A part of a body.

    Attributes:
        heading (`str`): The heading that it stands under; empty before the first one.
        text (`str`): Its paragraphs, parted by an empty line.
    """

    heading: str
    text: str

    @property
    def body(self) -> str:
        """The text under its heading."""
        return f"{self.heading}\n\n{self.text}" if self.heading else self.text


def sections(body: str, budget: int, size: Size) -> list[Section]:
    """
    Parts a body at its headings, and a part that is too long into consecutive ones of about the same length, at the ends of
    sentences. A sentence that is too long alone is parted between words.

    Args:
        body (`str`): The text; its paragraphs are parted by an empty line.
        budget (`int`): Most that a part may have, its heading included.
        size (`Callable`): Counts a text, in tokens or words, as the budget is counted.
    """
    sentences = body_sentences(body)
    found: list[Section] = []
    for _, group in groupby(range(len(sentences)), key=lambda index: sentences[index].heading):
        left = list(group)
        whole = size(_section(sentences, left).body)
        target = whole / math.ceil(whole / budget)
        while left:
            taken = 1
            while taken < len(left) and size(_section(sentences, left[:taken]).body) < target:
                taken += 1
            if taken > 1 and size(_section(sentences, left[:taken]).body) > budget:
                taken -= 1
            found += _parted(_section(sentences, left[:taken]), budget, size)
            left = left[taken:]
    return found


def _section(sentences: list[BodySentence], indices: list[int]) -> Section:
    return Section(sentences[indices[0]].heading, joined(sentences, indices, headings=False))


def _parted(section: Section, budget: int, size: Size) -> list[Section]:
    """The section, or pieces of its words where it is too long."""
    words = section.text.split()
    if len(words) == 1 or size(section.body) <= budget:
        return [section]
    middle = len(words) // 2
    halves = (" ".join(words[:middle]), " ".join(words[middle:]))
    return [piece for half in halves for piece in _parted(Section(section.heading, half), budget, size)]


def summarized_by_sections(
    document: Document, budget: int, size: Size, most: int, summarize: Callable[[Sequence[Document]], list[str]]
) -> tuple[str, int]:
    """
    The summaries of a document's parts, each under its heading, and how many parts there were. Where they are too long
    together they are parted and summarized in their turn, as long as that makes them shorter. A part that is no longer than
    a summary may be stays as it is.

    Args:
        document (`Document`): One whose body is over the budget.
        budget (`int`): Most that a part, and the result, may have.
        size (`Callable`): Counts a text, as the budget is counted.
        most (`int`): Most of a summary, counted so, too.
        summarize (`Callable`): Parts, as documents without images → their summaries.
    """
    body, count = document.body, 0
    while True:
        parts = sections(body, budget, size)
        count = count or len(parts)
        long = [place for place, part in enumerate(parts) if size(part.text) > most]
        given = [replace(document, body=parts[place].body, images=[]) for place in long]
        for place, text in zip(long, summarize(given), strict=True):
            parts[place] = parts[place]._replace(text=text)
        shorter = _under_headings(parts)
        if size(shorter) <= budget or size(shorter) >= size(body):
            return shorter, count
        body = shorter


def _under_headings(parts: Sequence[Section]) -> str:
    lines: list[str] = []
    for heading, group in groupby(parts, key=lambda part: part.heading):
        lines += ([heading] if heading else []) + [part.text for part in group]
    return "\n\n".join(lines)
