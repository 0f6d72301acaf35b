"""Whether what a model wrote stands in what it read, sentence by sentence; what does not gives way to the source's words."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .extract import Encoder
from .origins import EXTRACTED, WRITTEN


class SupportedSentence(NamedTuple):
    """A sentence of a summary: its `text`, and whether it was `"written"` or `"extracted"`."""

    text: str
    origin: str


def support(written: Sequence[str], source: Sequence[str], encoder: Encoder) -> Tensor:
    """
    The support of each written sentence: its greatest cosine to a sentence of the source.

    Args:
        written (`Sequence[str]` of length W), source (`Sequence[str]` of length S): Sentences.
        encoder (`TextEncoder`): Embeds them.

    Returns:
        `torch.Tensor` of shape `(W,)`, in [-1, 1]; -1 without a source.
    """
    return _cosines(written, source, encoder).amax(1)


def replace_unsupported(
    written: Sequence[str], source: Sequence[str], encoder: Encoder, threshold: float
) -> list[SupportedSentence]:
    """
    The written sentences, but for those whose [`support`] is under the threshold: for each the source's nearest sentence
    stands in that no other of the summary stands for. Where the source has none left, it is left out.

    Args:
        written (`Sequence[str]`), source (`Sequence[str]`): Sentences of the summary and of what was read.
        encoder (`TextEncoder`): Embeds them.
        threshold (`float`): Least support, a cosine.
    """
    cosines = _cosines(written, source, encoder)
    supported = (cosines.amax(1) >= threshold).tolist()
    # What a supported sentence says comes in no second time.
    taken = {int(row.argmax()) for row, kept in zip(cosines, supported, strict=True) if kept and source}
    sentences = []
    for text, row, kept in zip(written, cosines, supported, strict=True):
        if kept:
            sentences.append(SupportedSentence(text, WRITTEN))
            continue
        free = [index for index in row.argsort(descending=True, stable=True).tolist() if index not in taken]
        if source and free:
            taken.add(free[0])
            sentences.append(SupportedSentence(source[free[0]], EXTRACTED))
    return sentences


def _cosines(written: Sequence[str], source: Sequence[str], encoder: Encoder) -> Tensor:
    if not written or not source:
        return torch.full((len(written), 1), -1.0)
    embeds = encoder.embed([*written, *source])
    return embeds[: len(written)] @ embeds[len(written) :].mT
