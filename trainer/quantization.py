"""QLoRA (§8): the frozen language model in 4 bits, adapters and visual path beside it in their own precision.

peft's `prepare_model_for_kbit_training` is not used: it would cast all that is not 4-bit to float32. What else it does,
freezing and gradients through checkpointed inputs, is done by `set_trainable` and by transformers.

With `bf16` the linear layers of the visual path are in bfloat16, too, whose steps are at least 1/256 of a weight: updates
below half a step are lost, and those of 1e-4 are so for all weights from 1/32 upwards. LoRA adapters, norms, gates,
relevance predictor and τ are in float32 and lose nothing. `--dtype float32` keeps all trained weights, and the frozen ones
that are not in 4 bits, in float32 at twice their memory; `bf16` is then autocast alone.
"""

from dataclasses import replace

import torch
from accelerate.utils import parse_flag_from_env
from trl import ModelConfig, get_quantization_config

from modeling_spectra import SpectraSumForConditionalGeneration
from spectra_sum.errors import SpectraSumError
from spectra_sum.models.quantization_choices import check_bitsandbytes


def check_quantization_arguments(model_args: ModelConfig) -> None:
    """Check that the arguments about 4 bits make sense together.

    Raises:
        ValueError: naming the argument and the fix.
    """
    if not model_args.load_in_4bit:
        for name in ("use_bnb_nested_quant", "bnb_4bit_quant_storage"):
            if getattr(model_args, name) != getattr(ModelConfig(), name):
                raise SpectraSumError(f"{name} belongs to load_in_4bit: true; pass it, too, or leave both out.")
        return
    if not model_args.use_peft:
        raise SpectraSumError(
            "load_in_4bit freezes the language model for adapters beside it: pass use_peft: true, too."
        )
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise SpectraSumError(
            "load_in_4bit: FSDP2 does not shard 4-bit weights: launch with trainer/configs/accelerate/ddp.yaml, or leave "
            "load_in_4bit out."
        )
    check_bitsandbytes()


def quantize_language_model(
    model: SpectraSumForConditionalGeneration,
    model_args: ModelConfig,
    device: torch.device,
    compute_dtype: torch.dtype | None = None,
) -> None:
    """Put the linear layers of the language model's decoder in NF4 on `device`, in place; nothing else changes.

    The adapter's base is saved before, unquantized: it loads with or without 4 bits.

    Args:
        model (`SpectraSumForConditionalGeneration`): Before it is wrapped by PEFT.
        model_args (`ModelConfig`): `use_bnb_nested_quant`, `bnb_4bit_quant_storage`.
        device (`torch.device`): That of this process.
        compute_dtype (`torch.dtype`, *optional*): Of their matrix products; by default the language model's own.

    Raises:
        ValueError: The language model is quantized already.
    """
    # bitsandbytes takes seconds to import, and only QLoRA needs it.
    from spectra_sum.models.quantization import quantize_linear_layers

    language_model = model.language_model
    if model.config.text_config.to_dict().get("quantization_config") or hasattr(model.config, "quantization_config"):
        raise SpectraSumError("load_in_4bit: the language model is quantized already; pass the original weights.")
    dtype = str(compute_dtype or language_model.dtype).removeprefix("torch.")
    quantize_linear_layers(
        language_model.get_decoder().layers, get_quantization_config(replace(model_args, dtype=dtype)), device
    )
    # As transformers marks a model that it has loaded in 4 bits: PEFT then makes adapters for 4-bit layers.
    model.is_loaded_in_4bit = True
