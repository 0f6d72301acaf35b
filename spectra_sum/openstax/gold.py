"""Weak labels of the gold images: the figures whose text is nearest to the summary."""

from collections.abc import Sequence

from rouge_score import rouge_scorer

KINDS = ("rouge1", "rouge2", "rougeL")


def gold_figures(texts: Sequence[str], summary: str) -> list[int]:
    """
    Ranks figures by ROUGE of their text against the reference summary, as Zhu et al. (2020) rank captions: the sum of ROUGE-1,
    ROUGE-2 and ROUGE-L F1 with stemming.

    Args:
        texts (`Sequence[str]`): Each figure's caption, or else its alternative text.
        summary (`str`): The reference summary.

    Returns:
        `list[int]`: The places of the best, in order: one of up to three figures, two of up to six, else three.
    """
    scorer = rouge_scorer.RougeScorer(list(KINDS), use_stemmer=True)
    scores = [sum(score.fmeasure for score in scorer.score(summary, text).values()) for text in texts]
    count = 1 if len(texts) <= 3 else 2 if len(texts) <= 6 else 3
    return sorted(sorted(range(len(texts)), key=lambda place: -scores[place])[:count])
