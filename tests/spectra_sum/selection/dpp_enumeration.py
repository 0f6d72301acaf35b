"""The DPP's definition by enumeration of subsets, written out from the equations: the source its tests compare to."""

from itertools import combinations

import numpy as np
import torch
from scipy.optimize import brentq

from spectra_sum.selection.dpp import dpp_marginals

NUMBERS = {"beta": 20.0, "sigma": 0.8, "kappa": 3, "epsilon": 1e-6}


def make_article(images, seed, spread=0.3, width=6):
    """Unit embeddings (N, d) and relevances (N,), float64, from a seed."""
    rng = np.random.default_rng(seed)
    embeds = rng.normal(size=(images, width)) + 1.0
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    return embeds, rng.uniform(-spread / 2, spread / 2, size=images)


def marginals_of(embeds, relevance, **changed):
    """The teacher on one article without padding."""
    embeds, relevance = torch.as_tensor(embeds)[None], torch.as_tensor(relevance)[None]
    mask = torch.ones(relevance.shape, dtype=torch.bool)
    return dpp_marginals(embeds, relevance, mask, **(NUMBERS | changed))[0].numpy()


def gram_kernel(embeds, relevance, beta, sigma):
    """diag(q) S diag(q), entry by entry from the equations."""
    n = len(relevance)
    kernel = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            similarity = np.exp(-(1 - float(np.dot(embeds[i], embeds[j]))) / sigma**2)
            kernel[i, j] = np.exp(beta * relevance[i]) * similarity * np.exp(beta * relevance[j])
    return kernel


def likelihood_kernel(embeds, relevance, beta, sigma, epsilon):
    kernel = gram_kernel(embeds, relevance, beta, sigma)
    return kernel + epsilon * np.trace(kernel) / len(kernel) * np.eye(len(kernel))


def enumerate_marginals(kernel, kappa):
    """Inclusion probabilities under P(A) ∝ det((sL)_A) over all 2^N subsets, s with an expected size of kappa."""
    n = len(kernel)
    kernel = kernel / np.trace(kernel)
    subsets = [subset for size in range(n + 1) for subset in combinations(range(n), size)]
    weights = np.array([np.linalg.det(kernel[np.ix_(subset, subset)]) if subset else 1.0 for subset in subsets])
    sizes = np.array([len(subset) for subset in subsets])

    def probabilities(log_scale):
        scaled = weights * np.exp(log_scale * sizes)
        return scaled / scaled.sum()

    log_scale = brentq(lambda x: probabilities(x) @ sizes - kappa, -10, 40, xtol=1e-14, rtol=1e-14)
    probability = probabilities(log_scale)
    return np.array([sum(p for p, subset in zip(probability, subsets, strict=True) if i in subset) for i in range(n)])


def enumerate_projection(kernel, rank):
    """The limit s -> infinity at the kernel's rank: P(A) ∝ det(L_A) over the subsets of that size alone."""
    n = len(kernel)
    subsets = list(combinations(range(n), rank))
    weights = np.array([np.linalg.det(kernel[np.ix_(subset, subset)]) for subset in subsets])
    return (
        np.array([sum(w for w, a in zip(weights, subsets, strict=True) if i in a) for i in range(n)]) / weights.sum()
    )
