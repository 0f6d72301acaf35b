"""What the overhead benchmark measures: the rows, their models with random weights, and the articles they all read.

Sizes `7b` and `0.5b` have the dimensions of LLaVA-OneVision's language models (Qwen2) and of its tower, SigLIP so400m
cut to 26 layers without its pooling head; the whole so400m beside it gives the image embeddings. `tiny` is the 7b shape
at reduced width for a CPU, with the same depths and numbers of tokens; `test` is for tests only.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config, SiglipVisionConfig

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration

MATRICES = Path(__file__).resolve().parents[1] / "trainer" / "configs" / "matrix"
MATRIX = MATRICES / "overhead_variants.yaml"
FIELD_MATRIX = MATRICES / "field_fusions.yaml"
SEED = 0
# Open gates: a closed one would be computed all the same, but its result would be that of the text model.
GATE_INIT = 0.5
TEXT_ROW, BASELINE = "Text model alone", "OneVision"
# Rows that are measured once more with the new modules in 4 bit.
QUANTIZED = {"Vision Sampler": "Vision Sampler, NF4", "DVP": "DVP, NF4"}
# Token ids below are special in most vocabularies; the last one is the placeholder of concat.
_FIRST_TEXT_TOKEN = 5


@dataclass(frozen=True)
class Size:
    """Dimensions of language model (`text`) and towers, and how much of an article is read.

    `fields` take the place of the matrix file's. `all_fit`: the models of all rows fit into memory together.
    """

    text: Mapping[str, Any]
    tower: Mapping[str, Any]
    tower_layers: int
    note: str
    images: int = 5
    text_tokens: int = 2048
    new_tokens: int = 256
    fields: Mapping[str, Any] | None = None
    all_fit: bool = False


SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
SIZES = {
    "7b": Size(
        text={
            "vocab_size": 152128,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
        },
        tower=SO400M,
        tower_layers=26,
        note="LLaVA-OneVision Qwen2-7B and SigLIP so400m at full size",
    ),
    "0.5b": Size(
        text={
            "vocab_size": 152000,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
        },
        tower=SO400M,
        tower_layers=26,
        note="LLaVA-OneVision Qwen2-0.5B and SigLIP so400m at full size",
    ),
    "tiny": Size(
        text={
            "vocab_size": 8192,
            "hidden_size": 256,
            "intermediate_size": 1352,
            "num_hidden_layers": 28,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
        },
        tower=SO400M | {"hidden_size": 128, "intermediate_size": 480, "num_attention_heads": 4},
        tower_layers=26,
        note="the 7b shape at 1/14 of the language model's and 1/9 of the towers' width; same layers, patches and tokens",
        all_fit=True,
    ),
    "test": Size(
        text={
            "vocab_size": 96,
            "hidden_size": 64,
            "intermediate_size": 40,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
        },
        tower={
            "hidden_size": 64,
            "intermediate_size": 24,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
        },
        tower_layers=1,
        note="for tests only: its times mean nothing",
        images=2,
        text_tokens=12,
        new_tokens=4,
        fields={"num_latents": 3, "sampler_depth": 1, "dvp_num_layers": 3, "gate_layers": [1, 2, 3]},
        all_fit=True,
    ),
}


@dataclass(frozen=True)
class Row:
    """A row of the table: its name, its `SpectraSumConfig` fields (None for the text model), and whether in 4 bit."""

    name: str
    fields: dict[str, Any] | None
    quantized: bool = False

    @property
    def fusion(self) -> str | None:
        return None if self.fields is None else self.fields["fusion"]


def make_rows(size: Size, quantized: bool = False, matrix: Path = MATRIX) -> list[Row]:
    """The rows of the matrix file, with `quantized` the 4-bit ones after them, and the text model alone."""
    content = yaml.safe_load(matrix.read_text(encoding="utf-8"))
    common = content["common"] | dict(size.fields or {}) | {"gate_init": GATE_INIT}
    rows = [Row(name, common | fields) for name, fields in content["variants"].items()]
    if quantized:
        rows += [Row(QUANTIZED[row.name], row.fields, quantized=True) for row in rows if row.name in QUANTIZED]
    return [*rows, Row(TEXT_ROW, None)]


def make_text_config(size: Size) -> Qwen2Config:
    # Never an end token: every row decodes the same number of tokens.
    return Qwen2Config(
        **size.text, max_position_embeddings=32768, bos_token_id=None, eos_token_id=None, pad_token_id=0
    )


def make_config(row: Row, size: Size, one_tower: bool = False) -> SpectraSumConfig:
    """The configuration of a row that is not the text model.

    With `one_tower` patches and embeddings come from one tower of `tower_layers` layers with its pooling head, as
    where a checkpoint's tower is the teacher's own; otherwise from two, as with the published LLaVA-OneVision.
    """
    towers = {"vision_config": SiglipVisionConfig(**size.tower, num_hidden_layers=size.tower_layers)}
    if not one_tower:
        towers["vision_config"].vision_use_head = False
        towers["embedding_vision_config"] = SiglipVisionConfig(**size.tower, num_hidden_layers=size.tower_layers + 1)
    text = make_text_config(size)
    placeholder = {"image_token_id": text.vocab_size - 1} if row.fusion == "concat" else {}
    return SpectraSumConfig(**towers, text_config=text, **row.fields, **placeholder)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build_model(
    row: Row, size: Size, device: torch.device, dtype: torch.dtype, attention: str, one_tower: bool = False
) -> PreTrainedModel:
    """The row's model in evaluation mode, built where it runs; language models of all rows have the same weights.

    The baseline, LLaVA-OneVision itself, has no use for image embeddings and always one tower.
    """
    text_config = make_text_config(size)
    text_config._attn_implementation = attention
    torch.manual_seed(SEED)
    with device, _default_dtype(dtype):
        model = AutoModelForCausalLM.from_config(text_config)
        if row.fields is not None:
            config = make_config(row, size, one_tower or row.name == BASELINE)
            config._attn_implementation = attention
            torch.manual_seed(SEED)
            model = SpectraSumForConditionalGeneration(config, language_model=model)
            # As loading in that precision does, which leaves some parameters in float32.
            model.cast_parameters(dtype)
    return model.eval().requires_grad_(False)


def count_parameters(model: PreTrainedModel) -> dict[str, int]:
    """Parameters of each module, `new` (the visual path's) and `total`; tied ones count once."""
    total = sum(parameter.numel() for parameter in model.parameters())
    if not isinstance(model, SpectraSumForConditionalGeneration):
        return {"language_model": total, "new": 0, "total": total}
    backbones = {name: module for name, module in model.named_children() if name != "visual_path"}
    modules = backbones | dict(model.visual_path.named_children())
    counts = {name: sum(parameter.numel() for parameter in module.parameters()) for name, module in modules.items()}
    new = sum(parameter.numel() for parameter in model.visual_path.parameters())
    return {name: count for name, count in counts.items() if count} | {"new": new, "total": total}


def make_article(size: Size, sample: int) -> dict[str, torch.Tensor]:
    """Random `text` (1, tokens) and `pixel_values` (1, N, 3, H, W) of a sample, the same for every row."""
    generator = torch.Generator().manual_seed(SEED + sample)
    pixels = size.tower["image_size"]
    return {
        "text": torch.randint(
            _FIRST_TEXT_TOKEN, size.text["vocab_size"] - 1, (1, size.text_tokens), generator=generator
        ),
        "pixel_values": torch.randn(1, size.images, 3, pixels, pixels, generator=generator),
    }


def make_inputs(
    row: Row, model: PreTrainedModel, article: Mapping[str, torch.Tensor], device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """What generate() is given of an article: concat has the placeholders of its images before the text."""
    input_ids = article["text"]
    images = article["pixel_values"]
    if row.fusion == "concat":
        length = images.shape[1] * model.config.num_image_tokens
        input_ids = torch.cat([torch.full((1, length), model.config.image_token_id), input_ids], dim=1)
    inputs = {"input_ids": input_ids.to(device), "attention_mask": torch.ones_like(input_ids).to(device)}
    if row.fusion is not None:
        inputs["pixel_values"] = images.to(device, dtype)
        inputs["image_mask"] = torch.ones(images.shape[:2], dtype=torch.bool, device=device)
    return inputs
