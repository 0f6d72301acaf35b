"""Uncertainty of a mean over articles, and of the difference between two systems on the same articles.

Both resample articles with replacement and take percentiles of the resampled means (Efron and Tibshirani 1993,
chapter 13), by `scipy.stats.bootstrap`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

# Resamples held in memory at once; ten thousand articles then take 8 MB.
BATCH = 100


@dataclass(frozen=True)
class PairedDifference:
    """
    Mean difference `a - b` of two systems over the articles that both scored.

    Args:
        mean (`float`): Mean of the differences.
        low (`float`): Lower end of its confidence interval.
        high (`float`): Upper end.
        p_value (`float`): Two-sided, of the hypothesis that the mean is zero; not corrected for several comparisons.
        articles (`int`): Number of pairs.
    """

    mean: float
    low: float
    high: float
    p_value: float
    articles: int


def mean_interval(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """
    Percentile bootstrap interval of the mean.

    Args:
        values (`Sequence[float]`): One value per article.
        confidence (`float`, *optional*, defaults to `0.95`): Share of resamples inside the interval, in (0, 1).
        resamples (`int`, *optional*, defaults to `1000`): Number of resamples.
        seed (`int`, *optional*, defaults to `0`): Seed of the resampling.

    Returns:
        The interval's two ends; both are the value itself when there is only one.

    Raises:
        ValueError: No values, a value that is not finite, or `confidence` or `resamples` out of range.
    """
    interval, _ = _resampled(_checked(values, "values"), confidence, resamples, seed)
    return interval


def paired_difference(
    a: Sequence[float], b: Sequence[float], confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> PairedDifference:
    """
    Paired bootstrap: the articles are resampled, and with each article both systems' values.

    The p-value is that of [`two_sided_p_value`].

    Args:
        a (`Sequence[float]`): Values of one system, one per article.
        b (`Sequence[float]`): Values of the other, in the same order of articles.
        confidence (`float`, *optional*, defaults to `0.95`): As in [`mean_interval`].
        resamples (`int`, *optional*, defaults to `1000`): As in [`mean_interval`].
        seed (`int`, *optional*, defaults to `0`): As in [`mean_interval`].

    Raises:
        ValueError: As in [`mean_interval`], or sequences of different lengths.
    """
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} values and b has {len(b)}; give both for the same articles.")
    differences = _checked(a, "a") - _checked(b, "b")
    (low, high), means = _resampled(differences, confidence, resamples, seed)
    return PairedDifference(
        mean=float(differences.mean()),
        low=low,
        high=high,
        p_value=two_sided_p_value(means, np.count_nonzero(differences), float(np.abs(differences).max())),
        articles=len(differences),
    )


def two_sided_p_value(resampled: np.ndarray, differing: int, scale: float) -> float:
    """
    The p-value of the hypothesis that a difference is zero, from its resamples.

    It is twice the smaller share of resamples on one side of zero, zero included, each count plus one (so that it is
    never 0). The bootstrap is over-confident on a handful of articles; the p-value is therefore kept at or above
    2^(1 - m) for m articles that differ, the smallest value that an exact sign-flip test can take.

    Args:
        resampled (`np.ndarray`): The difference in each resample, of shape (R,), R at least 1.
        differing (`int`): Number of articles on which the systems differ.
        scale (`float`): Size of the values that the difference is computed from; 1e-12 of it counts as zero.
    """
    # Differences that cancel leave a rounding error, which would put them on one side of zero.
    zero = 1e-12 * scale
    smaller_side = min(np.count_nonzero(resampled <= zero), np.count_nonzero(resampled >= -zero))
    bootstrap_p = 2 * (smaller_side + 1) / (len(resampled) + 1)
    return float(min(1.0, max(bootstrap_p, 2.0 ** (1 - differing))))


def _checked(values: Sequence[float], name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{name} is empty; there is no mean over no articles.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a value that is not finite; leave out articles without a score.")
    return array


def _resampled(
    values: np.ndarray, confidence: float, resamples: int, seed: int
) -> tuple[tuple[float, float], np.ndarray]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; choose a share between 0 and 1, such as 0.95.")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least 1 is needed.")
    if len(values) == 1:
        # scipy refuses a single observation; every resample of it is itself.
        return (float(values[0]), float(values[0])), values
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=BATCH,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = (float(result.confidence_interval.low), float(result.confidence_interval.high))
    return interval, result.bootstrap_distribution
