"""The dual encoder that sees a document's images: the one that is named, or the default one for images without texts."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from ...models.sources import DEFAULT_DUAL_ENCODER, default_vision_is_there
from ...selection.after_summary import EVERY_IMAGE, WITHOUT_TEXTS, JointEmbeddings

if TYPE_CHECKING:
    from ...models.default_dual_encoder import DefaultDualEncoder


class Vision(NamedTuple):
    """`vision` and `pixels` of a [`Summarizer`]."""

    encoder: JointEmbeddings | None
    pixels: str


class VisionOnDemand:
    """Stands for the default dual encoder, which is loaded when an image needs it."""

    @cached_property
    def _encoder(self) -> "DefaultDualEncoder":
        from ...models.dual_encoder import load_dual_encoder

        return load_dual_encoder(DEFAULT_DUAL_ENCODER)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """L2-normalised embeddings (N, d); loads the encoder.

        Raises:
            ModelError: It cannot be loaded.
        """
        return self._encoder.embed_texts(texts)

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """L2-normalised embeddings (N, d); loads the encoder.

        Raises:
            ModelError: It cannot be loaded.
        """
        return self._encoder.embed_images(images)


def choose_vision(name: str | None) -> Vision:
    """
    What sees the images of a document.

    Args:
        name (`str`, *optional*): Folder or Hub id of a dual encoder, or `"default"`: it sees every image. `None`: the default
            one sees those without texts, if its packages are installed; otherwise nothing sees them.

    Raises:
        ModelError: The encoder that is named cannot be loaded.
    """
    if name is not None:
        from ...models.dual_encoder import load_dual_encoder

        return Vision(load_dual_encoder(name), EVERY_IMAGE)
    return Vision(VisionOnDemand() if default_vision_is_there() else None, WITHOUT_TEXTS)
