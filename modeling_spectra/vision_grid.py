"""How a vision tower of each type is read: its grid of patches, row by row, and its pooled output."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers.modeling_outputs import ModelOutput


class Grid(NamedTuple):
    """`side` × `side` patches of `width` channels, behind `class_tokens` tokens that are read as patches, too."""

    side: int
    width: int
    class_tokens: int = 0

    @property
    def num_patches(self) -> int:
        """P, the class tokens included."""
        return self.side**2 + self.class_tokens


class TowerType(NamedTuple):
    """How towers of one model type are read.

    Args:
        grids (`Callable`): (configuration, side of an image in pixels) → the grid of each hidden state that can be read.
        embedding_size (`Callable`): Configuration → width of the pooled output.
        any_size (`bool`, *optional*, defaults to `False`):
            Takes images of other sizes than its configuration's: its positions are interpolated, or it has none.
        has_attention (`bool`, *optional*, defaults to `True`): False for convolutions.
        last_alone (`bool`, *optional*, defaults to `False`): Its last hidden state is the only one that can be read.
    """

    grids: Callable[[PreTrainedConfig, int], list[Grid]]
    embedding_size: Callable[[PreTrainedConfig], int]
    any_size: bool = False
    has_attention: bool = True
    last_alone: bool = False


def has_pooling_layer(tower: PreTrainedConfig) -> bool:
    """Whether a ViT has the layer that it pools its class token by; checkpoints that classify images lack it."""
    return getattr(tower, "add_pooling_layer", True)


def _token_grids(tower: PreTrainedConfig, side: int) -> list[Grid]:
    """Of a transformer over patches: the embeddings, and each layer's output."""
    return [Grid(side // _one_side(tower.patch_size), tower.hidden_size)] * (tower.num_hidden_layers + 1)


def _instructblip_grids(tower: PreTrainedConfig, side: int) -> list[Grid]:
    """The last hidden state, after the tower's norm: the Q-Former was trained on it, with its class token."""
    return [Grid(side // _one_side(tower.patch_size), tower.hidden_size, class_tokens=1)]


def _convnext_grids(tower: PreTrainedConfig, side: int) -> list[Grid]:
    """The stem, and each stage."""
    side //= _one_side(tower.patch_size)
    grids = [Grid(side, tower.hidden_sizes[0])]
    return grids + [Grid(side >> index, width) for index, width in enumerate(tower.hidden_sizes)]


def _resnet_grids(tower: PreTrainedConfig, side: int) -> list[Grid]:
    """The stem, and each stage."""
    side = ceil(side / 4)
    grids = [Grid(side, tower.embedding_size)]
    for index, width in enumerate(tower.hidden_sizes):
        side = ceil(side / 2) if index or tower.downsample_in_first_stage else side
        grids.append(Grid(side, width))
    return grids


def _efficientnet_grids(tower: PreTrainedConfig, side: int) -> list[Grid]:
    """The last feature map; hidden states are of the blocks, without the convolution behind them."""
    side //= 2
    block = 0
    for stride, repeats in zip(tower.strides, tower.num_block_repeats, strict=True):
        if stride == 2:
            # What is padded at one end only drops an odd row.
            side = ceil(side / 2) if block in tower.depthwise_padding else side // 2
        block += ceil(tower.depth_coefficient * repeats)
    return [Grid(side, tower.hidden_dim)]


def _width(tower: PreTrainedConfig) -> int:
    return tower.hidden_size


def _last_width(tower: PreTrainedConfig) -> int:
    return tower.hidden_sizes[-1]


def _class_token_width(tower: PreTrainedConfig) -> int:
    return tower.pooler_output_size if has_pooling_layer(tower) else tower.hidden_size


TOWER_TYPES = {
    "siglip_vision_model": TowerType(_token_grids, _width),
    "clip_vision_model": TowerType(_token_grids, lambda tower: tower.projection_dim),
    "vit": TowerType(_token_grids, _class_token_width),
    "deit": TowerType(_token_grids, _class_token_width),
    "dinov2": TowerType(_token_grids, _width, any_size=True),
    "dinov2_with_registers": TowerType(_token_grids, _width, any_size=True),
    "instructblip_vision_model": TowerType(_instructblip_grids, _width, last_alone=True),
    "convnext": TowerType(_convnext_grids, _last_width, any_size=True, has_attention=False),
    "convnextv2": TowerType(_convnext_grids, _last_width, any_size=True, has_attention=False),
    "resnet": TowerType(_resnet_grids, _last_width, any_size=True, has_attention=False),
    "efficientnet": TowerType(
        _efficientnet_grids, lambda tower: tower.hidden_dim, any_size=True, has_attention=False, last_alone=True
    ),
}


def _one_side(size: int | Sequence[int] | None) -> int | None:
    """The side of a square that is given by it or by height and width; None for other rectangles and for nothing."""
    if isinstance(size, Sequence):
        return size[0] if len(set(size)) == 1 else None
    return size


def declared_image_size(tower: PreTrainedConfig) -> int | None:
    """The side, in pixels, of the square images that a tower's configuration names; None where it names none."""
    return _one_side(getattr(tower, "image_size", None))


def check_tower(tower: PreTrainedConfig, name: str, image_size: int | None) -> None:
    """Check that a tower gives a grid of patches for images of this size.

    Args:
        tower (`PreTrainedConfig`): The tower's configuration.
        name (`str`): The field that it is, for the message.
        image_size (`int`, *optional*): Side of the images in pixels.

    Raises:
        ValueError: naming the field, and what to do.
    """
    kind = TOWER_TYPES.get(tower.model_type)
    if kind is None:
        raise ValueError(
            f"{name} has model_type {tower.model_type!r}, of which no grid of patches can be read; use the configuration of "
            f"a vision tower of one of these types: {', '.join(TOWER_TYPES)}."
        )
    if getattr(tower, "num_channels", 3) != 3:
        raise ValueError(f"{name} reads images of {tower.num_channels} channels; use a tower for RGB images.")
    if _one_side(getattr(tower, "patch_size", 1)) is None:
        raise ValueError(f"{name} has patches of {tower.patch_size} pixels; use a tower with square patches.")
    if image_size is None:
        raise ValueError(
            f"image_size is not set, and {name} ({tower.model_type}) names no square of its own: set image_size to the side "
            "of the images that the image processor makes."
        )
    if not kind.any_size and declared_image_size(tower) != image_size:
        raise ValueError(
            f"{name} reads images of {tower.image_size} pixels and the model images of {image_size} (image_size); all towers "
            "read what one image processor makes: use a checkpoint and an image processor of the same size."
        )
    sides = [grid.side for grid in kind.grids(tower, image_size)]
    if not sides:
        raise ValueError(f"{name} ({tower.model_type}) has no hidden state that can be read: give it a layer or more.")
    if min(sides) < 1:
        raise ValueError(
            f"image_size is {image_size}, of which {name} ({tower.model_type}) leaves no patch: use larger images."
        )


def check_layer(tower: PreTrainedConfig, layer: int, image_size: int, name: str = "vision_feature_layer") -> None:
    """Check a hidden state that the field `name` says is read.

    Raises:
        ValueError: The tower has no such hidden state.
    """
    count = len(TOWER_TYPES[tower.model_type].grids(tower, image_size))
    if not -count <= layer < count:
        raise ValueError(
            f"{name} is {layer}, and vision_config ({tower.model_type}) has {count} hidden states that can be "
            f"read: set it within {-count}..{count - 1}; -1 is the last one."
        )


def grids_of(tower: PreTrainedConfig, image_size: int) -> list[Grid]:
    """The grids of all hidden states of a tower that can be read, for images of `image_size` × `image_size` pixels."""
    return TOWER_TYPES[tower.model_type].grids(tower, image_size)


def common_grid(tower: PreTrainedConfig, layers: Sequence[int], image_size: int) -> Grid:
    """The grid of several hidden states side by side: the coarsest of theirs, and the sum of their widths."""
    grids = [grids_of(tower, image_size)[layer] for layer in layers]
    return min(grids)._replace(width=sum(grid.width for grid in grids))


def embedding_size_of(tower: PreTrainedConfig) -> int:
    """Width of a tower's pooled output, which [`pooled_of`] gives."""
    return TOWER_TYPES[tower.model_type].embedding_size(tower)


def has_attention(tower: PreTrainedConfig) -> bool:
    """Whether a tower attends, so that an attention implementation can be chosen for it."""
    return TOWER_TYPES[tower.model_type].has_attention


def reading_arguments(tower: PreTrainedConfig, layers: Sequence[int]) -> dict[str, Any]:
    """Arguments of a tower's forward pass whose output [`patches_of`] then reads."""
    return {} if TOWER_TYPES[tower.model_type].last_alone else {"output_hidden_states": list(layers)}


def patches_of(outputs: ModelOutput, tower: PreTrainedConfig, layers: Sequence[int], grid: Grid) -> torch.Tensor:
    """The patches (images, P, Σ d_v) of a tower's hidden states, side by side: their grid, row by row.

    Args:
        outputs (`ModelOutput`): Of a forward pass with [`reading_arguments`].
        tower (`PreTrainedConfig`): The tower's configuration.
        layers (`Sequence[int]`): The hidden states.
        grid (`Grid`): Of [`common_grid`]; finer grids are averaged to it. Class and register tokens that are not read stand
            in front of the patches.
    """
    if TOWER_TYPES[tower.model_type].last_alone:
        states = [outputs.last_hidden_state] * len(layers)
    else:
        states = [outputs.hidden_states[layer] for layer in layers]
    return torch.cat([_tokens(state, grid) for state in states], dim=-1)


def _tokens(state: torch.Tensor, grid: Grid) -> torch.Tensor:
    if state.dim() == 3:
        return state[:, -grid.num_patches :]
    if state.shape[-1] != grid.side:
        state = F.adaptive_avg_pool2d(state, grid.side)
    return state.flatten(2).transpose(1, 2)


def pooled_of(outputs: ModelOutput) -> torch.Tensor:
    """The pooled output (images, d_img) of a tower's forward pass.

    CLIP's is its projection, by which it compares images and texts; that of a ViT without a pooling layer is the last state
    of its class token, which its classifier reads.
    """
    if "image_embeds" in outputs:
        return outputs.image_embeds
    if outputs.pooler_output is None:
        return outputs.last_hidden_state[:, 0]
    return outputs.pooler_output.flatten(1)


__all__ = [
    "TOWER_TYPES",
    "check_layer",
    "check_tower",
    "common_grid",
    "declared_image_size",
    "embedding_size_of",
    "grids_of",
    "has_attention",
    "has_pooling_layer",
    "patches_of",
    "pooled_of",
    "reading_arguments",
]
