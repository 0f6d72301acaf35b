"""How summaries repeat themselves, and how much of them their articles do not say: by phrases of four words."""

from collections.abc import Sequence

from spectra_sum.evaluation.scores import ArticleScores
from spectra_sum.extraction.phrases import WORD, phrases, repeats_itself


def novelty(summary: str, body: str) -> float | None:
    """The share, in [0, 1], of a summary's phrases that its article's body does not have; None for one without phrases."""
    own = phrases(summary)
    if not own:
        return None
    known = set(phrases(body))
    return sum(phrase not in known for phrase in own) / len(own)


def text_statistics(summaries: Sequence[str], bodies: Sequence[str] | None) -> ArticleScores:
    """
    Figures of summaries that need no reference.

    Args:
        summaries, bodies (`Sequence[str]`): Of the same articles; no bodies where the texts are no summaries.

    Returns:
        `words` (how many a summary has), `repeats_itself` (0 or 1) and, with bodies, `novelty` of every article.
    """
    values: dict[str, list[float | None]] = {
        "words": [float(len(WORD.findall(summary))) for summary in summaries],
        "repeats_itself": [float(repeats_itself(summary)) for summary in summaries],
    }
    if bodies is not None:
        values["novelty"] = [novelty(summary, body) for summary, body in zip(summaries, bodies, strict=True)]
    return ArticleScores(values)
