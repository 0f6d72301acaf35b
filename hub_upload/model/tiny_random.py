"""A tiny random model: every part of the architecture in a few hundred kilobytes, for other people's tests."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, SiglipImageProcessorPil, SiglipVisionConfig

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration, SpectraSumProcessor

SEED = 0
PAD_TOKEN, EOS_TOKEN = "<|pad|>", "<|end|>"
IMAGE_SIZE = 16
# Weights of the usual spread hardly matter at this width, and closed gates let no image through: a test that uses the model
# could not tell right from wrong.
SPREAD, GATE = 0.3, 0.5


def save_tiny_random(folder: Path) -> None:
    """
    Writes the model, its processor and its code; the weights are the same bits on each call.

    Args:
        folder (`Path`): Where to; made if it is missing.
    """
    tokenizer = _byte_tokenizer()
    vision = SiglipVisionConfig(
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=IMAGE_SIZE // 2,
    )
    text = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=SPREAD,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = SpectraSumConfig(
        vision_config=vision,
        text_config=text,
        fusion="dvp",
        num_latents=3,
        sampler_depth=1,
        dvp_num_layers=3,
        dvp_num_heads=2,
        gate_layers=[1, 3],
        gate_init=GATE,
        cross_attention_num_heads=2,
        vrp_hidden_size=16,
        initializer_range=SPREAD,
    )
    processor = SpectraSumProcessor(
        SiglipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}),
        tokenizer,
        max_images=config.max_images,
        max_candidate_images=config.max_candidate_images,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = SpectraSumForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte, and no merges."""
    tokens = [PAD_TOKEN, EOS_TOKEN, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD_TOKEN, eos_token=EOS_TOKEN)
