"""Where the sentences of a summary end: evidence is shown sentence by sentence."""

import re

# An end mark with its closing quotes, then space and something that can open a sentence; a line break; or a CJK mark.
_SENTENCE_END = re.compile(r"""(?<=[.!?…])["'”’»)\]]*(?=\s+["'“‘«(\[]*[^\W_a-z])|[。！？][」』”]*|(?=\n)""")
# A full stop after one of these, or after a single capital letter, ends no sentence.
_ABBREVIATION = re.compile(r"(?:^|[\s(\[\"'“‘])(?:Mr|Mrs|Ms|Dr|Prof|Rev|Gen|Sen|Gov|St|Jr|Sr|Fig|No|vs|[A-Z])\.$")
# What may stand before an abbreviation, the longest one, and its full stop.
_ABBREVIATION_LENGTH = 6


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """
    The sentences of a text as (start, end) character offsets, in order and without surrounding white space.

    A sentence ends at a line break, at a CJK full stop, and at `.`, `!`, `?` or `…` (closing quotes and brackets
    included) followed by white space and a capital letter or a digit, except after common titles (`Dr.`) and initials.
    """
    spans = []
    start = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]:
        if text[end : end + 1] not in ("", "\n") and _ABBREVIATION.search(
            text, max(start, end - _ABBREVIATION_LENGTH), end
        ):
            continue
        sentence = text[start:end]
        stripped = sentence.strip()
        if stripped:
            first = start + sentence.index(stripped)
            spans.append((first, first + len(stripped)))
        start = end
    return spans


__all__ = ["sentence_spans"]
