"""Pretrained backbones: a vision tower that gives a grid of patches, and a causal language model."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionModelWithProjection,
    GenerationConfig,
    InstructBlipVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SiglipVisionModel,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from .summarization import end_token_ids
from .vision_grid import TOWER_TYPES, has_attention, has_pooling_layer

logger = logging.get_logger(__name__)

# Of the model types whose tower is a part of a dual encoder, or has more than `AutoModel` gives it.
TOWER_CLASSES = {
    "siglip": SiglipVisionModel,
    "siglip_vision_model": SiglipVisionModel,
    "clip": CLIPVisionModelWithProjection,
    "clip_vision_model": CLIPVisionModelWithProjection,
    "instructblip_vision_model": InstructBlipVisionModel,
}


class Backbones(NamedTuple):
    """What `load_backbones` finds in two folders; `image_size` is the side of what the image processor makes."""

    vision_tower: PreTrainedModel
    image_processor: BaseImageProcessor
    image_size: int
    language_model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def build_vision_tower(config: PreTrainedConfig) -> PreTrainedModel:
    """An untrained tower of a vision configuration whose type is one of `TOWER_TYPES`."""
    if not has_attention(config):
        # What is chosen for the whole model is refused by a tower that has none.
        config._attn_implementation = "eager"
    if config.model_type in TOWER_CLASSES:
        return TOWER_CLASSES[config.model_type]._from_config(config)
    return AutoModel.from_config(config, **({} if has_pooling_layer(config) else {"add_pooling_layer": False}))


def load_vision_tower(vision: str, dtype: torch.dtype | None = None, revision: str = "main") -> PreTrainedModel:
    """A vision tower, or that of a SigLIP or CLIP model, with every weight taken from the checkpoint.

    A ViT without the weights of its pooling layer is loaded without that layer; see [`pooled_of`].

    Raises:
        ValueError: when the model is of another type, or the checkpoint lacks weights of the tower.
    """
    config = AutoConfig.from_pretrained(vision, revision=revision)
    if config.model_type not in TOWER_CLASSES | TOWER_TYPES:
        raise ValueError(
            f"{vision} is a {config.model_type!r} model; the vision backbone must be one of "
            f"{sorted(TOWER_CLASSES | TOWER_TYPES)}."
        )
    vision_config = getattr(config, "vision_config", config)
    if config.model_type == "clip":
        # CLIP's projection is as wide as the joint space of the dual encoder, which its vision config may not know.
        vision_config.projection_dim = config.projection_dim
    tower, report = TOWER_CLASSES.get(config.model_type, AutoModel).from_pretrained(
        vision, config=vision_config, dtype=dtype or "auto", revision=revision, output_loading_info=True
    )
    pooling_layer = {name for name in report["missing_keys"] if name.startswith("pooler.")}
    if pooling_layer and config.model_type in ("vit", "deit"):
        tower.pooler, tower.config.add_pooling_layer = None, False
        report["missing_keys"] -= pooling_layer
        logger.warning(f"{vision} has no pooling layer: an image's embedding is the last state of its class token.")
    check_complete(
        report, vision, "use a checkpoint of the whole tower, with its pooling head (SigLIP) or projection (CLIP)."
    )
    return tower


def processed_side(image_processor: BaseImageProcessor, name: str) -> int:
    """The side, in pixels, of the square that an image processor makes of every image.

    Args:
        image_processor (`BaseImageProcessor`): Of a tower.
        name (`str`): Where it comes from, for the message.

    Raises:
        ValueError: when it makes no squares, or squares of several sizes.
    """
    # A wide and a tall image: which settings decide differs between image processors.
    made = [
        tuple(image_processor([Image.new("RGB", size)], return_tensors="pt")["pixel_values"].shape[1:])
        for size in ((96, 48), (48, 96))
    ]
    channels, height, width = made[0] if len(made[0]) == 3 else (0, 0, 0)
    if made[0] != made[1] or channels != 3 or height != width:
        shapes = " and ".join(" × ".join(map(str, shape)) for shape in made)
        raise ValueError(
            f"the image processor of {name} makes {shapes} of a wide and a tall image; the model reads squares of one size: "
            "set its size to a height and a width, or its do_center_crop and crop_size."
        )
    return height


def check_complete(report: dict[str, Any], checkpoint: str, fix: str) -> None:
    """Raise a ValueError when transformers' loading report says that weights were made up."""
    if report["missing_keys"]:
        raise ValueError(f"{checkpoint} lacks weights of its backbone ({sorted(report['missing_keys'])[:3]} …); {fix}")


def generation_settings(base: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """The generation settings of a new model: greedy, with the special tokens of its base and nothing else of it.

    What the base was published with (`repetition_penalty`, `temperature`, `top_p`, …) was chosen for other texts: a penalty
    would also bend the greedy summary of a model that was trained without one.

    Args:
        base (`GenerationConfig`): Of the language model; its start and end tokens are kept.
        tokenizer (`PreTrainedTokenizerBase`): Its end token ends a summary, too, and its padding is used.
    """
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        bos_token_id=base.bos_token_id,
        eos_token_id=end_token_ids(base, tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )


def load_language_model(
    text: str, *, gguf_file: str | None = None, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model, dequantised and ready to be saved if it comes from a GGUF file, and its tokenizer, which pads.

    Args:
        text (`str`): Folder or Hub id, or the path of a `.gguf` file.
        gguf_file (`str`, *optional*): Name of the GGUF file inside `text`.
        dtype (`torch.dtype`, *optional*): Of the model; its own by default.

    Raises:
        ValueError: when the checkpoint lacks weights.
    """
    if text.endswith(".gguf"):
        text, gguf_file = str(Path(text).parent), Path(text).name
    gguf = {"gguf_file": gguf_file} if gguf_file else {}
    language_model, report = AutoModelForCausalLM.from_pretrained(
        text, dtype=dtype or "auto", output_loading_info=True, **gguf
    )
    check_complete(report, text, "use a checkpoint of the causal language model with its output head.")
    if gguf_file:
        # The weights are dequantised now; a model that still claims to be GGUF refuses to be saved.
        del language_model.config.quantization_config
        rebuilt = type(language_model)(language_model.config)
        rebuilt.load_state_dict(language_model.state_dict())
        rebuilt.generation_config = language_model.generation_config
        language_model = rebuilt.to(language_model.dtype)
    tokenizer = AutoTokenizer.from_pretrained(text, **gguf)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return language_model, tokenizer


def load_backbones(
    vision: str, text: str, *, gguf_file: str | None = None, dtype: torch.dtype | None = None
) -> Backbones:
    """Load both backbones with their image processor and tokenizer.

    Args:
        vision (`str`): Folder or Hub id of a SigLIP or CLIP model, or of a tower of `TOWER_TYPES`.
        text (`str`): Folder or Hub id of a causal language model, or the path of a `.gguf` file.
        gguf_file (`str`, *optional*): Name of the GGUF file inside `text`.
        dtype (`torch.dtype`, *optional*): The checkpoints' own by default.

    Raises:
        ValueError: when a model is of another type, a checkpoint lacks weights, or the image processor makes no squares of
            one size.
    """
    tower = load_vision_tower(vision, dtype)
    image_processor = AutoImageProcessor.from_pretrained(vision)
    image_size = processed_side(image_processor, vision)
    language_model, tokenizer = load_language_model(text, gguf_file=gguf_file, dtype=dtype)
    return Backbones(tower, image_processor, image_size, language_model, tokenizer)
