"""The determinantal point process over an article's images (method §5): kernel, marginals and the relevance under it.

The process weighs relevance to a summary against similarity among the images. Everything is float64: with the quality
exp(beta * relevance), float32 gives marginals wrong in the second digit at beta 5 and NaN at beta 20.
"""

import math

import torch
from torch import Tensor

# 24 halvings leave the bracket of log s (at most about 36 wide, the logarithm of the float64 range of a spectrum)
# under 3e-6; for sums of sigmoids |f''| <= f', so two Newton steps then reach round-off.
BISECTION_STEPS = 24
NEWTON_STEPS = 2


def solve_scale(eigenvalues: Tensor, size: Tensor) -> Tensor:
    """Solve sum_m s·lambda_m / (1 + s·lambda_m) = size for s > 0, the scaling with an expected set size of `size`.

    Args:
        eigenvalues (`torch.Tensor` of shape `(B, N)`, float64): non-negative; zeros never contribute.
        size (`torch.Tensor` of shape `(B,)`, float64): above 0 and under the number of positive eigenvalues.

    Returns:
        `torch.Tensor` of shape `(B,)`, float64: s.
    """
    positive = eigenvalues > 0
    count = positive.sum(-1)
    largest = eigenvalues.amax(-1)
    smallest = eigenvalues.masked_fill(~positive, torch.inf).amin(-1)
    # The sum is at most count·s·largest, and at least count·s·smallest / (1 + s·smallest).
    low = torch.log(size / (count * largest))
    high = torch.log(size / ((count - size) * smallest))
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2
        scaled = middle.exp()[:, None] * eigenvalues
        too_many = (scaled / (1 + scaled)).sum(-1) > size
        high = torch.where(too_many, middle, high)
        low = torch.where(too_many, low, middle)
    log_scale = (low + high) / 2
    for _ in range(NEWTON_STEPS):
        scaled = log_scale.exp()[:, None] * eigenvalues
        excess = (scaled / (1 + scaled)).sum(-1) - size
        log_scale = log_scale - excess / (scaled / (1 + scaled) ** 2).sum(-1)
    return log_scale.exp()


def check_numbers(beta: float, sigma: float, kappa: float, epsilon: float) -> None:
    """Raise a `ValueError` where a number of the DPP is out of its range."""
    if not all(map(math.isfinite, (beta, sigma, kappa, epsilon))):
        raise ValueError(
            f"the DPP needs finite numbers, got beta={beta}, sigma={sigma}, kappa={kappa}, epsilon={epsilon}"
        )
    if beta < 0 or sigma <= 0 or kappa < 1 or epsilon < 0:
        raise ValueError(
            "the DPP needs beta >= 0, sigma > 0, kappa >= 1 and epsilon >= 0, "
            f"got beta={beta}, sigma={sigma}, kappa={kappa}, epsilon={epsilon}"
        )


def check_images(image_embeds: Tensor, relevance: Tensor) -> None:
    """Raise a `ValueError` unless real images' embeddings `(N, d)` are L2-normalised and relevances `(N,)` finite."""
    if not ((image_embeds.double().square().sum(-1) - 1).abs() < 0.02).all():
        raise ValueError("image_embeds holds real images that are not finite or not L2-normalised; normalise them")
    if not relevance.isfinite().all():
        raise ValueError("relevance is not finite at a real image")


def similarity_kernel(image_embeds: Tensor, sigma: float) -> Tensor:
    """S_ij = exp(-(1 - <v_i, v_j>) / sigma²), positive semi-definite for every set of images (§5).

    Args:
        image_embeds (`torch.Tensor` of shape `(..., N, d)`): L2-normalised image embeddings, any floating type.
        sigma (`float`): width of the kernel.

    Returns:
        `torch.Tensor` of shape `(..., N, N)`, float64: in (0, 1].
    """
    embeds = image_embeds.double()
    return ((embeds @ embeds.mT - 1) / sigma**2).exp()


def log_quality(relevance: Tensor, beta: float) -> Tensor:
    """log q_i = beta·(r_i - max r): relative to the most relevant image, so that nothing can overflow.

    The shift r -> r + c scales L and leaves both the marginals and the order in which greedy MAP selects.

    Args:
        relevance (`torch.Tensor` of shape `(..., N)`): r, the cosine of each image to the summary; N at least 1.
        beta (`float`): weight of relevance.

    Returns:
        `torch.Tensor` of shape `(..., N)`, float64: at most 0.
    """
    relevance = relevance.double()
    return beta * (relevance - relevance.amax(-1, keepdim=True))


