"""A tiny inpainting pipeline of diffusers with random weights, saved in a folder."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)


def save_pipeline(folder, *, refusing=False, one_colour=False):
    """
    Writes a `StableDiffusionInpaintPipeline` whose pixels are half as many as the image's a side.

    Args:
        folder: Where to.
        refusing: With a safety checker that refuses every image.
        one_colour: Its decoder answers 0 everywhere, a grey.
    """
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=[8, 8],
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    if one_colour:
        with torch.no_grad():
            for parameter in vae.decoder.conv_out.parameters():
                parameter.zero_()
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=9,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    letters = sorted(ByteLevel.alphabet())
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={name: number for number, name in enumerate(names)}, merges=[], model_max_length=77
    )
    text = {
        "vocab_size": len(names),
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "bos_token_id": len(names) - 2,
        "eos_token_id": len(names) - 1,
        "pad_token_id": len(names) - 1,
    }
    checker = _refusing_checker() if refusing else None
    StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(CLIPTextConfig(**text)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=checker,
        feature_extractor=CLIPImageProcessorPil(size=32, crop_size=32) if refusing else None,
        requires_safety_checker=refusing,
    ).save_pretrained(folder)
    return folder


def _refusing_checker():
    tower = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=tower, vision_config={**tower, "image_size": 32, "patch_size": 16}, projection_dim=8
    )
    checker = StableDiffusionSafetyChecker(config)
    with torch.no_grad():
        # A cosine is always above this threshold.
        checker.concept_embeds_weights.fill_(-2)
    return checker
