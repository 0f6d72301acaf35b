"""Tiny models, tokenizers and inputs that the tests build for themselves."""

from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipVisionConfig,
)

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration, SpectraSumProcessor

IMAGE_SIZE, PATCH_SIZE = 16, 8
NUM_PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2
VISION_WIDTH, CLIP_PROJECTION, TEXT_WIDTH, TEXT_LAYERS = 24, 20, 32, 4
VOCABULARY = 400
# Weights of the usual spread hardly matter at this width: a test could not tell right from wrong.
SPREAD = 0.3
SENTENCES = [
    "The harbour reopened on Monday after the storm had passed.",
    "Engineers counted twelve damaged ships, and two bridges were closed.",
    "A spokesman said that the repair will cost four million euros.",
    "Summary: the article says what happened, where and when.",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, with a chat template on demand."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 20,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<|pad|>",
        eos_token="<|im_end|>" if chat else "<|end|>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
        chat_template=CHAT_TEMPLATE if chat else None,
    )


def vision_config(kind: str = "siglip") -> PreTrainedConfig:
    """Of a SigLIP or CLIP tower: 2 layers, images of 16 pixels, 4 patches."""
    fields = {
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
    }
    if kind == "clip":
        return CLIPVisionConfig(**fields, projection_dim=CLIP_PROJECTION)
    return SiglipVisionConfig(**fields)


def text_config(kind: str = "qwen2", **fields) -> PreTrainedConfig:
    """Of a Qwen2 or Llama model: 4 layers of width 32."""
    fields = {
        "vocab_size": VOCABULARY,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": SPREAD,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
        **fields,
    }
    return LlamaConfig(**fields) if kind == "llama" else Qwen2Config(**fields)


def tiny_config(
    fusion: str = "dvp", vision: str = "siglip", text: str = "qwen2", text_fields: dict | None = None, **fields
) -> SpectraSumConfig:
    """3 visual blocks, gates at the text layers 1 and 3, 3 latents per image, at most 3 images of 6 candidates."""
    fields = {
        "fusion": fusion,
        "num_latents": 3,
        "sampler_depth": 1,
        "dvp_num_layers": 3,
        "gate_layers": [1, 3],
        "dvp_num_heads": 2,
        "cross_attention_num_heads": 2,
        "max_images": 3,
        "max_candidate_images": 6,
        "vrp_hidden_size": 16,
        "initializer_range": SPREAD,
        "image_token_id": VOCABULARY - 1 if fusion == "concat" else None,
        **fields,
    }
    return SpectraSumConfig(
        vision_config=vision_config(vision), text_config=text_config(text, **(text_fields or {})), **fields
    )


def tiny_model(
    fusion: str = "dvp",
    vision: str = "siglip",
    text: str = "qwen2",
    *,
    gate: float = 0.0,
    attention: str = "sdpa",
    seed: int = 0,
    **fields,
) -> SpectraSumForConditionalGeneration:
    """A random model in evaluation mode whose gates stand at α = `gate`; `fields` go to the configuration."""
    torch.manual_seed(seed)
    config = tiny_config(fusion, vision, text, gate_init=gate, **fields)
    config._attn_implementation = attention
    return SpectraSumForConditionalGeneration(config).eval()


def tiny_image_processor(kind: str = "siglip") -> SiglipImageProcessor | CLIPImageProcessor:
    if kind == "clip":
        return CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=IMAGE_SIZE)
    return SiglipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})


def tiny_processor(chat: bool = False, **fields) -> SpectraSumProcessor:
    """A processor with the tiny tokenizer; `<image>` gets a token id of its own when placeholders are asked for."""
    tokenizer = tiny_tokenizer(chat)
    if fields.get("num_image_tokens"):
        tokenizer.add_special_tokens({"extra_special_tokens": ["<image>"]}, replace_extra_special_tokens=False)
    return SpectraSumProcessor(
        tiny_image_processor(), tokenizer, chat_template=tokenizer.chat_template, max_images=3, **fields
    )


def save_vision_folder(folder: Path, kind: str = "siglip", seed: int = 1) -> Path:
    """A dual encoder of vision and text with its image processor."""
    torch.manual_seed(seed)
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    vision = vision_config(kind).to_dict()
    if kind == "clip":
        # As in published CLIP folders, only the joint configuration knows the width of the joint space.
        del vision["projection_dim"]
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=CLIP_PROJECTION)
        model = CLIPModel(config)
    else:
        text["projection_size"] = VISION_WIDTH
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    model.save_pretrained(folder)
    tiny_image_processor(kind).save_pretrained(folder)
    return folder


def save_text_folder(folder: Path, kind: str = "qwen2", chat: bool = False, seed: int = 2, **fields) -> Path:
    """A causal language model with its tokenizer."""
    torch.manual_seed(seed)
    model = (LlamaForCausalLM if kind == "llama" else Qwen2ForCausalLM)(text_config(kind, **fields))
    model.save_pretrained(folder)
    tiny_tokenizer(chat).save_pretrained(folder)
    return folder


def pixels(*counts: int, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pixel_values (B, N, 3, H, W) and image_mask (B, N) of articles with `counts` images; padding is noise."""
    generator = torch.Generator().manual_seed(seed)
    count = max(counts)
    values = torch.randn(len(counts), count, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    return values, torch.arange(count) < torch.tensor(counts)[:, None]


def tokens(batch: int, length: int, seed: int = 4) -> torch.Tensor:
    """Random token ids (batch, length) without special tokens or placeholders."""
    return torch.randint(5, VOCABULARY - 20, (batch, length), generator=torch.Generator().manual_seed(seed))


def picture(seed: int = 0, size: tuple[int, int] = (20, 14), mode: str = "RGB") -> Image.Image:
    """A random PIL image."""
    data = torch.randint(
        0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return Image.fromarray(data.numpy()).convert(mode)
