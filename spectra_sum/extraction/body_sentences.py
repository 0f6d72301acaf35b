"""A document's body as sentences that know their paragraph and their heading."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from ..sentences import split_sentences

# Longer lines without an end mark are text that lacks one.
_MOST_HEADING_WORDS = 12
_END_MARK = re.compile(r"[.!?…:;,。！？]['\"”’»)\]]*$")
_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class BodySentence:
    """
    A sentence of a body.

    Attributes:
        text (`str`): The sentence.
        paragraph (`int`): Its paragraph, from 0.
        heading (`str`): The heading that it stands under; empty before the first one.
    """

    text: str
    paragraph: int
    heading: str = ""


def body_sentences(body: str) -> list[BodySentence]:
    """
    The sentences of a body, in order. Headings are no sentences: a heading is a paragraph of one line of at most twelve
    words that no mark ends and that another paragraph follows.

    Args:
        body (`str`): The text; its paragraphs are parted by an empty line.
    """
    paragraphs = [paragraph.strip() for paragraph in _PARAGRAPH_BREAK.split(body) if paragraph.strip()]
    sentences, heading = [], ""
    for number, paragraph in enumerate(paragraphs):
        if number + 1 < len(paragraphs) and _is_heading(paragraph):
            heading = paragraph
            continue
        sentences += [BodySentence(text, number, heading) for text in split_sentences(paragraph)]
    return sentences


def joined(sentences: list[BodySentence], chosen: Collection[int], *, headings: bool = True) -> str:
    """
    The chosen sentences in their order: those of a paragraph on one line, paragraphs parted by an empty line, each
    heading before the first chosen sentence under it.

    Args:
        sentences (`list[BodySentence]`): Of [`body_sentences`].
        chosen (`Collection[int]`): Their indices.
        headings (`bool`, *optional*, defaults to `True`): Whether headings are written.
    """
    parts: list[str] = []
    last = None
    for index in sorted(chosen):
        sentence = sentences[index]
        if last is not None and sentence.paragraph == last.paragraph:
            parts[-1] += f" {sentence.text}"
        else:
            if headings and sentence.heading and (last is None or sentence.heading != last.heading):
                parts.append(sentence.heading)
            parts.append(sentence.text)
        last = sentence
    return "\n\n".join(parts)


def _is_heading(paragraph: str) -> bool:
    return "\n" not in paragraph and len(paragraph.split()) <= _MOST_HEADING_WORDS and not _END_MARK.search(paragraph)