def dpp_marginals(
    image_embeds: Tensor,
    relevance: Tensor,
    image_mask: Tensor,
    *,
    beta: float,
    sigma: float,
    kappa: float,
    epsilon: float,
) -> Tensor:
    """Inclusion probabilities p_i = (K_s)_ii of each article's images, with K_s = s·L (I + s·L)^-1 and tr K_s = kappa.

    L = diag(q) S diag(q) + epsilon·(trace / N)·I, q_i = exp(beta·r_i), S_ij = exp(-(1 - <v_i, v_j>) / sigma²). The
    rank is that of diag(q) S diag(q), where an eigenvalue of at most eps·N·max counts as zero. With
    kappa_n = min(kappa, rank), kappa_n = rank gives the limit s -> infinity, the diagonal of the projection on the
    eigenvectors of that rank: 1 for at most kappa independent images, equal shares of 1 for copies of one image.

    Args:
        image_embeds (`torch.Tensor` of shape `(B, N, d)`): L2-normalised image embeddings, any floating type.
        relevance (`torch.Tensor` of shape `(B, N)`): r, the cosine of each image to the summary.
        image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images, which may stand anywhere in the row;
            what stands at padded images is not read.
        beta (`float`): weight of relevance.
        sigma (`float`): width of the similarity kernel.
        kappa (`float`): expected size of the selected set, at least 1.
        epsilon (`float`): share of the mean eigenvalue added to the diagonal.

    Returns:
        `torch.Tensor` of shape `(B, N)`, float64: the marginals; 0 at padded images, each row sums to kappa_n.

    Raises:
        ValueError: a number out of its range, shapes that do not agree, or a real image whose embedding is not
            finite or not normalised.
    """
    check_numbers(beta, sigma, kappa, epsilon)
    if image_embeds.shape[:-1] != image_mask.shape or relevance.shape != image_mask.shape:
        raise ValueError(
            "image_embeds (B, N, d), relevance (B, N) and image_mask (B, N) do not agree: "
            f"{tuple(image_embeds.shape)}, {tuple(relevance.shape)}, {tuple(image_mask.shape)}"
        )
    if image_mask.numel() == 0:
        return relevance.new_zeros(image_mask.shape, dtype=torch.float64)

    padded = ~image_mask
    check_images(image_embeds[image_mask], relevance[image_mask])
    similarity = similarity_kernel(image_embeds, sigma)
    quality = log_quality(relevance.masked_fill(padded, -torch.inf), beta).exp().masked_fill(padded, 0.0)
    kernel = quality[:, :, None] * similarity * quality[:, None, :]
    kernel = kernel.masked_fill(padded[:, :, None] | padded[:, None, :], 0.0)
    # Padding at -1 on the diagonal stays apart from the null space that duplicates make: eigenvalues come in ascending
    # order, so that a row's first ones are its padding.
    eigenvalues, eigenvectors = torch.linalg.eigh(kernel - torch.diag_embed(padded.double()))
    count = image_mask.sum(-1, keepdim=True)
    of_images = torch.arange(padded.shape[1], device=padded.device) >= padded.sum(-1, keepdim=True)
    threshold = torch.finfo(torch.float64).eps * count * eigenvalues[:, -1:]
    of_rank = of_images & (eigenvalues > threshold)
    rank = of_rank.sum(-1)

    spectrum = eigenvalues.masked_fill(~of_rank, 0.0)
    jitter = epsilon * spectrum.sum(-1, keepdim=True) / count.clamp(min=1)
    spectrum = (spectrum + jitter).masked_fill(~of_images, 0.0)

    inclusion = of_rank.double()
    solvable = rank > kappa
    if solvable.any():
        spectrum = spectrum[solvable]
        size = torch.full_like(spectrum[:, 0], kappa)
        scaled = solve_scale(spectrum, size)[:, None] * spectrum
        inclusion[solvable] = scaled / (1 + scaled)
    marginals = (eigenvectors.square() @ inclusion[..., None]).squeeze(-1)
    return marginals.clamp(0.0, 1.0).masked_fill(padded, 0.0)


def relevance_scores(
    sentence_embeds: Tensor, sentence_mask: Tensor, image_embeds: Tensor, image_mask: Tensor
) -> Tensor:
    """The relevance r_i of each image: its largest cosine over the sentences of the summary.

    Args:
        sentence_embeds (`torch.Tensor` of shape `(B, S, d)`): L2-normalised.
        sentence_mask (`torch.Tensor` of shape `(B, S)`, bool): true on real sentences.
        image_embeds (`torch.Tensor` of shape `(B, N, d)`): L2-normalised.
        image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images.

    Returns:
        `torch.Tensor` of shape `(B, N)`, float64: 0 at padded images and in a row without sentences.
    """
    if sentence_mask.numel() == 0 or image_mask.numel() == 0:
        return image_embeds.new_zeros(image_mask.shape, dtype=torch.float64)
    cosines = image_embeds.double() @ sentence_embeds.double().mT
    scores = cosines.masked_fill(~sentence_mask[:, None, :], -torch.inf).amax(-1)
    return scores.masked_fill(~image_mask | ~sentence_mask.any(-1, keepdim=True), 0.0)
