"""What `--quantize` may be, and whether it can be done, checked without loading anything heavy."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .sources import ModelError

LANGUAGE_MODEL, NEW_MODULES = "language-model", "new-modules"
QUANTIZATIONS = (LANGUAGE_MODEL, NEW_MODULES)
# In an adapter's folder, written where its base was quantized while it was trained.
BASE_QUANTIZATION_FILE = "base_quantization.json"


class TrainingQuantization(NamedTuple):
    """What an adapter's language model was quantized to in training, and whether its scales were, too (nested)."""

    quantize: str
    nested: bool


def check_bitsandbytes() -> None:
    """
    Checks that the library that quantizes is installed.

    Raises:
        ModelError: It is not.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("4 bits need bitsandbytes; install it with: pip install 'spectra-sum[quantization]'")


def training_quantization(file: str | Path | None) -> TrainingQuantization | None:
    """
    What an adapter's language model was quantized to while it was trained.

    Args:
        file (`Path`, *optional*): The adapter's `BASE_QUANTIZATION_FILE`; an adapter of an unquantized base has none.

    Returns:
        `None`: unquantized.
    """
    if file is None:
        return None
    nested = json.loads(Path(file).read_text(encoding="utf-8"))["bnb_4bit_use_double_quant"]
    return TrainingQuantization(LANGUAGE_MODEL, nested is True)


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Whether the weights of a model with this `config.json` are in fewer bits already."""
    return bool(_quantization_config(config))


def is_4bit(config: Mapping[str, Any]) -> bool:
    """Whether bitsandbytes has put them in 4 bits."""
    return _quantization_config(config).get("quant_method") == "bitsandbytes"


def _quantization_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    text_config = config.get("text_config")
    inner = text_config.get("quantization_config") if isinstance(text_config, Mapping) else None
    return config.get("quantization_config") or inner or {}


def check_quantization(quantize: str, config: Mapping[str, Any], name: str) -> None:
    """
    Checks that a model can be quantized.

    Args:
        quantize (`str`): One of `QUANTIZATIONS`.
        config (`Mapping[str, Any]`): The content of the model's `config.json`.
        name (`str`): The model's name in the message.

    Raises:
        ModelError: `quantize` is something else, bitsandbytes is missing, the model is quantized already, or it has
            nothing to quantize.
    """
    if quantize not in QUANTIZATIONS:
        raise ModelError(f"quantize is {quantize!r}; choose one of {', '.join(QUANTIZATIONS)}.")
    check_bitsandbytes()
    if is_quantized(config):
        raise ModelError(f"{name}: this model is quantized already; leave --quantize out, or pass the original.")
    if quantize == NEW_MODULES and not _has_new_modules(config):
        raise ModelError(
            f'{name}: this model with fusion="{config.get("fusion")}" has neither a Vision Sampler nor a Deep Visual Processor; '
            f"choose --quantize {LANGUAGE_MODEL}."
        )


def _has_new_modules(config: Mapping[str, Any]) -> bool:
    """Whether there is a sampler with weights, or a Deep Visual Processor."""
    fusion, states = config.get("fusion"), config.get("visual_states")
    if fusion == "concat":
        return config.get("concat_tokens") == "latents" and config.get("sampler_type") != "kmeans"
    if config.get("adapter_reads") == "patches" or states == "tower":
        return False
    return config.get("sampler_type") != "kmeans" or "dvp" in (states, fusion if states is None else None)
