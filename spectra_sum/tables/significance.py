"""Paired differences between systems that were evaluated on the same articles."""

from collections.abc import Iterable, Sequence

from ..bootstrap import PairedDifference, paired_difference
from .evaluation import Evaluation, EvaluationError

SIGNIFICANCE_LEVEL = 0.05
RESAMPLES = 1000
NO_PAIR = "no article has this score from both systems"
WHOLE_SET_ONLY = "computed from the means of the whole set, not per article: no paired test"

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

    Args:
        reference (`Evaluation`): The reference system.
        evaluations (`Iterable[Evaluation]`): The systems; the reference among them is passed over.
        scores (`Sequence[str]`): Names of the scores. One that either system has not computed is left out.
    """
    comparisons: Comparisons = {}
    for evaluation in evaluations:
        if evaluation.system == reference.system or evaluation.ids_sha256 != reference.ids_sha256:
            continue
        for score in scores:
            if score in evaluation.scores and score in reference.scores:
                comparisons[evaluation.system, score] = _compare(evaluation, reference, score)
    return comparisons


def significant(comparison: PairedDifference | str | None) -> bool:
    """Whether the difference is there and significant at the 5 % level."""
    return isinstance(comparison, PairedDifference) and comparison.p_value < SIGNIFICANCE_LEVEL


def _compare(system: Evaluation, reference: Evaluation, score: str) -> PairedDifference | str:
    if score == "mmae":
        return WHOLE_SET_ONLY
    pairs = [
        (values[score], reference.per_article[article][score])
        for article, values in system.per_article.items()
        if values.get(score) is not None and reference.per_article.get(article, {}).get(score) is not None
    ]
    if not pairs:
        return NO_PAIR
    return paired_difference(*zip(*pairs, strict=True), resamples=RESAMPLES)
