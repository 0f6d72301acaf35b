"""Paired differences between systems that were evaluated on the same articles."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..evaluation.bootstrap import PairedDifference, paired_difference
from ..evaluation.corpus_bleu import BLEU4, STATISTICS, bleu_of, statistics_table
from ..evaluation.sign_flip import swap_p_value
from .evaluation import Evaluation, EvaluationError
from .measurement import measured_by

SIGNIFICANCE_LEVEL = 0.05
RESAMPLES = 1000
NO_PAIR = "no article has this score from both systems"
NO_PART = "a part of it (ROUGE-L, MaxSim, image precision) is defined for no article"

# By system and score: the difference to the reference system in natural units, or why there is none.
Comparisons = dict[tuple[str, str], PairedDifference | str]


def find_reference(evaluations: Sequence[Evaluation], name: str | None) -> Evaluation:
    """
    The system that the others are compared with.

    Args:
        evaluations (`Sequence[Evaluation]`): The systems.
        name (`str`, *optional*): Its name; the first system without one.

    Raises:
        EvaluationError: No system has this name.
    """
    if name is None:
        return evaluations[0]
    for evaluation in evaluations:
        if evaluation.system == name:
            return evaluation
    known = ", ".join(repr(evaluation.system) for evaluation in evaluations)
    raise EvaluationError(f"no system is named {name!r}; the folders hold {known}.")


def compare_with(reference: Evaluation, evaluations: Iterable[Evaluation], scores: Sequence[str]) -> Comparisons:
    """
    Compares every other system of the same data with the reference system, on the articles that both scored.

    A score that different models measured is not compared; the reason names them.

    Args:
        reference (`Evaluation`): The reference system.
        evaluations (`Iterable[Evaluation]`): The systems; the reference among them is passed over.
        scores (`Sequence[str]`): Names of the scores. One that either system has not computed is left out.
    """
    comparisons: Comparisons = {}
    for evaluation in evaluations:
        if evaluation.system == reference.system or evaluation.articles_sha256 != reference.articles_sha256:
            continue
        for score in scores:
            if score in evaluation.scores and score in reference.scores:
                comparisons[evaluation.system, score] = _compare(evaluation, reference, score)
    return comparisons


def significant(comparison: PairedDifference | str | None) -> bool:
    """Whether the difference is there and significant at the 5 % level."""
    return isinstance(comparison, PairedDifference) and comparison.p_value < SIGNIFICANCE_LEVEL


def _compare(system: Evaluation, reference: Evaluation, score: str) -> PairedDifference | str:
    pairs_of_models = zip(measured_by(system, score), measured_by(reference, score), strict=True)
    apart = [f"{own} and {other}" for own, other in pairs_of_models if own != other]
    if apart:
        return f"measured with {', '.join(apart)}, respectively"
    if score == "mmae":
        return mmae_difference(system, reference)
    if score == BLEU4:
        return bleu_difference(system, reference)
    pairs = [
        (values[score], reference.per_article[article][score])
        for article, values in system.per_article.items()
        if values.get(score) is not None and reference.per_article.get(article, {}).get(score) is not None
    ]
    if not pairs:
        return NO_PAIR
    return paired_difference(*zip(*pairs, strict=True), resamples=RESAMPLES)


def bleu_difference(
    system: Evaluation, reference: Evaluation, resamples: int = RESAMPLES, seed: int = 0
) -> PairedDifference | str:
    """
    The difference in BLEU-4, which is no mean over articles: it is computed from the sums of each resample's counts, and for
    the p-value from those of the articles swapped between the systems (Koehn 2004; Riezler and Maxwell 2005).

    Args:
        system, reference, resamples, seed: As of [`mmae_difference`].

    Returns:
        The difference with its 95 % interval, or why there is none.
    """
    rows = [
        (values, other)
        for article, values in system.per_article.items()
        if (other := reference.per_article.get(article)) is not None
        and all(counts.get(name) is not None for counts in (values, other) for name in STATISTICS)
    ]
    if not rows:
        return NO_PAIR
    own, others = (
        statistics_table({name: [row[side][name] for row in rows] for name in STATISTICS}) for side in (0, 1)
    )
    generator, articles = np.random.default_rng(seed), len(rows)
    draws = (generator.integers(articles, size=articles) for _ in range(resamples))
    counts = np.array([np.bincount(drawn, minlength=articles) for drawn in draws])
    low, high = np.percentile(bleu_of(counts @ own) - bleu_of(counts @ others), [2.5, 97.5])
    both = np.concatenate([own, others])

    def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return bleu_of(both[first].sum(axis=1)) - bleu_of(both[second].sum(axis=1))

    return PairedDifference(
        mean=float(bleu_of(own.sum(axis=0)) - bleu_of(others.sum(axis=0))),
        low=float(low),
        high=float(high),
        p_value=swap_p_value(difference, articles, resamples, seed),
        articles=articles,
    )


def mmae_difference(
    system: Evaluation, reference: Evaluation, resamples: int = RESAMPLES, seed: int = 0
) -> PairedDifference | str:
    """
    The difference in MMAE, whose parts are means over the articles where they are defined.

    For the interval the articles are resampled, and with each article the parts of both systems and their gaps; for the
    p-value (of [`swap_p_value`]) they are swapped between the systems. MMAE is computed from each resample's means; a
    resample in which a part is defined for no article is left out. Where every article has all parts, this is
    [`paired_difference`] of the articles' MMAE.

    Args:
        system (`Evaluation`): A system.
        reference (`Evaluation`): Another on the same articles.
        resamples (`int`, *optional*, defaults to `1000`): Number of resamples, and of swaps.
        seed (`int`, *optional*, defaults to `0`): Seed of both.

    Returns:
        The difference with its 95 % interval, or why there is none.
    """
    # `evaluate`, which this module needs, takes seconds to import.
    from ..metrics.mmae.mmae import COMPONENTS, mmae_of

    articles = [article for article in system.per_article if article in reference.per_article]
    rows = [
        [evaluation.per_article[article].get(part) for evaluation in (system, reference) for part in COMPONENTS]
        for article in articles
    ]
    parts = np.array(rows, dtype=np.float64).reshape(len(articles), 2 * len(COMPONENTS))
    defined = ~np.isnan(parts)
    if not defined.any(axis=0).all():
        return NO_PART
    values = np.where(defined, parts, 0.0)
    generator = np.random.default_rng(seed)
    draws = (generator.integers(len(articles), size=len(articles)) for _ in range(resamples))
    # How often each resample holds each article stands for the resample: sums over it are then products.
    counts = np.array([np.ones(len(articles)), *(np.bincount(drawn, minlength=len(articles)) for drawn in draws)])
    sums, numbers = counts @ values, counts @ defined.astype(np.float64)
    complete = (numbers > 0).all(axis=1)
    means = sums[complete] / numbers[complete]
    own, other = (mmae_of(half) for half in np.split(means.T, 2))
    observed, resampled = (own - other)[0], (own - other)[1:]
    # Below one another, as `swap_p_value` numbers them.
    value_of, defined_of = (np.concatenate(np.split(half, 2, axis=1)) for half in (values, defined.astype(np.float64)))

    def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            one, two = (value_of[chosen].sum(axis=1) / defined_of[chosen].sum(axis=1) for chosen in (first, second))
        # Where a part is defined for no article, nothing is as extreme as what was found.
        return np.nan_to_num(mmae_of(one.T) - mmae_of(two.T))

    low, high = np.percentile(resampled, [2.5, 97.5])
    return PairedDifference(
        mean=float(observed),
        low=float(low),
        high=float(high),
        p_value=swap_p_value(difference, len(articles), resamples, seed),
        articles=len(articles),
    )
