"""Cosines of any encoder on one scale: standard deviations above those to unrelated sentences."""

import torch
from torch import Tensor

# Embeddings come in float32: a smaller spread is round-off of cosines that are all equal.
LEAST_SPREAD = 1e-6


def standard_scores(cosines: Tensor, background: Tensor) -> Tensor:
    """
    Standard scores of cosines against those of the same items to background sentences: (cosine - mean) / deviation.

    Cosines of encoders differ in where they lie and how far they spread: SigLIP's of an image to a text that fits are near
    0.1, a sentence encoder's of two texts on one subject 0.4 to 0.8, e5's never under 0.7. What they are where there is
    no relation tells both, for any encoder and without labels. It is the cohort normalisation of speaker verification
    (Auckenthaler, Carey and Lloyd-Thomas 2000), with one mean and one deviation for all items: the order among the items of
    one encoder stays as it is.

    Args:
        cosines (`torch.Tensor` of shape `(N, S)`): Of N items to S sentences.
        background (`torch.Tensor` of shape `(N, B)`): Of the same items to B sentences that are about something else.

    Returns:
        `torch.Tensor` of shape `(N, S)`, float64; 0 where the background's cosines are all equal.
    """
    background = background.double()
    deviation, mean = torch.std_mean(background, correction=0)
    if deviation < LEAST_SPREAD:
        return torch.zeros_like(cosines, dtype=torch.float64)
    return (cosines.double() - mean) / deviation
