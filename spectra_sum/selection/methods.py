"""The ways to select images by name, for comparison with the visual relevance predictor; all of them read a summary."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spectra_sum.selection.dpp import (
    check_images,
    check_numbers,
    dpp_marginals,
    log_quality,
    relevance_scores,
    similarity_kernel,
)
from spectra_sum.selection.greedy_map import greedy_map
from spectra_sum.selection.mmr import maximal_marginal_relevance
from spectra_sum.selection.ranking import ranked

SELECTION_METHODS = ("teacher", "dpp-map", "mmr", "clip", "random")


@dataclass(frozen=True)
class SelectionSettings:
    """The numbers of the selection methods; the DPP's defaults are those of the teacher (§5).

    Args:
        beta (`float`, *optional*, defaults to `20.0`): §5, β, the weight of relevance in quality (teacher, dpp-map).
        sigma (`float`, *optional*, defaults to `0.8`): §5, σ, the width of the similarity kernel (teacher, dpp-map).
        kappa (`float`, *optional*, defaults to `3.0`): §5, κ, the expected size of the DPP's set (teacher).
        epsilon (`float`, *optional*, defaults to `1e-6`): §5, ε, relative to the mean eigenvalue (teacher).
        mmr_trade_off (`float`, *optional*, defaults to `0.5`): λ of maximal marginal relevance in [0, 1]; 1 is
            relevance alone. The default weighs both equally, as is usual; it is not tuned.

    Raises:
        ValueError: a number out of its range.
    """

    beta: float = 20.0
    sigma: float = 0.8
    kappa: float = 3.0
    epsilon: float = 1e-6
    mmr_trade_off: float = 0.5

    def __post_init__(self):
        check_numbers(self.beta, self.sigma, self.kappa, self.epsilon)
        if not 0 <= self.mmr_trade_off <= 1:
            raise ValueError(f"mmr_trade_off must be in [0, 1], got {self.mmr_trade_off}")


@dataclass(frozen=True)
class Selected:
    """An article's selection.

    Args:
        indices (`list[int]`): the selected images, best first.
        scores (`list[float]`): one per image of the article, in its order; what they are is the method's (see
            [`select`]).
    """

    indices: list[int]
    scores: list[float]


def select(
    method: str,
    image_embeds: Tensor,
    sentence_embeds: Tensor,
    *,
    count: int,
    settings: SelectionSettings,
    seed: int,
) -> Selected:
    """Select images of one article by their embeddings and those of a summary's sentences.

    Every method selects min(count, N) images, and takes equal ones (to nine decimals) in the article's order. Images
    are relevant by their largest cosine over the sentences, or all by 0 where the summary has none: the teacher,
    dpp-map and mmr then go by diversity alone, clip by the article's order.

    - `"teacher"`: the largest marginals of the DPP (§5); scores are the marginals, in [0, 1].
    - `"dpp-map"`: [`greedy_map`] of the DPP. Once no image left has a gain (copies of selected ones), the rest of
      the count is filled by relevance. Scores are the gains relative to the first image's, in [0, 1].
    - `"mmr"`: [`maximal_marginal_relevance`]; scores are its own, in [-1, 1].
    - `"clip"`: the most relevant; scores are the relevances, in [-1, 1].
    - `"random"`: by chance; scores are uniform draws, in [0, 1).

    Args:
        method (`str`): one of `SELECTION_METHODS`.
        image_embeds (`torch.Tensor` of shape `(N, d)`): L2-normalised, from a dual encoder; N may be 0.
        sentence_embeds (`torch.Tensor` of shape `(S, d)`): L2-normalised, from the same dual encoder; S may be 0.
        count (`int`): how many images, at least 1.
        settings (`SelectionSettings`): the methods' numbers.
        seed (`int`): of `"random"`; articles with the same seed and number of images get the same draws.

    Returns:
        `Selected`: empty for an article without images.

    Raises:
        ValueError: an unknown method, a count under 1, or embeddings whose shapes do not agree, that are not finite
            or not L2-normalised.
    """
    for name, embeds in (("image_embeds", image_embeds), ("sentence_embeds", sentence_embeds)):
        if embeds.ndim != 2:
            raise ValueError(f"{name} must have the shape (number, width), got {tuple(embeds.shape)}")
    if len(image_embeds) and len(sentence_embeds) and image_embeds.shape[1] != sentence_embeds.shape[1]:
        raise ValueError(
            "image_embeds and sentence_embeds must come from one dual encoder, "
            f"but their widths are {image_embeds.shape[1]} and {sentence_embeds.shape[1]}"
        )
    if not ((sentence_embeds.double().square().sum(-1) - 1).abs() < 0.02).all():
        raise ValueError("sentence_embeds holds sentences that are not finite or not L2-normalised; normalise them")
    sentence_mask, image_mask = (
        torch.ones(1, len(embeds), dtype=torch.bool, device=embeds.device)
        for embeds in (sentence_embeds, image_embeds)
    )
    relevance = relevance_scores(sentence_embeds[None], sentence_mask, image_embeds[None], image_mask)[0]
    return select_by_relevance(method, image_embeds, relevance, count=count, settings=settings, seed=seed)


def select_by_relevance(
    method: str, image_embeds: Tensor, relevance: Tensor, *, count: int, settings: SelectionSettings, seed: int
) -> Selected:
    """[`select`] with the relevance of each image, of shape `(N,)`, in place of the sentences it comes from."""
    if method not in SELECTION_METHODS:
        raise ValueError(f"unknown selection method {method!r}; known are {', '.join(SELECTION_METHODS)}")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if len(image_embeds) == 0:
        return Selected([], [])
    check_images(image_embeds, relevance)
    relevance = relevance.double()
    if method == "dpp-map":
        similarity = similarity_kernel(image_embeds, settings.sigma)
        order, scores = greedy_map(similarity, log_quality(relevance, settings.beta), count)
        order = order + [image for image in ranked(relevance) if image not in order]
    elif method == "mmr":
        order, scores = maximal_marginal_relevance(image_embeds, relevance, count, settings.mmr_trade_off)
    else:
        scores = _scores(method, image_embeds, relevance, settings, seed)
        order = ranked(scores)
    return Selected(order[:count], scores.tolist())


def _scores(method: str, image_embeds: Tensor, relevance: Tensor, settings: SelectionSettings, seed: int) -> Tensor:
    """The scores of the methods that judge every image once, of shape `(N,)`, float64."""
    if method == "clip":
        return relevance
    if method == "random":
        return torch.rand(len(relevance), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    marginals = dpp_marginals(
        image_embeds[None],
        relevance[None],
        torch.ones_like(relevance, dtype=torch.bool)[None],
        beta=settings.beta,
        sigma=settings.sigma,
        kappa=settings.kappa,
        epsilon=settings.epsilon,
    )
    return marginals[0]
