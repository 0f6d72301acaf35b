"""What can be a model of `--segment` and `--inpaint`, checked without loading anything."""

import importlib.util
import json
from pathlib import Path

from ...models.sources import ModelError, is_hub_id

# Of transformers' models that generate masks, the one whose image processor works without torchvision.
SEGMENTER = "sam"
PIPELINE_FILE = "model_index.json"


def check_inpainting_model(name: str) -> None:
    """
    Checks that diffusers is installed, and that `name` can be one of its pipelines.

    Raises:
        ModelError: It is neither a pipeline's folder nor a Hub id, or diffusers is missing.
    """
    if importlib.util.find_spec("diffusers") is None:
        raise ModelError("--inpaint needs diffusers; install it with: pip install 'spectra-sum[inpaint]'")
    _check_place(name, PIPELINE_FILE, "an inpainting pipeline of diffusers")


def check_segmentation_model(name: str) -> None:
    """
    Checks that `name` can be a SAM.

    Raises:
        ModelError: It is neither the folder of such a model nor a Hub id.
    """
    if not _check_place(name, "config.json", "a SAM"):
        return
    try:
        kind = json.loads((Path(name) / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError, RecursionError):
        raise ModelError(f"{name}: its config.json is damaged; save the model again.") from None
    check_segmenter_type(name, kind)


def check_segmenter_type(name: str, kind: object) -> None:
    """
    Checks the `model_type` of a model of `--segment`.

    Raises:
        ModelError: Its masks cannot be generated here.
    """
    if kind != SEGMENTER:
        raise ModelError(f"{name}: --segment takes no model of type {kind!r}; pass one of type {SEGMENTER!r}.")


def _check_place(name: str, file: str, kind: str) -> bool:
    """Whether it is a folder with that file; else it is a Hub id."""
    folder = Path(name)
    if not folder.exists() and is_hub_id(name):
        return False
    if not folder.is_dir():
        raise ModelError(f"{name}: there is no such folder; pass the folder or Hub id of {kind}.")
    if not (folder / file).is_file():
        raise ModelError(f"{name}: the folder holds no {file}; pass the folder of {kind}.")
    return True
