"""How good the probabilities of the images are, beyond the selection made of them: precision over k, and calibration.

Both read one probability per scored image and the indices of the gold images. An index beyond the scored images is a
gold image that the system did not score: it counts as gold, and can not be found.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PrecisionAtK:
    """
    Mean image precision of the first `k` images of the ranking by probability.

    Attributes:
        k (`int`): Length of the ranking's head, from 1.
        precision (`float`): Mean over `articles`, in [0, 1].
        articles (`int`): Articles with gold images: the same at every k.
        articles_with_k_images (`int`): Those among them with at least k scored images; the others have reached their
            last image before.
    """

    k: int
    precision: float
    articles: int
    articles_with_k_images: int


@dataclass(frozen=True)
class CalibrationPoint:
    """
    The images whose probability lies in [low, high), in the last bin [low, high].

    Attributes:
        low (`float`), high (`float`): Edges of the bin.
        probability (`float`): Mean probability of the bin's images.
        gold_share (`float`): Share of them that are gold.
        images (`int`): Their number, at least 1.
    """

    low: float
    high: float
    probability: float
    gold_share: float
    images: int


@dataclass(frozen=True)
class Calibration:
    """
    A reliability diagram as numbers.

    Attributes:
        points (`list[CalibrationPoint]`): The bins that hold images, in order of probability.
        expected_calibration_error (`float`): In [0, 1].
        images (`int`): Images in all bins together.
    """

    points: list[CalibrationPoint]
    expected_calibration_error: float
    images: int


def precision_over_k(
    probabilities: Sequence[Sequence[float | None]], gold: Sequence[Sequence[int]], max_k: int
) -> list[PrecisionAtK]:
    """
    Image precision of the k most probable images, for k = 1 … `max_k`.

    At k an article with N scored images has the precision |first min(k, N) ∩ gold| / min(k, N), as in `ip_at_k` of the
    metric `image_precision`. So the same articles stand behind every k, and the curve does not fall or rise because
    articles with few images drop out. An article with gold images of which none was scored has precision 0.

    Args:
        probabilities (`Sequence[Sequence[float]]`):
            Per article one probability per image, in the article's order; any finite scores will do, and None for an
            image that was not scored. Of equal
            ones the image that comes first in the article ranks first.
        gold (`Sequence[Sequence[int]]`):
            Per article the indices of the gold images; articles without any are left out.
        max_k (`int`):
            Largest k, at least 1.

    Returns:
        `list[PrecisionAtK]`, one entry per k.

    Raises:
        ValueError: No article has both gold and scored images, the two lists differ in length, a probability is not
            finite, a gold index is negative, or `max_k` is less than 1.
    """
    if max_k < 1:
        raise ValueError(f"precision_over_k: max_k must be at least 1, not {max_k}.")
    rankings = []
    for scores, wanted in _articles_with_gold("precision_over_k", probabilities, gold):
        scored = [index for index, score in enumerate(scores) if score is not None]
        ranked = sorted(scored, key=lambda index, scores=scores: -scores[index])
        rankings.append([index in wanted for index in ranked])
    return [
        PrecisionAtK(
            k,
            math.fsum(sum(found[:k]) / len(found[:k]) for found in rankings if found) / len(rankings),
            len(rankings),
            sum(len(found) >= k for found in rankings),
        )
        for k in range(1, max_k + 1)
    ]


def calibration(
    probabilities: Sequence[Sequence[float | None]], gold: Sequence[Sequence[int]], bins: int = 10
) -> Calibration:
    """
    Compares predicted probabilities with the share of images that are gold, in bins of equal width.

    Bin b of B holds the probabilities in [b / B, (b + 1) / B), the last one also 1. The expected calibration error is
    Σ_b n_b / n · |mean probability − share of gold| (Naeini et al., "Obtaining Well Calibrated Probabilities Using
    Bayesian Binning", AAAI 2015); empty bins add nothing. All images count alike, so articles with many weigh more.

    Args:
        probabilities (`Sequence[Sequence[float]]`):
            Per article one probability in [0, 1] per image, in the article's order; None for one that was not scored.
        gold (`Sequence[Sequence[int]]`):
            Per article the indices of the gold images; articles without any are left out, as it is unknown which of
            their images are relevant.
        bins (`int`, *optional*, defaults to `10`):
            Number of bins, at least 1.

    Returns:
        `Calibration`.

    Raises:
        ValueError: No article has both gold and scored images, the two lists differ in length, a probability lies
            outside of [0, 1], a gold index is negative, or `bins` is less than 1.
    """
    if bins < 1:
        raise ValueError(f"calibration: bins must be at least 1, not {bins}.")
    edges = [index / bins for index in range(bins + 1)]
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for scores, wanted in _articles_with_gold("calibration", probabilities, gold):
        for index, probability in enumerate(scores):
            if probability is None:
                continue
            if not 0.0 <= probability <= 1.0:
                raise ValueError(f"calibration: {probability} is no probability; it must lie in [0, 1].")
            members[bisect_right(edges, probability, hi=bins) - 1].append((probability, index in wanted))
    points = []
    for low, high, images in zip(edges, edges[1:], members, strict=False):
        if images:
            mean = math.fsum(probability for probability, _ in images) / len(images)
            share = sum(is_gold for _, is_gold in images) / len(images)
            points.append(CalibrationPoint(low, high, mean, share, len(images)))
    total = sum(point.images for point in points)
    error = math.fsum(point.images * abs(point.probability - point.gold_share) for point in points) / total
    return Calibration(points, error, total)


def _articles_with_gold(
    name: str, probabilities: Sequence[Sequence[float | None]], gold: Sequence[Sequence[int]]
) -> list[tuple[Sequence[float | None], set[int]]]:
    if len(probabilities) != len(gold):
        raise ValueError(f"{name}: {len(probabilities)} articles have probabilities, {len(gold)} have gold images.")
    for index, (scores, wanted) in enumerate(zip(probabilities, gold, strict=True)):
        if not all(score is None or math.isfinite(score) for score in scores):
            raise ValueError(f"{name}: article {index} has a probability that is not finite: {list(scores)}.")
        if any(image < 0 for image in wanted):
            raise ValueError(f"{name}: article {index} has a negative gold index: {list(wanted)}.")
    rows = [(scores, set(wanted)) for scores, wanted in zip(probabilities, gold, strict=True) if len(wanted)]
    if not any(score is not None for scores, _ in rows for score in scores):
        raise ValueError(f"{name}: no article has both gold images and probabilities; there is nothing to average.")
    return rows
