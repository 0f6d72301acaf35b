"""Uncertainty of a mean over articles, and of the difference between two systems on the same articles.

Intervals resample articles with replacement and take percentiles of the resampled means (Efron and Tibshirani 1993,
chapter 13), by `scipy.stats.bootstrap`. They are too narrow for a handful of articles (`benchmarks/paired_test.py` says
how much); whether a difference is significant is therefore asked of the randomisation test in `sign_flip.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from .sign_flip import sign_flip_p_value

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
    return _interval(_checked(values, "values"), confidence, resamples, seed)


def paired_difference(
    a: Sequence[float], b: Sequence[float], confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> PairedDifference:
    """
    The mean of paired differences, with a percentile bootstrap interval (the articles are resampled, and with each article
    both systems' values) and the p-value of [`~spectra_sum.evaluation.sign_flip.sign_flip_p_value`].

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
    low, high = _interval(differences, confidence, resamples, seed)
    return PairedDifference(
        mean=float(differences.mean()),
        low=low,
        high=high,
        p_value=sign_flip_p_value(differences, resamples, seed),
        articles=len(differences),
    )


def _checked(values: Sequence[float], name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{name} is empty; there is no mean over no articles.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a value that is not finite; leave out articles without a score.")
    return array


def _interval(values: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; choose a share between 0 and 1, such as 0.95.")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least 1 is needed.")
    if len(values) == 1:
        # scipy refuses a single observation; every resample of it is itself.
        return float(values[0]), float(values[0])
    interval = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=BATCH,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
