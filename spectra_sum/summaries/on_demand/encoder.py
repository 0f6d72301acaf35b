"""A sentence encoder that is loaded when it is first needed: documents that fit and have no images need none."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ...models.sources import DEFAULT_TEXT_ENCODER

if TYPE_CHECKING:
    from torch import Tensor

    from ...models.text_encoder import TextEncoder


class EncoderOnDemand:
    """
    Stands for the [`~spectra_sum.models.text_encoder.TextEncoder`] of a name.

    Args:
        name (`str`, *optional*, defaults to `"all-MiniLM-L6-v2"`): What
            [`~spectra_sum.models.text_encoder.load_text_encoder`] takes.
    """

    def __init__(self, name: str = DEFAULT_TEXT_ENCODER):
        self.name = name

    @cached_property
    def _encoder(self) -> "TextEncoder":
        from ...models.text_encoder import load_text_encoder

        return load_text_encoder(self.name)

    @property
    def revision(self) -> str | None:
        """The loaded encoder's revision; loads it."""
        return self._encoder.revision

    def embed(self, texts: Sequence[str]) -> "Tensor":
        """L2-normalised embeddings of the shape (N, d); loads the encoder.

        Raises:
            ModelError: It cannot be loaded.
        """
        return self._encoder.embed(texts)
