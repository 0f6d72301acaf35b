"""Loading a model for the commands, with errors that a user can act on."""

import hashlib
import json
import shlex
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import SiglipImageProcessorPil, SiglipVisionConfig, SiglipVisionModel
from transformers.utils import cached_file, find_adapter_config_file

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor, register_auto_classes

from .causal import load_causal, load_smollm2
from .hub import HubModel, find_hub_model
from .kinds import CAUSAL, DEFAULT, LLAVA_ONEVISION, SMOLLM2, check_any, kind_of_folder
from .llava_onevision import load_llava_onevision
from .loaded import DAMAGED_SETTINGS_ERRORS, LOADING_ERRORS, LoadedModel, one_line
from .quantization_choices import (
    BASE_QUANTIZATION_FILE,
    NEW_MODULES,
    TrainingQuantization,
    check_bitsandbytes,
    check_quantization,
    is_4bit,
    is_quantized,
    training_quantization,
)
from .sources import ModelError, check_config, check_model, find_adapter_base

# τ in the weights of a model, and of an adapter.
TEMPERATURES = {f"{prefix}visual_path.alignment_head.log_temperature" for prefix in ("", "base_model.model.")}


def load_any(name: str, *, quantize: str | None = None) -> LoadedModel:
    """
    A model of any kind that the commands take, see `kinds.py`, with the code of this installation and from safetensors or
    GGUF alone.

    Args:
        name (`str`): A folder, a `.gguf` file, a Hub id, `"smollm2"` or `"default"`.
        quantize (`str`, *optional*): As [`load_model`]; of a causal language model `"language-model"` alone.

    Raises:
        ModelError: It cannot be fetched or loaded, or is of a kind that is not read; the message names it and the fix.
    """
    kind, revision = find_kind(name)
    if name == DEFAULT:
        if quantize is not None:
            raise ModelError(f"{name}: the weights of a GGUF file are unpacked as they are; leave --quantize out.")
        from .default import load_default

        return load_default()
    if name == SMOLLM2:
        return load_smollm2(quantize=quantize)
    if kind == CAUSAL:
        return load_causal(name, revision=revision, quantize=quantize)
    if kind == LLAVA_ONEVISION:
        return load_llava_onevision(name, revision=revision, quantize=quantize)
    return load_model(name, quantize=quantize)._replace(revision=revision)


def find_kind(name: str) -> HubModel:
    """
    The kind of what [`load_any`] loads, and the commit of a Hub id, of which the configuration alone is fetched.

    Raises:
        ModelError: It cannot be fetched, or is of a kind that is not read.
    """
    check_any(name)
    path = Path(name)
    if name in (DEFAULT, SMOLLM2) or (path.suffix == ".gguf" and not path.is_dir()):
        return HubModel(CAUSAL, None)
    return HubModel(kind_of_folder(path), None) if path.is_dir() else find_hub_model(name)


