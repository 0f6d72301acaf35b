"""Means, shares of good ratings and agreement of the raters, per system and question (the paper's section 5.1)."""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import krippendorff

from .answers import Answer, FilteredAnswers, KeyEntry
from .questions import GOOD_RATING, QUESTIONS, RATING_LABELS

DEFINITIONS = {
    "mean, sd": "over all ratings of the question, not over items; sd with n - 1 in the denominator",
    "share_good": f"share of the ratings that are at least {GOOD_RATING}",
    "exact_agreement": "over all pairs of raters of the same item, pooled over the items: the share of pairs whose ratings "
    "are equal; an item with m raters gives m (m - 1) / 2 pairs, one with a single rater none",
    "within_one_agreement": "the same for pairs whose ratings differ by at most 1",
    "alpha": "Krippendorff's alpha for ordinal data over the same items, 1 perfect, 0 as by chance; null where no item has "
    "two ratings or all of them are equal",
}


@dataclass(frozen=True)
class QuestionScores:
    """
    The scores of one question, as [`DEFINITIONS`] says; shares in [0, 1].

    Attributes:
        mean (`float`, *optional*), sd (`float`, *optional*): Of the ratings; `None` without any, no `sd` of a single one.
        share_good (`float`, *optional*): Share of ratings ≥ 4; `None` without any.
        ratings (`int`), items (`int`), pairs (`int`): Numbers of ratings, of rated items, of pairs of raters.
        exact_agreement (`float`, *optional*), within_one_agreement (`float`, *optional*): `None` without pairs.
        alpha (`float`, *optional*): At most 1.
    """

    mean: float | None
    sd: float | None
    share_good: float | None
    ratings: int
    items: int
    pairs: int
    exact_agreement: float | None
    within_one_agreement: float | None
    alpha: float | None


def score_question(ratings: Mapping[str, Sequence[int]]) -> QuestionScores:
    """
    The scores of one question.

    Args:
        ratings (`Mapping[str, Sequence[int]]`): The ratings (1 to 5) that each item got.
    """
    values = [rating for item in ratings.values() for rating in item]
    distances = [abs(a - b) for item in ratings.values() for a, b in itertools.combinations(item, 2)]
    return QuestionScores(
        mean=statistics.fmean(values) if values else None,
        sd=statistics.stdev(values) if len(values) > 1 else None,
        share_good=sum(value >= GOOD_RATING for value in values) / len(values) if values else None,
        ratings=len(values),
        items=len(ratings),
        pairs=len(distances),
        exact_agreement=sum(d == 0 for d in distances) / len(distances) if distances else None,
        within_one_agreement=sum(d <= 1 for d in distances) / len(distances) if distances else None,
        alpha=ordinal_alpha(ratings),
    )


def ordinal_alpha(ratings: Mapping[str, Sequence[int]]) -> float | None:
    """Krippendorff's alpha for ordinal data, or `None` where it is undefined: fewer than two different ratings among the
    items that have at least two."""
    pairable = [item for item in ratings.values() if len(item) > 1]
    if len({rating for item in pairable for rating in item}) < 2:
        return None
    counts = [[item.count(value) for value in RATING_LABELS] for item in pairable]
    return float(
        krippendorff.alpha(value_counts=counts, value_domain=list(RATING_LABELS), level_of_measurement="ordinal")
    )


def analyse(filtered: FilteredAnswers, key: Mapping[str, KeyEntry]) -> dict[str, Any]:
    """
    The analysis of the answers that count.

    Returns:
        `systems` (by every system of the key in alphabetical order, also one of which no answer counts, and question, the
        fields of [`QuestionScores`]), `all_systems` (by question, over the items of all systems), `workers` (the checks of
        each), `dropped` and `definitions`.
    """
    systems = sorted({entry.system for entry in key.values() if entry.expected is None})
    return {
        "systems": {
            system: _scores([answer for answer in filtered.answers if key[answer.item_id].system == system])
            for system in systems
        },
        "all_systems": _scores(filtered.answers),
        "workers": {name: asdict(worker) for name, worker in filtered.workers.items()},
        "dropped": filtered.dropped,
        "definitions": DEFINITIONS,
    }


def _scores(answers: Sequence[Answer]) -> dict[str, dict[str, Any]]:
    scores = {}
    for question in QUESTIONS:
        ratings = defaultdict(list)
        for answer in answers:
            ratings[answer.item_id].append(answer.ratings[question.name])
        scores[question.name] = asdict(score_question(ratings))
    return scores
