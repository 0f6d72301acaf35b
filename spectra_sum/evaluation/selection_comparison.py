"""Every way to select images, for the same summaries: relevance against diversity."""

from collections.abc import Collection, Sequence
from typing import Any

from spectra_sum.evaluation.scores import ArticleEmbeddings, score_images
from spectra_sum.evaluation.similarity import reselect
from spectra_sum.selection.methods import SELECTION_METHODS, SelectionSettings


def compare_selections(
    name: str,
    predictions: Sequence[dict[str, Any]],
    compared: ArticleEmbeddings,
    embeddings: ArticleEmbeddings,
    gold: Sequence[Sequence[int]],
    *,
    count: int,
    settings: SelectionSettings,
    relevance_threshold: float,
    seed: int,
    without_choice: Collection[int] = (),
) -> dict[str, dict[str, float]]:
    """
    Mean scores of the predictions' own selection and of every method of [`select`], for the same summaries.

    Args:
        name (`str`): What the own selection is called.
        predictions: In the records' order.
        compared (`ArticleEmbeddings`): What the methods compare: the sentences that images are to be relevant to, and
            all images.
        embeddings (`ArticleEmbeddings`): What is scored: the predicted summaries and the same images.
        gold: Per article the indices of its gold images.
        count (`int`): Images that each method selects.
        settings (`SelectionSettings`): The methods' parameters.
        relevance_threshold (`float`): The distance's relevance filter.
        seed (`int`): Of random selection.
        without_choice (`Collection[int]`, *optional*, defaults to `()`): As in [`score_articles`], for the own selection.

    Returns:
        By the selection's name its means as far as they are defined: image precision, MaxSim, CLIPScore, distances.
    """
    candidates = {name: predictions}
    for method in SELECTION_METHODS:
        if method != name:
            candidates[method] = reselect(method, predictions, compared, count=count, settings=settings, seed=seed)
    return {
        label: score_images(
            [prediction["selected"] for prediction in chosen],
            gold,
            embeddings=embeddings,
            relevance_threshold=relevance_threshold,
            without_choice=without_choice if label == name else (),
        ).means()
        for label, chosen in candidates.items()
    }
