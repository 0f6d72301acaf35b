"""The order of scores with ties that survive round-off: what is equal in exact arithmetic keeps the article's order."""

from torch import Tensor

# Embeddings come in float32, so that scores differ by chance from about 1e-7 on; float64 arithmetic on copies of an
# image, or on marginals that are all 1, differs in the 16th digit.
TIE_DECIMALS = 9


def ranked(scores: Tensor) -> list[int]:
    """The indices of `scores` of shape `(N,)`, float64, best first; equal to nine decimals: in order."""
    return scores.round(decimals=TIE_DECIMALS).argsort(descending=True, stable=True).tolist()


def best(scores: Tensor) -> int:
    """The index of the largest of `scores` of shape `(N,)`, float64; of equal ones to nine decimals, the first."""
    return ranked(scores)[0]