def load_model(name: str, *, merge: bool = True, quantize: str | None = None) -> LoadedModel:
    """
    Loads a SPeCTrA-Sum model from a folder or the Hub, with the code of this installation: none of the repository's
    code runs, and only safetensors are read. A LoRA adapter is loaded with its base, at the revision that it names.

    Args:
        name (`str`): Folder or Hub id of a model or an adapter.
        merge (`bool`, *optional*, defaults to `True`): Merge an adapter into its base; otherwise the model is a
            `PeftModel`. An adapter of a quantized base works inside it unmerged: merging would round the sum again.
        quantize (`str`, *optional*): `"language-model"` puts the language model's decoder in 4 bits (NF4),
            `"new-modules"` also Vision Sampler and Deep Visual Processor, see `quantization.py`. An adapter that was
            trained on 4 bits, as its `base_quantization.json` tells, gets its scales back as they were there; without
            `quantize` a warning says that it was.

    Raises:
        ModelError: The model cannot be fetched, loaded or quantized, or its weights are incomplete.
    """
    check_model(name)
    register_auto_classes()
    try:
        adapter = find_adapter_config_file(name)
        base, revision, trained = name, "main", None
        if adapter is not None:
            # PEFT would fall back to a pickle file.
            cached_file(name, "adapter_model.safetensors")
            base, revision = _base_of(name, Path(adapter))
            recorded = cached_file(name, BASE_QUANTIZATION_FILE, _raise_exceptions_for_missing_entries=False)
            trained = training_quantization(recorded)
            _warn_of_other_quantization(name, quantize, trained)
        config = Path(cached_file(base, "config.json", revision=revision))
        check_config(config, base)
        content = json.loads(config.read_text(encoding="utf-8"))
        options = {} if quantize is None else _quantized(quantize, content, base, trained)
        in_4bit = quantize is not None or is_4bit(content)
        if in_4bit:
            check_bitsandbytes()
        base_model, report = SpectraSumForConditionalGeneration.from_pretrained(
            base, revision=revision, use_safetensors=True, output_loading_info=True, **options
        )
        model = base_model
        processor = SpectraSumProcessor.from_pretrained(name)
        if adapter is not None:
            # Only adapters need peft, which loads slowly.
            from peft import PeftModel

            # The adapter is put into the base in place.
            model = PeftModel.from_pretrained(base_model, name)
            if merge and quantize is None and not is_quantized(content):
                model = model.merge_and_unload()
            elif merge:
                model = base_model
                for part in ("visual_path", "vision_tower"):
                    if hasattr(getattr(model, part), "modules_to_save"):
                        # The trained copy alone: PEFT also holds the one that it replaces.
                        setattr(model, part, getattr(model, part).modules_to_save["default"])
        if in_4bit:
            _finish_quantization(base_model, quantize)
    except ModelError:
        raise
    except LOADING_ERRORS as error:
        advice = _old_temperature(name) or f"the model cannot be loaded: {one_line(error)}"
        raise ModelError(f"{name}: {advice}") from error
    except DAMAGED_SETTINGS_ERRORS as error:
        raise ModelError(
            f"{name}: the model cannot be loaded, a value in its .json files is damaged: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error
    if report["unexpected_keys"]:
        raise ModelError(
            f"{name}: its config.json has no place for {len(report['unexpected_keys'])} tensors of the weights, "
            f"{sorted(report['unexpected_keys'])[0]} among them; save the model again."
        )
    if report["missing_keys"]:
        raise ModelError(
            f"{name}: the weights lack {len(report['missing_keys'])} tensors, {sorted(report['missing_keys'])[0]} "
            "among them; save the model again."
        )
    return LoadedModel(model.eval(), processor, trained=True)


def _warn_of_other_quantization(name: str, quantize: str | None, trained: TrainingQuantization | None) -> None:
    if trained is not None and quantize != trained.quantize:
        warnings.warn(
            f"{name}: this adapter was trained on the language model in 4 bits; with {quantize or 'no quantization'} its "
            f"weights are others than in training, with --quantize {trained.quantize} the same.",
            stacklevel=3,
        )


def _quantized(
    quantize: str, config: Mapping[str, Any], name: str, trained: TrainingQuantization | None
) -> dict[str, Any]:
    """What `from_pretrained` needs to put the language model in 4 bits while it loads."""
    check_quantization(quantize, config, name)
    from .quantization import nf4_config

    nested = trained is None or trained.nested
    return {"quantization_config": nf4_config(getattr(torch, config.get("dtype") or "float32"), nested)}


def _finish_quantization(model: SpectraSumForConditionalGeneration, quantize: str | None) -> None:
    from .quantization import quantize_new_modules, settle_4bit_layers

    settle_4bit_layers(model)
    if quantize == NEW_MODULES:
        quantize_new_modules(model)


def save_random_vision(folder: Path) -> None:
    """Writes a small SigLIP vision tower with random weights, for machines that have no pretrained one."""
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    SiglipVisionModel(SiglipVisionConfig(**size, image_size=64, patch_size=16)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)


def weight_digests(name: str) -> dict[str, str]:
    """
    What tells the weights of a model from others, whichever names and files they lie in.

    Args:
        name (`str`): Folder or Hub id of a model or adapter that [`load_model`] loads.

    Returns:
        SHA-256 digests: `model` of a whole model; `adapter` and `base` of a LoRA adapter.

    Raises:
        ModelError: The weights cannot be fetched or read.
    """
    try:
        return {part: _digest(files) for part, files in _all_weight_files(name).items()}
    except (*LOADING_ERRORS, *DAMAGED_SETTINGS_ERRORS) as error:
        raise ModelError(f"{name}: the weights cannot be read: {one_line(error)}") from error


def _all_weight_files(name: str) -> dict[str, list[Path]]:
    """Of a `model`, or of an `adapter` and its `base`."""
    found = find_adapter_config_file(name)
    if found is None:
        return {"model": _weight_files(name, "main")}
    adapter = [Path(cached_file(name, "adapter_model.safetensors"))]
    return {"adapter": adapter, "base": _weight_files(*_base_of(name, Path(found)))}


def _base_of(name: str, settings: Path) -> tuple[str, str]:
    """Folder or Hub id of an adapter's base, and its revision, by the adapter's name and its `adapter_config.json`."""
    content = json.loads(settings.read_text(encoding="utf-8"))
    local = find_adapter_base(settings.parent) if Path(name).is_dir() else None
    if local:
        return str(local), "main"
    return str(content["base_model_name_or_path"]), content.get("revision") or "main"


def _weight_files(name: str, revision: str) -> list[Path]:
    try:
        return [Path(cached_file(name, "model.safetensors", revision=revision))]
    except OSError:
        # In several files; if the Hub is what fails, this fails too.
        index = Path(cached_file(name, "model.safetensors.index.json", revision=revision))
    shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return [Path(cached_file(name, shard, revision=revision)) for shard in sorted(shards)]


def _digest(files: Iterable[Path]) -> str:
    """Over names, dtypes, shapes and bytes of all tensors, by the order of their names."""
    digests = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
                digests[name] = f"{tensor.dtype} {list(tensor.shape)} {hashlib.sha256(data).hexdigest()}"
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _old_temperature(name: str) -> str | None:
    """What to do about weights from before τ had a dimension; `None` where that is not what is wrong."""
    try:
        files = _all_weight_files(name)
        for path in (path for group in files.values() for path in group):
            with safe_open(path, framework="pt") as file:
                for key in TEMPERATURES & set(file.keys()):
                    if not file.get_slice(key).get_shape():
                        program = (
                            "from safetensors.torch import load_file, save_file; "
                            f"path, key = {str(path)!r}, {key!r}; weights = load_file(path); "
                            "weights[key] = weights[key].reshape(1); "
                            "save_file(weights, path, metadata={'format': 'pt'})"
                        )
                        return (
                            "an earlier version saved its temperature without a dimension; repair the file once, with: "
                            f"python -c {shlex.quote(program)}"
                        )
    except (*LOADING_ERRORS, *DAMAGED_SETTINGS_ERRORS):
        # The error that brought us here is told in its place.
        return None
    return None
