"""The folder of a model or LoRA adapter before it is published: found, checked, and what of it stays behind."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from spectra_sum.models.sources import ModelError, check_model

from ..errors import HubError
from .bare_load import tensor_digest

# What the Trainer writes beside the weights to resume a run; of use on this machine only.
RESUME_FILES = (
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "training_args.bin",
    "negative_queue.safetensors",
)
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
# Keys of saved configurations that tell where a part was loaded from on this machine.
PATH_KEYS = ("_name_or_path", "name_or_path", "_model_name_or_path")
# How the tokenizer was loaded here says nothing about how users will load it.
LOADING_KEYS = ("is_local", "local_files_only")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# Not what follows a host in an address.
ABSOLUTE_PATH = re.compile(r"(?:(?<![\w/:.~-])~?/|\b[A-Za-z]:[\\/])[^\s'\",;()]+")
# Words of everyday text and of vocabularies, which name nobody.
IMPERSONAL_USERS = ("root", "user", "admin", "ubuntu", "runner", "nobody")
# Their text is that of the training corpus, in which any word may stand.
VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "added_tokens.json",
    "special_tokens_map.json",
)


@dataclass(frozen=True)
class ModelFolder:
    """
    What is published of a folder, and what is not.

    Attributes:
        path (`Path`): The folder with the weights.
        weights (`tuple[Path, ...]`): Its safetensors, one or several shards.
        is_adapter (`bool`): A LoRA adapter rather than whole weights.
        resume_files (`tuple[str, ...]`): Names of the Trainer's files to resume, which stay here.
    """

    path: Path
    weights: tuple[Path, ...]
    is_adapter: bool
    resume_files: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return sum(file.stat().st_size for file in self.weights)


def find_model_folder(source: Path) -> ModelFolder:
    """
    Finds and checks the model of a training run's output folder, a checkpoint, or a plain model folder, without loading
    it.

    Raises:
        ModelError: There is none, its weights are incomplete or damaged, or a pickle file lies beside them.
    """
    folder = source
    named = ("config.json", "adapter_config.json")
    if source.is_dir() and not any((source / name).is_file() for name in named):
        if (source / "model" / "config.json").is_file():
            folder = source / "model"
        elif checkpoints := sorted(source.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime):
            raise ModelError(
                f"{source}: the run has not saved its model; name a checkpoint, such as {checkpoints[-1]}."
            )
    if not folder.is_dir():
        raise ModelError(f"{source}: there is no such folder; pass a training run's output or a model's folder.")
    check_model(str(folder))
    is_adapter = (folder / "adapter_config.json").is_file()
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    resume = tuple(name for name in names if any(fnmatch(name, pattern) for pattern in RESUME_FILES))
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES) and name not in resume]
    if pickles:
        raise ModelError(
            f"{folder / pickles[0]}: this is a pickle file, and loading one may run code; save the weights as "
            "safetensors and take this file out of the folder."
        )
    return ModelFolder(folder, weight_files(folder, is_adapter), is_adapter, resume)


def weight_files(folder: Path, is_adapter: bool = False) -> tuple[Path, ...]:
    """
    The safetensors of a model or adapter, each with a readable header and all of the index's tensors.

    Raises:
        ModelError: One is missing, damaged, or lacks tensors.
    """
    index = folder / "model.safetensors.index.json"
    expected: dict[str, str] = {}
    if not is_adapter and index.is_file():
        try:
            expected = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ModelError(f"{index}: the file is damaged; save the model again.") from None
        names = sorted(set(expected.values()))
    else:
        names = ["adapter_model.safetensors" if is_adapter else "model.safetensors"]
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelError(f"{folder / name}: the weights are missing; save the model again (as safetensors).")
        try:
            with safe_open(folder / name, framework="pt") as file:
                missing = {tensor for tensor, place in expected.items() if place == name} - set(file.keys())
        except SafetensorError as error:
            raise ModelError(f"{folder / name}: the file is damaged ({error}); save the model again.") from None
        if missing:
            raise ModelError(f"{folder / name}: lacks {len(missing)} tensors of the index; save the model again.")
    return tuple(folder / name for name in names)


def file_digests(files: Iterable[Path]) -> dict[str, str]:
    """{tensor's name: digest} of safetensors, one tensor in memory at a time."""
    digests = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            digests |= {name: tensor_digest(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    return digests


def remove_local_paths(folder: Path) -> None:
    """Takes out of the JSON configurations of a staged folder where their parts lay on this machine."""
    for path in sorted(folder.rglob("*.json")):
        if path.name in VOCABULARIES:
            continue
        before = json.loads(path.read_text(encoding="utf-8"))
        after = without_local_paths(before)
        if after != before:
            path.write_text(json.dumps(after, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def without_local_paths(content: Any) -> Any:
    """Parsed JSON without the places where parts lay on this machine; Hub ids stay."""
    if isinstance(content, list):
        return [without_local_paths(value) for value in content]
    if not isinstance(content, dict):
        return content
    return {
        key: without_local_paths(value)
        for key, value in content.items()
        if key not in LOADING_KEYS and not (key in PATH_KEYS and not _is_hub_id(value))
    }


def _is_hub_id(value: object) -> bool:
    return isinstance(value, str) and HUB_ID.fullmatch(value) is not None and not Path(value).exists()


def check_nothing_private(folder: Path, paths: Iterable[Path], user: str, token: str | None) -> None:
    """
    The last look at a staged folder: no text file may hold a path of this machine or the token, and the user's name may
    stand nowhere where it can have come from the run: in no absolute path, and in no setting. Ordinary words and Hub ids
    are no sign of it.

    Args:
        folder (`Path`): What would be uploaded.
        paths (`Iterable[Path]`): Folders of this machine that must not be named.
        user (`str`): The login name; empty when there is none.
        token (`str`, *optional*): The Hub's.

    Raises:
        HubError: Naming the file, and what it holds.
    """
    found_where = {f"the path {path}": _path_pattern(path) for path in paths if path != path.parent}
    user = "" if user in IMPERSONAL_USERS else user
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".safetensors"):
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        name = file.relative_to(folder)
        if token and token in text:
            raise HubError(
                f"{name}: would hold the access token; nothing was uploaded: take it out of the model's files."
            )
        held = [what for what, pattern in found_where.items() if pattern.search(text)]
        # The project's own sources and licence name nobody who runs them.
        if user and file.suffix != ".py" and name.name not in (*VOCABULARIES, "LICENSE"):
            settings = json.loads(text) if file.suffix == ".json" and name.name != "tokenizer_config.json" else None
            if _in_a_path(user, text) or _in_a_setting(user, settings):
                held.append("the user's name")
        if held:
            raise HubError(f"{name}: would hold {held[0]}; nothing was uploaded: take it out of the model's files.")


def _in_a_path(user: str, text: str) -> bool:
    return any(user in re.split(r"[\\/]+", path[0].rstrip(".:")) for path in ABSOLUTE_PATH.finditer(text))


def _in_a_setting(user: str, settings: Any) -> bool:
    """Whether a value names the user; one with several words is prose, such as a prompt."""
    if isinstance(settings, dict | list):
        values = settings.values() if isinstance(settings, dict) else settings
        return any(_in_a_setting(user, value) for value in values)
    if not isinstance(settings, str) or len(settings.split()) != 1 or _is_hub_id(settings):
        return False
    return re.search(rf"(?<!\w){re.escape(user)}(?!\w)", settings) is not None


def _path_pattern(path: Path) -> re.Pattern[str]:
    # A single name such as /root is also an entry of vocabularies; with something below it, it is a path.
    end = r"[\\/]+\w" if len(path.parts) <= 2 else r"(?![\w.-])"
    return re.compile(r"(?<![\w.])" + re.escape(str(path)) + end)
