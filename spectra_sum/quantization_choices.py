"""What `--quantize` may be, and whether it can be done, checked without loading anything heavy."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .model_sources import ModelError

LANGUAGE_MODEL, NEW_MODULES = "language-model", "new-modules"
QUANTIZATIONS = (LANGUAGE_MODEL, NEW_MODULES)


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


def training_quantization(adapter: Path) -> TrainingQuantization | None:
    """
    What an adapter's language model was quantized to while it was trained, as the run's `run.json` records it, in the
    adapter's folder or, for a checkpoint, in the one above.

    Args:
        adapter (`Path`): The adapter's folder.

    Returns:
        `None`: unquantized, or nothing is recorded.
    """
    for place in (adapter, adapter.absolute().parent):
        try:
            options = json.loads((place / "run.json").read_text(encoding="utf-8"))["arguments"]["model"]
            if options.get("load_in_4bit") is not True:
                return None
            return TrainingQuantization(LANGUAGE_MODEL, options.get("use_bnb_nested_quant") is True)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            # Whoever makes a card of this record says that it is damaged; a model loads without it.
            return None
    return None


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Whether the weights of a model with this `config.json` are in fewer bits already."""
    text_config = config.get("text_config")
    inner = text_config.get("quantization_config") if isinstance(text_config, Mapping) else None
    return bool(config.get("quantization_config") or inner)


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
    if quantize == NEW_MODULES and config.get("fusion") == "concat":
        raise ModelError(
            f'{name}: a model with fusion="concat" has neither a Vision Sampler nor a Deep Visual Processor; '
            f"choose --quantize {LANGUAGE_MODEL}."
        )
