"""A sentence encoder whose embeddings a test writes down."""

from collections.abc import Mapping, Sequence

import torch
from torch.nn.functional import normalize


class WrittenDown:
    """
    Embeds the texts that it knows; any other one is an error of the test.

    Args:
        vectors (`Mapping[str, Sequence[float]]`): Per text, not normalised.
    """

    def __init__(self, vectors: Mapping[str, Sequence[float]]):
        self.vectors = vectors
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        self.calls.append(list(texts))
        return normalize(torch.tensor([self.vectors[text] for text in texts], dtype=torch.float32), dim=-1)
