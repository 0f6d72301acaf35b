"""The default dual encoder: images by EfficientNet-Lite0, texts by all-MiniLM-L6-v2, and two heads of this project."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import EfficientNetModel

from ..metrics.rgb_images import flat_rgb
from .efficientnet_lite import EFFICIENTNET_LITE0_SHA256, load_efficientnet_lite0, pooled_maps
from .joint_heads import JointHeads, load_joint_heads
from .sources import DEFAULT_DUAL_ENCODER, ModelError
from .text_encoder import MINILM_SHA256, TextEncoder, load_text_encoder

FOLDER = Path(__file__).parents[1] / "default_model"
HEADS_FILE, SETTINGS_FILE = "dual_encoder.safetensors", "dual_encoder.json"


class ImageViews(NamedTuple):
    """
    What of an image the image head reads.

    Attributes:
        sides (`tuple[int, ...]`): Pixels a side of each view of the image; the whole of it is in each.
        blocks (`tuple[int, ...]`): Blocks of the network whose outputs are pooled, beside the final map, of each view.
    """

    sides: tuple[int, ...]
    blocks: tuple[int, ...]

    def features(self, tower: EfficientNetModel, images: Sequence[Image.Image]) -> torch.Tensor:
        """N images → their pooled maps, one view after the other, (N, d)."""
        return torch.cat([pooled_maps(tower, images, side, self.blocks) for side in self.sides], dim=-1)


class DefaultDualEncoder:
    """
    Unit embeddings of texts and images in the joint space of two heads.

    Args:
        tower (`EfficientNetModel`): As [`load_efficientnet_lite0`] gives it.
        text_encoder (`TextEncoder`): all-MiniLM-L6-v2.
        heads (`JointHeads`): What puts their features into one space.
        views (`ImageViews`): What the image head reads.

    Attributes:
        model (`torch.nn.Module`): Tower and heads; the sentence encoder has its own device.
        description (`str`): Which encoder it is, for results.
    """

    def __init__(self, tower: EfficientNetModel, text_encoder: TextEncoder, heads: JointHeads, views: ImageViews):
        self.model = nn.ModuleDict({"tower": tower, "image": heads.image, "text": heads.text}).eval()
        self.text_encoder = text_encoder
        self.views = views
        self.description = (
            f"{DEFAULT_DUAL_ENCODER}: EfficientNet-Lite0 and {text_encoder.name} with heads {heads.revision}"
        )

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """
        Embeds texts; what exceeds the sentence encoder's length (256 tokens) is cut off.

        Args:
            texts (`Sequence[str]`): T texts.
            batch_size (`int`, *optional*, defaults to `32`): Texts per forward pass.

        Returns:
            `np.ndarray` of shape `(T, D)`, float32: unit rows.
        """
        features = self.text_encoder.embed(texts, batch_size)
        return self.model["text"](features.to(self._device)).cpu().numpy()

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image], batch_size: int = 16) -> np.ndarray:
        """
        Embeds images.

        Args:
            images (`Sequence[PIL.Image.Image]`): I images of any size and mode, read as the summarizer reads them.
            batch_size (`int`, *optional*, defaults to `16`): Images per forward pass.

        Returns:
            `np.ndarray` of shape `(I, D)`, float32: unit rows.
        """
        if not images:
            return self.embed_texts([])
        rows = []
        for start in range(0, len(images), batch_size):
            batch = [flat_rgb(image) for image in images[start : start + batch_size]]
            rows.append(self.model["image"](self.views.features(self.model["tower"], batch)).cpu().numpy())
        return np.concatenate(rows)

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the sentence encoder reads, so that `embed_texts` cuts them."""
        return self.text_encoder.count_cut(texts)

    @property
    def _device(self) -> torch.device:
        return self.model["text"].outer.weight.device


def load_default_dual_encoder() -> DefaultDualEncoder:
    """
    Loads the default dual encoder, on the GPU if there is one.

    Raises:
        ModelError: A package that it is made of is not installed or another one, or its heads are damaged.
    """
    tower, text_encoder = load_efficientnet_lite0(), load_text_encoder()
    with _damage_told_in_one_line():
        heads, views = load_joint_heads(FOLDER / HEADS_FILE), _views()
    encoder = DefaultDualEncoder(tower, text_encoder, heads, views)
    encoder.model.to("cuda" if torch.cuda.is_available() else "cpu")
    return encoder


def default_dual_encoder_identity() -> dict[str, Any]:
    """
    What the embeddings of the default dual encoder depend on, told without loading it.

    Returns:
        `dict`: `heads`, the SHA-256 of their file, `joint`, the width of the embeddings, `views`, and the SHA-256 of the
        towers' files, `vision` and `text`, without which they are not loaded.

    Raises:
        ModelError: The heads are damaged.
    """
    with _damage_told_in_one_line():
        with safe_open(FOLDER / HEADS_FILE, framework="pt") as file:
            joint = file.get_slice("text.outer.weight").get_shape()[0]
        return {
            "heads": hashlib.sha256((FOLDER / HEADS_FILE).read_bytes()).hexdigest(),
            "joint": joint,
            "views": _views()._asdict(),
            "vision": EFFICIENTNET_LITE0_SHA256,
            "text": dict(MINILM_SHA256),
        }


def _views() -> ImageViews:
    views = json.loads((FOLDER / SETTINGS_FILE).read_text(encoding="utf-8"))["views"]
    return ImageViews(tuple(views["sides"]), tuple(views["blocks"]))


@contextmanager
def _damage_told_in_one_line() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{FOLDER / HEADS_FILE}: the heads are damaged; install spectra-sum again.") from error
