"""The dual encoder that compares images with texts, by its name, with errors that a user can act on."""

import json
from pathlib import Path

import torch

from ..metrics.dual_encoder import MODEL_TYPES, DualEncoder
from .default_dual_encoder import DefaultDualEncoder, load_default_dual_encoder
from .loading import DAMAGED_SETTINGS_ERRORS, LOADING_ERRORS
from .sources import DEFAULT_DUAL_ENCODER, ModelError, find_default_dual_encoder, is_hub_id


def check_dual_encoder(name: str) -> None:
    """
    Checks, without loading anything, that `name` can be a SigLIP, SigLIP 2 or CLIP, or the default dual encoder.

    Raises:
        ModelError: It is neither the folder of such a model nor a Hub id, or a package of the default one is not installed.
    """
    if name == DEFAULT_DUAL_ENCODER:
        find_default_dual_encoder()
        return
    folder = Path(name)
    if not folder.exists():
        if is_hub_id(name):
            return
        raise ModelError(
            f"{name}: there is no such folder; pass the folder or Hub id of a SigLIP or CLIP, or default."
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name}: there is no config.json in it; pass the folder of a SigLIP or CLIP.")
    try:
        model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError, RecursionError):
        raise ModelError(f"{name}: its config.json is damaged; save the model again.") from None
    if model_type not in MODEL_TYPES:
        raise ModelError(
            f"{name}: a model of type {model_type!r} does not embed texts and images in one space; pass one of the types "
            f"{', '.join(MODEL_TYPES)}, with both of its towers."
        )


def load_dual_encoder(name: str) -> DualEncoder | DefaultDualEncoder:
    """
    Loads a SigLIP, SigLIP 2 or CLIP from a folder or the Hub, or the default dual encoder; on the GPU if there is one. Of
    folders and repositories only safetensors are read, and none of their code runs.

    Args:
        name (`str`): Folder or Hub id, or `"default"`.

    Raises:
        ModelError: It is no such model, or it cannot be fetched or loaded.
    """
    check_dual_encoder(name)
    if name == DEFAULT_DUAL_ENCODER:
        return load_default_dual_encoder()
    try:
        return DualEncoder(name, device="cuda" if torch.cuda.is_available() else "cpu")
    except (*LOADING_ERRORS, *DAMAGED_SETTINGS_ERRORS, ImportError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next(iter(lines), type(error).__name__).removeprefix(f"{name}: ")
        raise ModelError(f"{name}: the dual encoder cannot be loaded: {reason}") from error
