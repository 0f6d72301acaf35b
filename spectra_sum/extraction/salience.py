"""How much each sentence carries of its document, by the sentences' embeddings: centroid and LexRank."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

# LexRank's own: cosines under it are no edges, and how often the walk jumps (Erkan and Radev 2004, §3.2 and §5).
_LEXRANK_THRESHOLD = 0.1
_LEXRANK_DAMPING = 0.15
METHODS = ("centroid", "lexrank")


def salience(embeds: Tensor, method: str = "centroid") -> Tensor:
    """
    The salience of each sentence.

    - `"centroid"` (Radev et al. 2004; Rossiello et al. 2017 with embeddings): the cosine to the mean of all sentences.
    - `"lexrank"` (Erkan and Radev, JAIR 2004): the stationary distribution of a walk over sentences whose steps go by
      their cosines, times the number of sentences so that 1 is the average.

    Args:
        embeds (`torch.Tensor` of shape `(S, d)`): L2-normalised sentence embeddings, S ≥ 1.
        method (`str`, *optional*, defaults to `"centroid"`): One of `METHODS`.

    Returns:
        `torch.Tensor` of shape `(S,)`, float64.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method of extraction {method!r}; known are {', '.join(METHODS)}")
    embeds = embeds.double()
    if method == "centroid":
        return embeds @ normalize(embeds.mean(0), dim=0)
    count = len(embeds)
    edges = embeds @ embeds.mT
    edges = edges.masked_fill(edges < _LEXRANK_THRESHOLD, 0)
    # An empty text's embedding may have no cosine to itself.
    edges = edges + torch.eye(count, dtype=edges.dtype) * (edges.sum(1) == 0)
    steps = _LEXRANK_DAMPING / count + (1 - _LEXRANK_DAMPING) * edges / edges.sum(1, keepdim=True)
    # The stationary p = p·P with sum 1: one row of (Pᵀ - I) p = 0 is redundant and gives way to the sum.
    system = steps.mT - torch.eye(count, dtype=steps.dtype)
    system[-1] = 1
    right = torch.zeros(count, dtype=steps.dtype)
    right[-1] = 1
    return count * torch.linalg.solve(system, right)
