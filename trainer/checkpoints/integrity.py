"""Whether a training checkpoint can be resumed: files that are missing, cut off or overwritten, without loading it.

Cheap at any size. A safetensors file must be exactly as long as its header says, and its header must make sense; an
archive of `torch.save` must have its directory, which stands at its end, and up to [`FULLY_READ`] bytes every checksum in
it must hold. Flipped bytes inside a tensor of a safetensors file, which has no checksums, or of a larger archive are
not seen. A manifest of hashes would see them, at the price of reading every checkpoint twice more; writing that is
cut off, full disks and lost files, which do happen, need none.

Nothing is unpickled, but for the `.metadata` of a folder of torch.distributed.checkpoint (FSDP2 and its sharded states),
which has no other format: PyTorch's own reader unpickles it here, as it does when such a checkpoint is resumed. These are
a run's local files; do not resume a checkpoint of FSDP2 that comes from somebody you do not trust.
"""

import json
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch.distributed.checkpoint import FileSystemReader
from transformers.trainer import (
    FSDP_MODEL_NAME,
    OPTIMIZER_NAME,
    OPTIMIZER_NAME_BIN,
    SCALER_NAME,
    SCHEDULER_NAME,
    TRAINER_STATE_NAME,
)
from transformers.utils import (
    ADAPTER_CONFIG_NAME,
    ADAPTER_SAFE_WEIGHTS_NAME,
    CONFIG_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
)

QUEUE_FILE = "negative_queue.safetensors"
# Archives up to this size are read as a whole for their checksums: a second or two.
FULLY_READ = 1 << 30
MISSING = "is missing"


def checkpoint_problem(folder: str | Path) -> str | None:
    """
    What keeps a checkpoint from being resumed.

    Args:
        folder (`str` or `Path`): A `checkpoint-STEP` of [`SpectraTrainer`], of one process or several, FSDP's too.

    Returns:
        `str`, *optional*: The first damaged file and what is wrong with it, in one line; None for a sound checkpoint.
    """
    return next(_problems(Path(folder)), None)


def is_complete(folder: str | Path) -> bool:
    """Whether the writing of a checkpoint came to its end; what became of it later is for [`checkpoint_problem`]."""
    return next(_json(Path(folder, TRAINER_STATE_NAME), "global_step"), None) is None


def saved_processes(folder: str | Path) -> int:
    """How many processes have their random states in a sound checkpoint."""
    return len(list(Path(folder).glob("rng_state_*.pth"))) or 1


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _problems(folder: Path) -> Iterator[str]:
    # The Trainer writes this file last: without it, the rest is not worth a look.
    yield from _json(folder / TRAINER_STATE_NAME, "global_step")
    yield from _weights(folder)
    shards = [path for path in folder.glob("optimizer_*") if path.is_dir()]
    for path in shards:
        yield from _distributed(path)
    whole = [folder / name for name in (OPTIMIZER_NAME, OPTIMIZER_NAME_BIN) if (folder / name).is_file()]
    if not shards:
        for path in whole or [folder / OPTIMIZER_NAME]:
            yield from _archive(path)
    yield from _archive(folder / SCHEDULER_NAME)
    if (folder / SCALER_NAME).exists():
        yield from _archive(folder / SCALER_NAME)
    yield from _random_states(folder)
    yield from _safetensors(folder / QUEUE_FILE)


def _weights(folder: Path) -> Iterator[str]:
    shards = [path for path in folder.glob(f"{FSDP_MODEL_NAME}_*") if path.is_dir()]
    for path in shards:
        yield from _distributed(path)
    archive = folder / f"{FSDP_MODEL_NAME}.bin"
    if archive.is_file():
        yield from _archive(archive)
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if (folder / ADAPTER_CONFIG_NAME).exists() or (folder / ADAPTER_SAFE_WEIGHTS_NAME).exists():
        yield from _json(folder / ADAPTER_CONFIG_NAME, "base_model_name_or_path")
        yield from _safetensors(folder / ADAPTER_SAFE_WEIGHTS_NAME)
    elif index.exists():
        yield from _json(folder / CONFIG_NAME, "model_type")
        yield from _json(index, "weight_map")
        for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())):
            yield from _safetensors(folder / name)
    elif (folder / SAFE_WEIGHTS_NAME).exists() or not (shards or archive.is_file()):
        yield from _json(folder / CONFIG_NAME, "model_type")
        yield from _safetensors(folder / SAFE_WEIGHTS_NAME)


def _random_states(folder: Path) -> Iterator[str]:
    """One process writes `rng_state.pth`, several write `rng_state_RANK.pth` each."""
    if (folder / "rng_state.pth").exists():
        yield from _archive(folder / "rng_state.pth")
        return
    found = {path.name for path in folder.glob("rng_state_*.pth")}
    if not found:
        yield f"rng_state.pth {MISSING}"
    # They are numbered from 0, and one alone has no number. How many there were is not recorded: that the last ones are
    # missing is said where the number of processes is known, by checkpoint_to_resume.
    for rank in range(max(2, len(found)) if found else 0):
        yield from _archive(folder / f"rng_state_{rank}.pth")


def _json(path: Path, key: str) -> Iterator[str]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        yield f"{path.name} {MISSING}"
    except (OSError, ValueError) as error:
        yield f"{path.name} is no JSON ({one_line(error)})"
    else:
        if not isinstance(content, dict) or key not in content:
            yield f"{path.name} has no {key}"


def _safetensors(path: Path) -> Iterator[str]:
    if not path.is_file():
        yield f"{path.name} {MISSING}"
        return
    try:
        # Compares the file's size with its header, and reads no tensor.
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        yield f"{path.name} is cut off or damaged ({one_line(error)})"


def _archive(path: Path) -> Iterator[str]:
    """A file of `torch.save`, which is a zip archive."""
    if not path.is_file():
        yield f"{path.name} {MISSING}"
        return
    try:
        whole = path.stat().st_size <= FULLY_READ
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if whole or name.endswith("/data.pkl"):
                    with archive.open(name) as member:
                        # The checksum is compared at the member's end.
                        while member.read(1 << 20):
                            pass
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, ValueError) as error:
        yield f"{path.name} is cut off or damaged ({one_line(error)})"


def _distributed(folder: Path) -> Iterator[str]:
    """A folder of torch.distributed.checkpoint: every file must reach as far as the folder's metadata says."""
    ends: defaultdict[str, int] = defaultdict(int)
    try:
        # By the reader that resuming uses, whose metadata are a pickle.
        for stored in FileSystemReader(folder).read_metadata().storage_data.values():
            ends[stored.relative_path] = max(ends[stored.relative_path], stored.offset + stored.length)
    except Exception as error:  # a damaged pickle may raise anything
        yield f"{folder.name}/.metadata is missing or damaged ({one_line(error)})"
        return
    for name, end in sorted(ends.items()):
        path = folder / name
        if not path.is_file():
            yield f"{folder.name}/{name} {MISSING}"
        elif path.stat().st_size < end:
            yield f"{folder.name}/{name} is cut off ({path.stat().st_size} of {end} bytes)"
