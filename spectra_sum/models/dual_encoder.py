"""The dual encoder that compares images with a summary, with errors that a user can act on."""

import json
from pathlib import Path

import torch

from ..metrics.dual_encoder import MODEL_TYPES, DualEncoder
from .loading import DAMAGED_SETTINGS_ERRORS, LOADING_ERRORS
from .sources import ModelError, is_hub_id


def check_dual_encoder(name: str) -> None:
    """
    Checks, without loading anything, that `name` can be a SigLIP, SigLIP 2 or CLIP.

    Raises:
        ModelError: It is neither the folder of such a model nor a Hub id.
    """
    folder = Path(name)
    if not folder.exists():
        if is_hub_id(name):
            return
        raise ModelError(f"{name}: there is no such folder; pass the folder or Hub id of a SigLIP or CLIP.")
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


def load_dual_encoder(name: str) -> DualEncoder:
    """
    Loads a SigLIP, SigLIP 2 or CLIP from a folder or the Hub, on the GPU if there is one. Only safetensors are read, and
    none of a repository's code runs.

    Args:
        name (`str`): Folder or Hub id.

    Raises:
        ModelError: It is no such model, or it cannot be fetched or loaded.
    """
    check_dual_encoder(name)
    try:
        return DualEncoder(name, device="cuda" if torch.cuda.is_available() else "cpu")
    except (*LOADING_ERRORS, *DAMAGED_SETTINGS_ERRORS, ImportError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next(iter(lines), type(error).__name__).removeprefix(f"{name}: ")
        raise ModelError(f"{name}: the dual encoder cannot be loaded: {reason}") from error
