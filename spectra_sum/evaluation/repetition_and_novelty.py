"""How summaries repeat themselves, and how much of them their articles do not say: by phrases of four words.

Words are runs of letters and digits in lower case; a phrase is four of them in a row.
"""

import re
from collections import Counter
from collections.abc import Sequence

from spectra_sum.evaluation.scores import ArticleScores

PHRASE = 4
# So often a phrase stands in a summary that repeats itself.
TIMES = 3
_WORD = re.compile(r"\w+")


def phrases(text: str) -> list[tuple[str, ...]]:
    """All phrases of a text, in order and as often as they stand in it."""
    words = _WORD.findall(text.lower())
    return [tuple(words[start : start + PHRASE]) for start in range(len(words) - PHRASE + 1)]


def repeats_itself(summary: str) -> bool:
    """Whether a phrase stands in the summary three times or more."""
    return max(Counter(phrases(summary)).values(), default=0) >= TIMES


def novelty(summary: str, body: str) -> float | None:
    """The share, in [0, 1], of a summary's phrases that its article's body does not have; None for one without phrases."""
    own = phrases(summary)
    if not own:
        return None
    known = set(phrases(body))
    return sum(phrase not in known for phrase in own) / len(own)


def text_statistics(summaries: Sequence[str], bodies: Sequence[str]) -> ArticleScores:
    """
    Figures of summaries that need no reference.

    Args:
        summaries, bodies (`Sequence[str]`): Of the same articles.

    Returns:
        `words` (how many a summary has), `repeats_itself` (0 or 1) and `novelty` of every article.
    """
    return ArticleScores(
        {
            "words": [float(len(_WORD.findall(summary))) for summary in summaries],
            "repeats_itself": [float(repeats_itself(summary)) for summary in summaries],
            "novelty": [novelty(summary, body) for summary, body in zip(summaries, bodies, strict=True)],
        }
    )
