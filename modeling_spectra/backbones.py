"""Pretrained backbones: the vision part of a SigLIP or CLIP model, and a causal language model."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionModelWithProjection,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SiglipVisionModel,
)
from transformers.image_processing_utils import BaseImageProcessor

from .summarization import end_token_ids

TOWER_CLASSES = {
    "siglip": SiglipVisionModel,
    "siglip_vision_model": SiglipVisionModel,
    "clip": CLIPVisionModelWithProjection,
    "clip_vision_model": CLIPVisionModelWithProjection,
}


class Backbones(NamedTuple):
    """What `load_backbones` finds in two folders."""

    vision_tower: PreTrainedModel
    image_processor: BaseImageProcessor
    language_model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def build_vision_tower(config: PreTrainedConfig) -> PreTrainedModel:
    """An untrained tower of a SigLIP or CLIP vision configuration."""
    return TOWER_CLASSES[config.model_type]._from_config(config)


def load_vision_tower(vision: str, dtype: torch.dtype | None = None, revision: str = "main") -> PreTrainedModel:
    """The vision part of a SigLIP or CLIP model, with every weight taken from the checkpoint.

    Raises:
        ValueError: when the model is of another type, or the checkpoint lacks weights of the tower.
    """
    config = AutoConfig.from_pretrained(vision, revision=revision)
    if config.model_type not in TOWER_CLASSES:
        raise ValueError(
            f"{vision} is a {config.model_type!r} model; the vision backbone must be one of {sorted(TOWER_CLASSES)}."
        )
    vision_config = getattr(config, "vision_config", config)
    if config.model_type == "clip":
        # CLIP's projection is as wide as the joint space of the dual encoder, which its vision config may not know.
        vision_config.projection_dim = config.projection_dim
    tower, report = TOWER_CLASSES[config.model_type].from_pretrained(
        vision, config=vision_config, dtype=dtype or "auto", revision=revision, output_loading_info=True
    )
    check_complete(report, vision, "use a checkpoint with its pooling head (SigLIP) or projection (CLIP).")
    return tower


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


def load_backbones(
    vision: str, text: str, *, gguf_file: str | None = None, dtype: torch.dtype | None = None
) -> Backbones:
    """Load both backbones with their image processor and tokenizer.

    Args:
        vision (`str`): Folder or Hub id of a SigLIP or CLIP model.
        text (`str`): Folder or Hub id of a causal language model, or the path of a `.gguf` file.
        gguf_file (`str`, *optional*): Name of the GGUF file inside `text`.
        dtype (`torch.dtype`, *optional*): The checkpoints' own by default.

    Raises:
        ValueError: when a model is of another type, or a checkpoint lacks weights.
    """
    if text.endswith(".gguf"):
        text, gguf_file = str(Path(text).parent), Path(text).name
    gguf = {"gguf_file": gguf_file} if gguf_file else {}
    tower = load_vision_tower(vision, dtype)
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
    return Backbones(tower, AutoImageProcessor.from_pretrained(vision), language_model, tokenizer)
