"""How well a joint space finds the figure that a text describes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CUTOFFS = (1, 5, 10)


class Ranks(NamedTuple):
    """Of each text the place of its own figure among all, from 1."""

    places: Tensor
    figures: int

    def recall(self, cutoff: int) -> list[float]:
        """Of each text whether its figure is among the `cutoff` nearest: 1.0 or 0.0."""
        return (self.places <= cutoff).float().tolist()


def ranks(texts: Tensor, images: Tensor, own: Sequence[int]) -> Ranks:
    """
    Ranks all figures by their cosine to each text. Of equal ones the own figure counts as the last.

    Args:
        texts (`torch.Tensor` of shape `(T, d)`): Unit vectors.
        images (`torch.Tensor` of shape `(N, d)`): Unit vectors of the figures.
        own (`Sequence[int]` of length T): The figure that each text is of.
    """
    cosines = texts @ images.mT
    own_cosine = cosines.gather(1, torch.tensor(own)[:, None])
    return Ranks((cosines >= own_cosine).sum(1), len(images))
