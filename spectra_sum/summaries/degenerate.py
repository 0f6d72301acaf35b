"""Summaries that repeat themselves: greedy and beam search can end in a loop (Holtzman et al., ICLR 2020).

The rule: a phrase of n words or punctuation marks stands in the summary at least three times, and its occurrences make up
more than half of it. n goes from 1 to `MOST_WORDS`; case does not count, and a summary of less than four words is too
short to tell.
"""

import itertools
import re
from collections.abc import Iterable
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
    starts = list(range(len(words)))
    for size in range(1, min(MOST_WORDS, len(words) // FEWEST_REPEATS) + 1):
        places: dict[tuple[str, ...], list[int]] = {}
        for start in starts:
            if start + size <= len(words):
                places.setdefault(tuple(words[start : start + size]), []).append(start)
        # A longer phrase begins with one of this size and is there no more often: what is rare now stays rare.
        places = {phrase: there for phrase, there in places.items() if len(there) >= FEWEST_REPEATS}
        if not places:
            break
        counts = {phrase: _apart(there, size) for phrase, there in places.items()}
        phrase, count = max(counts.items(), key=lambda pair: pair[1])
        share = count * size / len(words)
        if count >= FEWEST_REPEATS and share > (found.share if found else SHARE):
            found = Repetition(" ".join(phrase), share)
        starts = sorted(itertools.chain.from_iterable(places.values()))
    return found


def _apart(starts: Iterable[int], size: int) -> int:
    """How many of a phrase's occurrences do not overlap, or a word could count twice."""
    count = end = 0
    for start in starts:
        if start >= end:
            count += 1
            end = start + size
    return count
