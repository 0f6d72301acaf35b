"""What a name of data stands for, told by the disk alone: a file, a folder of some kind, the closed world, or a Hub id."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import SpectraSumError
from ..models.sources import is_hub_id
from ..tasks.task import Task

CLOSED_WORLD = "closed_world"
# The reader of `datasets` by a file's ending.
FORMATS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
# As `datasets` finds the split that a file's name or folder tells.
SPLIT_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
# That `datasets` writes beside data, and that are none.
_NO_DATA = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json")
_WHAT_IS_READ = (
    f"{CLOSED_WORLD!r}, a file ({', '.join(FORMATS)}), a folder (of such files, in the MSMO layout, of save_to_disk, or an "
    "imagefolder), or a Hub id (owner/name)"
)


class OwnDataError(SpectraSumError):
    """Data that cannot be read. The message names the file or column, and the fix."""


class Source(NamedTuple):
    """
    Data by the name that a user gave.

    Attributes:
        name (`str`): As it was given.
        kind (`str`): `"closed_world"`, `"msmo"`, `"saved"` (by `save_to_disk`), `"imagefolder"`, `"json"`, `"csv"`,
            `"parquet"` or `"hub"`.
        files (`dict[str, list[Path]]`): Of the kinds that are read from files: these by their split; that of a single file,
            and of files whose names tell none, is `""`.
    """

    name: str
    kind: str
    files: dict[str, list[Path]] = {}

    @property
    def title(self) -> str:
        """What results and records call the data."""
        return self.name if self.kind in (CLOSED_WORLD, "hub") else Path(self.name).absolute().name


def find_source(name: str) -> Source:
    """
    Finds out what a name of data stands for. Nothing is read, and a Hub id is not asked for.

    Args:
        name (`str`): `"closed_world"`, a file, a folder, or a Hub id.

    Raises:
        OwnDataError: It is none of these, or a folder without data.
    """
    if name == CLOSED_WORLD:
        return Source(name, CLOSED_WORLD)
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix.lower() not in FORMATS:
            raise OwnDataError(f"{name}: files of this kind are not read; pass {', '.join(FORMATS)} or a folder.")
        return Source(name, FORMATS[path.suffix.lower()], {"": [path.absolute()]})
    if path.is_dir():
        return _find_folder(name, path.absolute())
    if is_hub_id(name) and path.suffix.lower() not in FORMATS:
        return Source(name, "hub")
    raise OwnDataError(f"{name}: there is no such file or folder; pass {_WHAT_IS_READ}.")


def _find_folder(name: str, folder: Path) -> Source:
    # With it Pillow comes, which a command's --help does not wait for.
    from ..msmo.layout import SPLIT_FOLDERS

    if any((folder / place).is_dir() for place in SPLIT_FOLDERS.values()):
        return Source(name, "msmo")
    if any((folder / file).is_file() for file in ("dataset_dict.json", "state.json")):
        return Source(name, "saved")
    files = sorted(_data_files(folder))
    metadata = [file for file in files if file.name in METADATA_FILES]
    files = metadata or files
    endings = sorted({file.suffix.lower() for file in files})
    if not endings:
        raise OwnDataError(f"{name}: the folder holds no data; pass {_WHAT_IS_READ}.")
    if len(endings) > 1:
        raise OwnDataError(f"{name}: the folder holds {' and '.join(endings)} files; pass one of the files.")
    return Source(name, "imagefolder" if metadata else FORMATS[endings[0]], _by_split(name, folder, files))


def _data_files(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in names
            if Path(name).suffix.lower() in FORMATS and not name.startswith(".") and name not in _NO_DATA
        ]
    return found


def _by_split(name: str, folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files by the split that their names or folders tell."""
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_of(file.relative_to(folder)), []).append(file)
    if "" in splits and len(splits) > 1:
        file = splits[""][0].relative_to(folder)
        raise OwnDataError(
            f"{name}: the name of {file} tells no split, as those of others do; name it for train, validation or test, or "
            "pass a single file."
        )
    return {split: splits[split] for split in ("", *SPLIT_KEYWORDS) if split in splits}


def _split_of(path: Path) -> str:
    for part in (path.stem, *reversed(path.parts[:-1])):
        words = re.split(r"[-._ 0-9]+", part)
        for split, keywords in SPLIT_KEYWORDS.items():
            if any(keyword in words for keyword in keywords):
                return split
    return ""


def split_named(name: str) -> str | None:
    """The split that a dataset's own name of it stands for: `"valid"` is `"validation"`. None for another name."""
    return next((split for split, keywords in SPLIT_KEYWORDS.items() if name in keywords), None)


def is_prepared(source: Source) -> bool:
    """Whether data have splits and the columns of articles by themselves: the closed world, and the MSMO layout."""
    return source.kind in (CLOSED_WORLD, "msmo")


def check_no_own_options(source: Source, columns: Sequence[str], config: str | None) -> None:
    """
    Checks that nothing is said of data which it has no use for.

    Raises:
        OwnDataError: Columns of the closed world or of the MSMO layout are named, or a configuration of anything that is not
            on the Hub.
    """
    if columns and is_prepared(source):
        raise OwnDataError(f"columns: those of {source.name} are known; leave it out.")
    if config is not None and source.kind != "hub":
        raise OwnDataError(f"{source.name} is no dataset of the Hub, and has no configurations; leave {config!r} out.")


def check_task(source: Source, task: Task) -> None:
    """
    Checks that data can have instructions where the task needs them.

    Raises:
        OwnDataError: They are the closed world's articles.
    """
    if task.has_instructions and source.kind == CLOSED_WORLD:
        raise OwnDataError(
            f"{CLOSED_WORLD} holds articles, and {task.name} reads instructions with images; make some by spectra-sum data "
            "linked-pairs --closed-world, and pass their folder."
        )
