"""Phrases of four words, and texts that repeat one.

Words are runs of letters and digits in lower case; a phrase is four of them in a row.
"""

import re
from collections import Counter

PHRASE = 4
# So often a phrase stands in a text that repeats itself.
TIMES = 3
WORD = re.compile(r"\w+")


def phrases(text: str) -> list[tuple[str, ...]]:
    """All phrases of a text, in order and as often as they stand in it."""
    words = WORD.findall(text.lower())
    return [tuple(words[start : start + PHRASE]) for start in range(len(words) - PHRASE + 1)]


def repeats_itself(text: str) -> bool:
    """Whether a phrase stands in the text three times or more."""
    return max(Counter(phrases(text)).values(), default=0) >= TIMES
