"""4-bit NF4 (QLoRA, Dettmers et al. 2023) by bitsandbytes: which linear layers, and how.

Of the language model: the linear layers of its decoder, and not the output head. On demand, of the new modules: those of
Vision Sampler and Deep Visual Processor. Never: vision tower, gates and their cross-attention, relevance predictor,
alignment head; they are small, and rankings and gates live on small differences.
"""

from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import nn
from transformers import BitsAndBytesConfig

from modeling_spectra import SpectraSumForConditionalGeneration

# For transformers, a regular expression of the names to skip: all but the language model's decoder layers. Left to
# itself it skips nothing but the output head.
NOT_DECODER_LAYERS = r"(?!language_model\.(\w+\.)*layers\.).+"
# The same of a causal language model on its own; some call their layers h.
NOT_CAUSAL_LAYERS = r"(?!(\w+\.)*(layers|h|blocks)\.).+"

# Weights that share a scale, bitsandbytes' default.
BLOCK = 64


def nf4_config(
    compute_dtype: torch.dtype, nested: bool = True, skipped: str = NOT_DECODER_LAYERS
) -> BitsAndBytesConfig:
    """For `from_pretrained`: the language model's decoder in NF4, computing in `compute_dtype`; `nested`: scales in 8 bits;
    `skipped`: a regular expression of the names that stay as they are."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=nested,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=[skipped],
    )


def quantization_of(model: nn.Module) -> dict[str, Any]:
    """How the 4-bit layers of a model were quantized, in the words of transformers' `BitsAndBytesConfig`."""
    layer = next(module for module in model.modules() if isinstance(module, Linear4bit))
    state = layer.weight.quant_state
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": state.quant_type,
        "bnb_4bit_use_double_quant": state.nested,
    }


def settle_4bit_layers(model: nn.Module) -> None:
    """Make bitsandbytes compute the same on every processor, in training and evaluation.

    On CPUs with AVX512-BF16, its layers repack their weights for good in evaluation mode: they then compute in bfloat16
    whatever the model does, with rounded scales, stop the gradient of later training, and refuse outputs that 32 does not
    divide. That path is turned off. On all CPUs, it takes wrong scales where a block of 64 weights goes over the end of a
    row; such layers are refused.

    Raises:
        ValueError: The inputs of a 4-bit layer are no multiple of 64; the message names the layer.
    """
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            if module.in_features % BLOCK:
                raise ValueError(
                    f"{name} reads {module.in_features} values, no multiple of {BLOCK}: bitsandbytes computes wrongly with "
                    "such layers in 4 bits; leave this model unquantized."
                )
            module.support_avx512bf16_for_cpu = False


def quantize_linear_layers(
    module: nn.Module, config: BitsAndBytesConfig, device: torch.device | str | None = None
) -> None:
    """Replace every linear layer inside `module` by a frozen 4-bit one, in place.

    transformers quantizes only while loading, and only layers that are exactly `nn.Linear`.

    Args:
        module (`nn.Module`): Not a linear layer itself.
        config (`BitsAndBytesConfig`): As [`nf4_config`]; its skipped names are not looked at.
        device (`torch.device`, *optional*): Where the 4-bit weights are made and stay; by default where each layer is.
    """
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.Linear):
            module.set_submodule(name, _in_4bit(layer, config, device or layer.weight.device))
    settle_4bit_layers(module)


def quantize_new_modules(model: SpectraSumForConditionalGeneration) -> None:
    """Put the linear layers of Vision Sampler and Deep Visual Processor in NF4, in place."""
    for part in (model.visual_path.sampler, model.visual_path.deep_visual_processor):
        weight = None if part is None else next(part.parameters(), None)
        if weight is not None:
            quantize_linear_layers(part, nf4_config(weight.dtype))


def _in_4bit(linear: nn.Linear, config: BitsAndBytesConfig, device: torch.device | str) -> Linear4bit:
    options = {
        "compress_statistics": config.bnb_4bit_use_double_quant,
        "quant_type": config.bnb_4bit_quant_type,
        "quant_storage": config.bnb_4bit_quant_storage,
    }
    with torch.device("meta"):
        quantized = Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=config.bnb_4bit_compute_dtype,
            **options,
        )
    # Moving to a device is what quantizes.
    quantized.weight = Params4bit(linear.weight.data, requires_grad=False, module=quantized, **options).to(device)
    if linear.bias is not None:
        quantized.bias = nn.Parameter(linear.bias.data.to(device), requires_grad=False)
    return quantized.train(linear.training)
