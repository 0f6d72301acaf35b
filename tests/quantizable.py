"""A tiny model that bitsandbytes can quantize: 64 wide, since it needs multiples of 64."""

from pathlib import Path

import torch
from transformers import SiglipVisionConfig

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration
from tests import tiny

FIELDS = {
    "gate_layers": [1, 3],
    "dvp_num_layers": 3,
    "num_latents": 3,
    "sampler_depth": 2,
    "vrp_context": "article_set",
}


def quantizable_config(fusion: str = "dvp") -> SpectraSumConfig:
    """4 decoder layers with a feed-forward of 128, 3 visual blocks, open gates."""
    vision = {**tiny.vision_config().to_dict(), "hidden_size": 64, "intermediate_size": 64}
    return SpectraSumConfig(
        fusion=fusion,
        vision_config=SiglipVisionConfig(**vision),
        text_config=tiny.text_config(hidden_size=64, intermediate_size=128),
        image_token_id=tiny.VOCABULARY - 1 if fusion == "concat" else None,
        max_images=3,
        max_candidate_images=6,
        initializer_range=0.1,
        gate_init=0.5,
        distill_weight=0.5,
        **FIELDS,
    )


def save_quantizable(folder: Path, fusion: str = "dvp", seed: int = 0) -> Path:
    """A random model of that configuration with its processor."""
    torch.manual_seed(seed)
    SpectraSumForConditionalGeneration(quantizable_config(fusion)).save_pretrained(folder)
    tiny.tiny_processor(max_candidate_images=6).save_pretrained(folder)
    return folder
