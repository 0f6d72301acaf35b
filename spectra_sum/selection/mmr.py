"""Maximal marginal relevance (Carbonell and Goldstein 1998), on images."""

import torch
from torch import Tensor

from spectra_sum.selection.ranking import best


def maximal_marginal_relevance(
    image_embeds: Tensor, relevance: Tensor, count: int, trade_off: float
) -> tuple[list[int], Tensor]:
    """Add, one at a time, the image with the largest λ·r_i - (1 - λ)·max over selected j of <v_i, v_j>.

    The first image is the most relevant: nothing is selected yet, and the second term is 0. Both cosines enter as they
    are; a dual encoder's cosines of an image to a text lie in a narrower range than those between images.

    Args:
        image_embeds (`torch.Tensor` of shape `(N, d)`): L2-normalised image embeddings, any floating type.
        relevance (`torch.Tensor` of shape `(N,)`): r, the cosine of each image to the summary.
        count (`int`): how many images at most; fewer where there are fewer.
        trade_off (`float`): λ in [0, 1]; 1 ranks by relevance alone.

    Returns:
        `tuple`: the indices in the order of selection, and the scores of shape `(N,)`, float64: of a selected image
        that at its selection, of others that after the last. Equal scores are taken in the order given.
    """
    embeds = image_embeds.double()
    cosines = embeds @ embeds.mT
    scores = trade_off * relevance.double()
    open_images = torch.ones_like(scores, dtype=torch.bool)
    selected: list[int] = []
    while len(selected) < min(count, len(scores)):
        # At λ = 0 the first step has scores of 0 alone; relevance decides there, as it does in the definition's limit.
        image = best((scores if selected else relevance.double()).masked_fill(~open_images, -torch.inf))
        open_images[image] = False
        selected.append(image)
        redundancy = cosines[:, selected].amax(-1)
        scores = torch.where(open_images, trade_off * relevance.double() - (1 - trade_off) * redundancy, scores)
    return selected, scores
