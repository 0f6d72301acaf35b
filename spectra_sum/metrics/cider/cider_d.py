"""
CIDEr-D of texts given as lists of words (Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description
Evaluation", CVPR 2015, arXiv:1411.5726; equations are numbered as there).

As in the authors' code, and other than in equation 1, a term's frequency is its count and not its share of the text's
n-grams: with shares, what equation 4 clips would depend on the lengths of the texts.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

Ngram = tuple[str, ...]


class Weighted(NamedTuple):
    """A text as the measure sees it."""

    vectors: list[dict[Ngram, float]]
    """g^n for n = 1, 2, …: each n-gram's count times its inverse document frequency."""
    norms: list[float]
    """‖g^n‖ for n = 1, 2, …"""
    length: int
    """In words."""


def cider_d(
    candidates: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    max_n: int = 4,
    sigma: float = 6.0,
) -> list[float]:
    """
    Each candidate's CIDEr-D (equation 5): the mean over n = 1 … `max_n` of [`similarities`], averaged over the article's
    references, times 10. In [0, 10].

    A candidate without words scores 0, and a reference without words adds 0 to the average. With one article alone all
    scores are 0, as all of its n-grams stand in all articles.

    Args:
        candidates (`Sequence[Sequence[str]]`): The words of each article's candidate.
        references (`Sequence[Sequence[Sequence[str]]]`): The words of each article's references, at least one.
        max_n (`int`, *optional*, defaults to 4): The longest n-grams.
        sigma (`float`, *optional*, defaults to 6.0): Spread of the penalty for another length, in words.

    Raises:
        ValueError: There are more or fewer candidates than articles with references, or an article has no reference.
    """
    frequencies = document_frequencies(references, max_n)
    scores = []
    for index, (candidate, own) in enumerate(zip(candidates, references, strict=True)):
        if not own:
            raise ValueError(f"cider_d: article {index} has no reference.")
        weighted = weigh(candidate, frequencies, len(references), max_n)
        total = sum(
            sum(similarities(weighted, weigh(reference, frequencies, len(references), max_n), sigma))
            for reference in own
        )
        scores.append(10 * total / (max_n * len(own)))
    return scores


def document_frequencies(references: Sequence[Sequence[Sequence[str]]], max_n: int) -> Counter[Ngram]:
    """In how many articles an n-gram stands, in one of the references or in several: the denominator in equation 1."""
    return Counter(
        ngram
        for own in references
        for ngram in set().union(*(counts for reference in own for counts in count_ngrams(reference, max_n)))
    )


def count_ngrams(words: Sequence[str], max_n: int) -> list[Counter[Ngram]]:
    """h of equation 1, for n = 1 … `max_n`."""
    return [Counter(zip(*(words[start:] for start in range(n)), strict=False)) for n in range(1, max_n + 1)]


def weigh(words: Sequence[str], frequencies: Counter[Ngram], articles: int, max_n: int) -> Weighted:
    """
    The vectors g^n of equation 1, with log(`articles` / frequency) as the inverse document frequency; an n-gram that no
    reference has counts as one that stands in a single article.
    """
    vectors = [
        {ngram: count * math.log(articles / max(1, frequencies[ngram])) for ngram, count in counts.items()}
        for counts in count_ngrams(words, max_n)
    ]
    norms = [math.sqrt(sum(value**2 for value in vector.values())) for vector in vectors]
    return Weighted(vectors, norms, len(words))


def similarities(candidate: Weighted, reference: Weighted, sigma: float) -> list[float]:
    """
    Equation 4 for one reference and n = 1, 2, …, without the factor 10: the cosine of g^n, where no component of the
    candidate counts for more than the reference's (so that repeating a word gains nothing), times a Gaussian of the
    difference in length. 0 where one of the vectors is.
    """
    penalty = math.exp(-((candidate.length - reference.length) ** 2) / (2 * sigma**2))
    result = []
    for ours, theirs, our_norm, their_norm in zip(
        candidate.vectors, reference.vectors, candidate.norms, reference.norms, strict=True
    ):
        clipped = sum(min(weight, theirs[ngram]) * theirs[ngram] for ngram, weight in ours.items() if ngram in theirs)
        norms = our_norm * their_norm
        result.append(penalty * clipped / norms if norms else 0.0)
    return result
