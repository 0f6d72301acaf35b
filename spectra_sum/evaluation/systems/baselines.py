"""Summaries that need no language model: an article's beginning, the sentences that carry it, those nearest to the reference."""

from collections.abc import Sequence

from rouge_score import rouge_scorer

from spectra_sum.extraction.extract import Encoder, extract
from spectra_sum.sentences import split_sentences

SENTENCES = 3
"""Sentences of a baseline summary, as in lead-3."""


def article_sentences(article: str) -> list[str]:
    """The sentences of an article's body; its line breaks are no sentence ends."""
    return split_sentences(" ".join(article.split()))


def lead(article: str, count: int = SENTENCES) -> str:
    """The first `count` sentences of the body."""
    return " ".join(article_sentences(article)[:count])


def lead_words(article: str, count: int) -> str:
    """The first `count` words of the body."""
    return " ".join(article.split()[:count])


def extract_words(article: str, encoder: Encoder, count: int, method: str) -> str:
    """
    The sentences that carry the body, at most `count` words of them, as `summarize --mode extractive` takes them.

    Args:
        encoder (`TextEncoder`): Embeds the sentences.
        method (`str`): `"centroid"` or `"lexrank"`.
    """
    chosen = extract(article, encoder, count, lambda text: len(text.split()), method=method, headings=False)
    return " ".join(chosen.sentences)


def oracle(article: str, reference: Sequence[str], count: int = SENTENCES) -> str:
    """
    At most `count` sentences of the body that come nearest to the reference: an upper bound of extraction.

    Greedily, as Nallapati et al. (2017): the sentence is added that raises ROUGE-1 F1 + ROUGE-2 F1 the most, the first
    of equal ones, as long as one raises it. The sentences keep the body's order. Empty when no sentence shares a word
    with the reference.
    """
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2"], use_stemmer=True)
    target = "\n".join(reference)
    sentences = article_sentences(article)
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < count:
        scored = []
        for index in set(range(len(sentences))) - set(chosen):
            text = "\n".join(sentences[i] for i in sorted([*chosen, index]))
            scores = scorer.score(target, text)
            scored.append((scores["rouge1"].fmeasure + scores["rouge2"].fmeasure, -index))
        if not scored or max(scored)[0] <= best:
            break
        best, index = max(scored)
        chosen.append(-index)
    return " ".join(sentences[index] for index in sorted(chosen))
