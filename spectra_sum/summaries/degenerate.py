"""Summaries that repeat themselves: greedy and beam search can end in a loop (Holtzman et al., ICLR 2020).

The rule: a phrase of n words or punctuation marks stands in the summary at least three times, and its occurrences make up
more than half of it. n goes from 1 to `MOST_WORDS`; case does not count, and a summary of less than four words is too
short to tell.
"""

import re
from typing import NamedTuple

FEWEST_WORDS = 4
FEWEST_REPEATS = 3
SHARE = 0.5
# A loop of longer phrases would take more tokens than summaries have.
MOST_WORDS = 64
_WORD = re.compile(r"\w+|[^\w\s]")


class Repetition(NamedTuple):
    """The `phrase` that a summary repeats, and the `share` of the summary's words that are its occurrences, in (0, 1]."""

    phrase: str
    share: float

    def __str__(self) -> str:
        shown = self.phrase if len(self.phrase) <= 60 else f"{self.phrase[:60]}…"
        return f'"{shown}" again and again makes up {100 * self.share:.0f} % of it'


def repetition(summary: str) -> Repetition | None:
    """What makes a summary degenerate by the rule above; None where it is not.

    Of several phrases it is the one that makes up most of the summary, and of these the shortest: "a b" in "a b a b a b",
    and "a" in "a a a a a a".
    """
    words = _WORD.findall(summary.lower())
    if len(words) < FEWEST_WORDS:
        return None
    found = None
    for size in range(1, min(MOST_WORDS, len(words) // FEWEST_REPEATS) + 1):
        ends: dict[tuple[str, ...], int] = {}
        counts: dict[tuple[str, ...], int] = {}
        for start in range(len(words) - size + 1):
            phrase = tuple(words[start : start + size])
            # Occurrences must not overlap, or a word could count twice.
            if start >= ends.get(phrase, 0):
                counts[phrase] = counts.get(phrase, 0) + 1
                ends[phrase] = start + size
        phrase, count = max(counts.items(), key=lambda pair: pair[1])
        share = count * size / len(words)
        if count >= FEWEST_REPEATS and share > (found.share if found else SHARE):
            found = Repetition(" ".join(phrase), share)
    return found
