"""Which kinds of models `--model` takes, and which kind a model is, by its files and without loading it."""

import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .sources import HUB_ID, ModelError, check_config, find_adapter_base, find_smollm2

SPECTRA_SUM, LLAVA_ONEVISION, CAUSAL = "spectra-sum", "llava-onevision", "causal"
KINDS = (SPECTRA_SUM, LLAVA_ONEVISION, CAUSAL)
DEFAULT, SMOLLM2 = "default", "smollm2"
TAKEN = "pass a SPeCTrA-Sum, a LLaVA-OneVision or a causal language model"
# Of a GGUF model in several files.
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_DATASET_FILES = ("dataset_info.json", "dataset_dict.json", "state.json", "*.parquet", "*.arrow", "*_data")


def check_any(name: str) -> None:
    """
    Checks, without loading or fetching anything, that `name` can be a model of any kind: `default`, `smollm2`, a folder, a
    `.gguf` file, or a Hub id.

    Raises:
        ModelError: It is none of them, its folder is of another kind, or a package that it needs is not installed.
    """
    path = Path(name)
    if name == DEFAULT:
        from .default import check_default

        check_default()
    elif name == SMOLLM2:
        check_gguf(find_smollm2())
    elif path.is_dir():
        kind_of_folder(path)
    elif path.suffix == ".gguf":
        check_gguf(path)
    elif path.exists():
        raise ModelError(f"{name}: this is a file; pass the model's folder, or a .gguf file.")
    elif not HUB_ID.fullmatch(name):
        raise ModelError(
            f"{name}: there is no such folder; pass a model's folder, a .gguf file, a Hub id (owner/name), {SMOLLM2} or "
            f"{DEFAULT}."
        )


def check_gguf(file: Path) -> None:
    """
    Checks that a GGUF file can be read.

    Raises:
        ModelError: It is missing, damaged or a part of a model, or the package that reads it is not installed.
    """
    if not file.is_file():
        raise ModelError(
            f"{file}: there is no such file; download it first: hf download OWNER/NAME FILE.gguf --local-dir ."
        )
    if _PART.search(file.name):
        raise ModelError(f"{file}: this is a part of a model; join its parts first: llama-gguf-split --merge.")
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise ModelError(f"{file}: this is no GGUF file; download it again.")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{file}: reading it needs gguf; install it with: pip install gguf")


def kind_of_folder(folder: Path) -> str:
    """
    The kind of the model in a folder; that of a LoRA adapter is its base's.

    Raises:
        ModelError: The folder holds no model, or one of another kind.
    """
    if (folder / "adapter_config.json").is_file():
        base = find_adapter_base(folder)
        if base is not None:
            check_adapter_base(read_config(base / "config.json", str(base)), str(folder), str(base))
        return SPECTRA_SUM
    if (folder / "config.json").is_file():
        config = read_config(folder / "config.json", str(folder))
        kind = kind_of_config(config, str(folder))
        if kind == SPECTRA_SUM:
            check_config(folder / "config.json", str(folder))
        return kind
    raise ModelError(f"{folder}: {without_config(path.name for path in folder.iterdir())}")


def check_adapter_base(config: Mapping[str, Any], adapter: str, base: str) -> None:
    """
    Checks that an adapter can be loaded with its base.

    Raises:
        ModelError: The base is no SPeCTrA-Sum.
    """
    if config.get("model_type") != "spectra_sum":
        raise ModelError(
            f"{adapter}: this is an adapter of a {config.get('model_type')!r} model, {base}; merge the two (merge_and_unload "
            "of PEFT), save the result, and pass its folder."
        )


def read_config(file: Path, name: str) -> dict[str, Any]:
    """
    The content of a model's `config.json`.

    Raises:
        ModelError: It is damaged.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ModelError(f"{name}: its config.json is damaged; save the model again.")
    return config


def kind_of_config(config: Mapping[str, Any], name: str) -> str:
    """
    The kind of a model by its `config.json`.

    Args:
        config (`Mapping[str, Any]`): The file's content.
        name (`str`): The model's name in the message.

    Raises:
        ModelError: It is of another kind. The message says of which.
    """
    model_type = config.get("model_type")
    if model_type in ("spectra_sum", "llava_onevision"):
        return SPECTRA_SUM if model_type == "spectra_sum" else LLAVA_ONEVISION
    reason = _why_not_causal(config)
    if reason is not None:
        raise ModelError(f"{name}: {reason}.")
    return CAUSAL


def _why_not_causal(config: Mapping[str, Any]) -> str | None:
    """What a model is that is no causal language model; None for one that is."""
    # Torch and transformers take seconds to import, which the kinds above need not cost.
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if "_diffusers_version" in config:
        return f"this is a part of a diffusion model; {TAKEN}"
    model_type, architecture = config.get("model_type"), next(iter(config.get("architectures") or ()), None)
    if not isinstance(model_type, str):
        return f"its config.json names no model_type; {TAKEN}"
    shown = f"{model_type!r}" + (f" ({architecture})" if architecture else "")
    classes = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type, ())
    classes = (classes,) if isinstance(classes, str) else tuple(classes)
    if model_type not in CONFIG_MAPPING_NAMES or (architecture not in (None, *classes) and config.get("auto_map")):
        if config.get("auto_map"):
            return f"the code of a {shown} model lies in its repository, and none of that is run; {TAKEN} of transformers' own"
        return f"{shown} is no model that the installed transformers knows; {TAKEN}, or upgrade transformers"
    two_parts = config.get("is_encoder_decoder") or model_type in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    if two_parts and architecture not in classes:
        return f"{shown} is an encoder-decoder, which is not read; {TAKEN} (without an encoder)"
    if architecture in classes or (architecture is None and classes):
        if any(class_.endswith("ForConditionalGeneration") for class_ in classes):
            return f"{shown} is a vision-language model, of which LLaVA-OneVision alone is read; {TAKEN}"
        if model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and config.get("is_decoder") is not True:
            return f"{shown} is an encoder and writes no text; {TAKEN}"
        return None
    if model_type in auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        return f"{shown} compares images and texts and writes none; it is for --vision: {TAKEN} here"
    if model_type in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return f"{shown} is a vision-language model, of which LLaVA-OneVision alone is read; {TAKEN}"
    if (
        model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        or model_type in auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
    ):
        return f"{shown} is an encoder and writes no text; {TAKEN}"
    if classes:
        return f"{shown} has no output head that writes text; {TAKEN}, such as a {classes[0]}"
    return f"{shown} is no language model; {TAKEN}"


def without_config(names: Iterable[str]) -> str:
    """What a folder or repository without `config.json` is, by the names of its files, and what to do."""
    names = sorted(names)
    ggufs = [name for name in names if name.endswith(".gguf")]
    if ggufs:
        return f"it holds GGUF files and no config.json; download one of them and pass that file, such as {ggufs[0]}."
    if "model_index.json" in names:
        return f"this is a diffusion model; {TAKEN}."
    if any(Path(name).match(pattern) for name in names for pattern in _DATASET_FILES):
        return f"this is a dataset; {TAKEN} (evaluate takes data as --data)."
    return "the folder holds no config.json; pass the folder that save_pretrained wrote."
