"""Tiny vision towers without a text encoder, of each type that gives a grid of patches: a further type is one entry."""

from pathlib import Path
from typing import NamedTuple

import torch
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    BitImageProcessor,
    ConvNextConfig,
    ConvNextImageProcessor,
    ConvNextV2Config,
    DeiTConfig,
    DeiTImageProcessor,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    EfficientNetConfig,
    EfficientNetImageProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ViTConfig,
    ViTImageProcessor,
)
from transformers.image_processing_utils import BaseImageProcessor

from tests.tiny import IMAGE_SIZE, PATCH_SIZE, SPREAD, VISION_WIDTH

SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
TRANSFORMER = {
    "hidden_size": VISION_WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH_SIZE,
    "initializer_range": SPREAD,
}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 2]}
# 1280 channels in the last feature map times the width coefficient.
EFFICIENT = {
    "width_coefficient": 0.0125,
    "depth_coefficient": 1.0,
    "hidden_dim": 16,
    "kernel_sizes": [3, 3, 5],
    "in_channels": [32, 16, 24],
    "out_channels": [16, 24, 40],
    "strides": [1, 2, 2],
    "num_block_repeats": [1, 2, 1],
    "expand_ratios": [1, 6, 6],
    "image_size": 64,
    "initializer_range": SPREAD,
}


class TinyTower(NamedTuple):
    """A type's configuration and image processor, the tokens in front of its patches, and whether it has batch norms."""

    config: PreTrainedConfig
    image_processor: BaseImageProcessor
    prefix: int = 0
    batch_norm: bool = False
    classifies: bool = True


def tiny_towers() -> dict[str, TinyTower]:
    """By name; what reads images of another size than `IMAGE_SIZE` in its configuration reads that one, too."""
    vit = ViTImageProcessor(size=SQUARE)
    # transformers has two classifiers of this type.
    classifier = {"architectures": ["DeiTForImageClassification"]}
    # Of an image the middle, as for published ones.
    deit = DeiTImageProcessor(size={"height": IMAGE_SIZE + 2, "width": IMAGE_SIZE + 2}, crop_size=SQUARE)
    bit = BitImageProcessor(size={"shortest_edge": IMAGE_SIZE + 2}, crop_size=SQUARE)
    convnext = ConvNextImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_pct=0.875)
    efficientnet = EfficientNetImageProcessor(size=SQUARE, include_top=False)
    other_size = TRANSFORMER | {"image_size": 3 * PATCH_SIZE}
    scaled = {"layer_scale_init_value": SPREAD, "initializer_range": SPREAD}
    return {
        "vit": TinyTower(ViTConfig(**TRANSFORMER, intermediate_size=32), vit, 1),
        "vit with pooling layer": TinyTower(ViTConfig(**TRANSFORMER, pooler_output_size=20), vit, 1, classifies=False),
        "deit": TinyTower(DeiTConfig(**TRANSFORMER, **classifier, intermediate_size=32), deit, 2),
        "dinov2": TinyTower(Dinov2Config(**other_size), bit, 1, classifies=False),
        "dinov2_with_registers": TinyTower(
            Dinov2WithRegistersConfig(**other_size, num_register_tokens=3), bit, 4, classifies=False
        ),
        "convnext": TinyTower(ConvNextConfig(**STAGES, **scaled, num_stages=2), convnext),
        "convnextv2": TinyTower(ConvNextV2Config(**STAGES, num_stages=2, initializer_range=SPREAD), convnext),
        "resnet": TinyTower(ResNetConfig(**STAGES, embedding_size=12, layer_type="basic"), convnext, batch_norm=True),
        "efficientnet": TinyTower(EfficientNetConfig(**EFFICIENT), efficientnet, batch_norm=True),
    }


KINDS = list(tiny_towers())
BATCH_NORM = [kind for kind, tower in tiny_towers().items() if tower.batch_norm]


def trained_statistics(model: PreTrainedModel) -> None:
    """Give batch norms statistics that are not those of a new one."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.normal_(module.bias, std=0.2)


def save_tower_folder(folder: Path, kind: str, seed: int = 1) -> Path:
    """What is published of a type: its classifier, or the tower alone, with its image processor."""
    torch.manual_seed(seed)
    tower = tiny_towers()[kind]
    model = (AutoModelForImageClassification if tower.classifies else AutoModel).from_config(tower.config)
    trained_statistics(model)
    model.save_pretrained(folder)
    tower.image_processor.save_pretrained(folder)
    return folder
