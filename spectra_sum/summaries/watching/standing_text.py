"""What of a text that is being written stands for certain: whole sentences, as long as all of them have support.

A sentence is whole when the next one has begun, so that one which the limit cuts off is never told. Where sentences without
support give way to the document's own (§12), the first of them holds all that follows back: which one stands in its place
depends on those that are still to come.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ...extraction.extract import Encoder
from ...sentences import sentence_spans
from ..degenerate import repetition

# Cosines of the same sentences differ by less when they are embedded in another batch.
_ROUNDING = 1e-4


class SupportCheck:
    """
    Tells of one sentence what [`~spectra_sum.extraction.support.replace_unsupported`] will say of it.

    Args:
        source (`Sequence[str]`): The sentences that the model read.
        encoder (`TextEncoder`): Embeds sentences; the source's when the first one is asked about.
        threshold (`float`): Least support, a cosine. A sentence that is within rounding of it counts as without support.
    """

    def __init__(self, source: Sequence[str], encoder: Encoder, threshold: float):
        self.source = source
        self.encoder = encoder
        self.threshold = threshold

    @cached_property
    def _embeds(self) -> Tensor:
        return self.encoder.embed(self.source)

    def __call__(self, sentence: str) -> bool:
        """Whether the sentence has support."""
        if not self.source:
            return False
        # An encoder that is loaded now may draw numbers, and what is sampled is not to depend on who watches.
        with torch.random.fork_rng():
            cosines = self.encoder.embed([sentence]) @ self._embeds.mT
        return cosines.max().item() >= self.threshold + _ROUNDING


class StandingText:
    """
    Releases the text of a summary as it becomes certain.

    Args:
        release (`Callable`): Takes the pieces.
        supported (`Callable`, *optional*): Tells of a sentence whether it stands. `None`: every sentence does, and a text
            that repeats itself as well.
    """

    def __init__(self, release: Callable[[str], None], supported: Callable[[str], bool] | None = None):
        self.released = ""
        self._release = release
        self._supported = supported
        self._text = ""
        self._count = 0
        self._held = False

    def add(self, piece: str) -> None:
        """Takes what was written next."""
        self._text += piece if self._text else piece.lstrip()
        if self._held:
            return
        # The last one may go on.
        whole = sentence_spans(self._text)[self._count : -1]
        if self._supported is not None:
            if whole and repetition(self._text) is not None:
                return
            for place, (start, end) in enumerate(whole):
                if not self._supported(self._text[start:end]):
                    self._held = True
                    whole = whole[:place]
                    break
        if whole:
            self._count += len(whole)
            self._hand_on(self._text[len(self.released) : whole[-1][1]])

    def finish(self, summary: str) -> None:
        """Releases what is left of the finished summary, unless it begins otherwise than what was released."""
        if summary.startswith(self.released):
            self._hand_on(summary[len(self.released) :])

    def _hand_on(self, piece: str) -> None:
        if piece:
            self.released += piece
            self._release(piece)
