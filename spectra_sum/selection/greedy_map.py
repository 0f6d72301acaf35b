"""Greedy maximum-a-posteriori inference for the DPP (Chen, Zhang, Zhou 2018, "Fast Greedy MAP Inference for DPP")."""

import torch
from torch import Tensor

from spectra_sum.selection.ranking import best


def greedy_map(similarity: Tensor, log_quality: Tensor, count: int) -> tuple[list[int], Tensor]:
    """Add, one at a time, the image that raises det(L_A) most, L = diag(q) S diag(q) (algorithm 1, stopped at a size).

    Since det(L_A) = prod_A q_i² · det(S_A), an image's gain det(L_{A+i}) / det(L_A) is q_i² times its residual
    variance under S given A. The Cholesky factor therefore grows on S, at O(N) per image and step already selected,
    and quality enters by its logarithm: no beta can underflow a gain. A residual variance of at most eps·N² counts as
    zero, by the rule of the marginals' rank with N, the trace of S, as the bound of its largest eigenvalue: that
    image, a copy of a selected one, say, would make the determinant 0. ε of the method's L is left out: its gain for a
    copy exceeds that of an image of little relevance.

    Args:
        similarity (`torch.Tensor` of shape `(N, N)`, float64): S, positive semi-definite with a unit diagonal.
        log_quality (`torch.Tensor` of shape `(N,)`, float64): log q.
        count (`int`): how many images at most.

    Returns:
        `tuple`: the indices in the order of selection, fewer than `count` where there are fewer images or where all
        remaining gains are zero; and the gains of shape `(N,)`, float64: of a selected image that at its selection,
        which falls from one to the next, of others that after the last. Equal gains are taken in the order given.
    """
    residual = similarity.diagonal().clone()
    zero = torch.finfo(torch.float64).eps * len(residual) ** 2
    rows = similarity.new_zeros(min(count, len(residual)), len(residual))
    gains = torch.zeros_like(residual)
    open_images = torch.ones_like(residual, dtype=torch.bool)
    selected: list[int] = []
    while len(selected) < len(rows):
        log_gains = (2 * log_quality + residual.log()).masked_fill(~open_images | (residual <= zero), -torch.inf)
        image = best(log_gains)
        if log_gains[image] == -torch.inf:
            break
        gains[image] = log_gains[image].exp()
        row = (similarity[image] - rows[:, image] @ rows) / residual[image].sqrt()
        rows[len(selected)] = row
        residual = (residual - row.square()).clamp(min=0.0)
        open_images[image] = False
        selected.append(image)
    gains[open_images] = ((2 * log_quality).exp() * residual.masked_fill(residual <= zero, 0.0))[open_images]
    return selected, gains
