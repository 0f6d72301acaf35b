"""Opening a user's data with `datasets`: rows by split, in the columns that they have."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pandas
from datasets import Dataset, IterableDataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError, DatasetsError
from huggingface_hub import constants
from pyarrow import ArrowException

from ..tasks.task import STORYTELLING, SUMMARIZATION, Task
from .formats import FORMATS, OwnDataError, Source, split_named
from .image_folders import ImageFolders
from .images import ImagePlace
from .stories import COLUMNS, read_stories, story_content

# Of `datasets`, `pandas`, Arrow and the Hub.
_READING_ERRORS = (DatasetsError, OSError, ValueError, NotImplementedError, ArrowException, StopIteration)
# What the libraries say of files without a row.
_WITHOUT_ROWS = ("corresponds to no data", "BatchSize must be greater than 0")
_OTHER_SEPARATORS = ";\t|"


class Rows(NamedTuple):
    """
    Rows of one split, or of a part of it, and where their images may lie; in a layout that is known the data's columns by the
    record's, and remarks on what was left out.
    """

    records: Dataset | IterableDataset
    place: ImagePlace
    columns: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()


def open_source(
    source: Source,
    *,
    config: str | None = None,
    streaming: bool = False,
    num_proc: int | None = None,
    task: Task = SUMMARIZATION,
) -> dict[str, list[Rows]]:
    """
    Opens data of a kind that `datasets` reads.

    Args:
        source (`Source`): Of [`find_source`]; of the kind `"saved"`, `"imagefolder"`, `"json"`, `"csv"`, `"parquet"` or
            `"hub"`.
        config (`str`, *optional*): A Hub dataset's configuration, where it has several.
        streaming (`bool`, *optional*, defaults to `False`): Streams, of which nothing is read yet. Not of `save_to_disk`.
        num_proc (`int`, *optional*): Processes that read.
        task (`Task`, *optional*, defaults to `SUMMARIZATION`): What the data are for. Of one with instructions an image may be
            named without its folder, and of storytelling JSON files may have the layout of VIST.

    Returns:
        `dict[str, list[Rows]]`: The parts of each split by its name; of data without splits by `""`.

    Raises:
        OwnDataError: It cannot be read.
    """
    options: dict[str, Any] = {"streaming": streaming, "num_proc": num_proc}
    with told_in_one_line(source):
        if source.kind == "hub":
            return _open_hub(source.name, config, options)
        if source.kind == "saved":
            return _open_saved(source.name)
        return {
            split: [
                rows
                for folder, files in _by_folder(source.files[split]).items()
                for rows in _open_files(source, folder, files, options, task)
            ]
            for split in source.files
        }


def _open_files(source: Source, folder: Path, files: list[Path], options: dict[str, Any], task: Task) -> list[Rows]:
    """The rows of files of one folder: together, but for those in the layout of VIST."""
    if not task.has_instructions:
        return [Rows(_load([str(file) for file in files], options), ImagePlace(folder=str(folder)))]
    beside = ImageFolders.of(folder)
    place = ImagePlace(folder=str(folder), beside=beside)
    parts = []
    if task == STORYTELLING and source.kind == "json":
        for file in list(files):
            content = story_content(file)
            if content is None:
                continue
            if options["streaming"]:
                raise OwnDataError(f"{file}: stories in VIST's layout are read whole; leave streaming out.")
            stories = read_stories(file, content, beside)
            parts.append(Rows(stories.rows, place, COLUMNS, stories.notes))
            files = [other for other in files if other != file]
    if files:
        parts.append(Rows(_load([str(file) for file in files], options), place))
    return parts


@contextmanager
def told_in_one_line(source: Source) -> Iterator[None]:
    """
    Around whatever reads the data.

    Raises:
        OwnDataError: from what the libraries raise for data that is damaged, of another form, or cannot be fetched.
    """
    handlers = logging.getLogger("datasets").handlers
    for handler in handlers:
        handler.addFilter(_is_no_error)
    try:
        yield
    except OwnDataError:
        raise
    except _READING_ERRORS as error:
        if isinstance(error, OSError) and error.filename is not None and not isinstance(error, DatasetsError):
            # The operating system names the file.
            raise
        raise OwnDataError(f"{source.name}: {_reason(source, error)}") from error
    finally:
        for handler in handlers:
            handler.removeFilter(_is_no_error)


def _is_no_error(record: logging.LogRecord) -> bool:
    # `datasets` logs what it then raises; it would be told twice.
    return record.levelno < logging.ERROR


def _open_hub(name: str, config: str | None, options: dict[str, Any]) -> dict[str, list[Rows]]:
    splits = datasets.load_dataset(name, config, **options)
    # Of a folder of images the library has the files in its cache; a stream names them by address.
    cache = (str(constants.HF_HUB_CACHE), str(datasets.config.HF_DATASETS_CACHE))
    place = ImagePlace(roots=cache, address=f"hf://datasets/{name}@" if options["streaming"] else "")
    return _named({str(split): Rows(records, place) for split, records in splits.items()})


def _open_saved(name: str) -> dict[str, list[Rows]]:
    folder = Path(name).expanduser().absolute()
    saved = datasets.load_from_disk(str(folder))
    place = ImagePlace(folder=str(folder))
    if isinstance(saved, Dataset):
        return _named({str(saved.split or ""): Rows(saved, place)})
    return _named({str(split): Rows(records, place) for split, records in saved.items()})


def _named(splits: dict[str, Rows]) -> dict[str, list[Rows]]:
    """A dataset's own names of its splits, and of those that it calls otherwise the usual ones."""
    named = {split: [rows] for split, rows in splits.items()}
    for split in splits:
        usual = split_named(split)
        if usual is not None and usual not in named:
            named[usual] = named.pop(split)
    return named


def _load(files: list[str], options: dict[str, Any]) -> Dataset | IterableDataset:
    # Metadata of an imagefolder, too: the builder for these reads no article without images.
    kind = FORMATS[Path(files[0]).suffix.lower()]
    settings: dict[str, Any] = {}
    if kind == "csv":
        # What looks like a number or like "nothing" is text: ids keep their zeros, and None may be a title.
        features = datasets.Features({name: datasets.Value("string") for name in _header(files)})
        settings = {"keep_default_na": False, "features": features}
    elif kind == "json":
        settings = {"parse_agent_traces": False}
    return datasets.load_dataset(kind, data_files=files, split="train", **settings, **options)


def _header(files: list[str]) -> list[str]:
    """The columns of CSV files, which are the same in all of them."""
    headers = {}
    for file in files:
        first = pandas.read_csv(file, nrows=1)
        names = "".join(map(str, first.columns))
        if first.shape[1] == 1 and (other := [sign for sign in _OTHER_SEPARATORS if sign in names]):
            raise OwnDataError(f"{file}: its fields are parted by {other[0]!r}; save it with commas between them.")
        if not isinstance(first.index, pandas.RangeIndex):
            # The first fields would be taken for names of rows, and all others for the columns before theirs.
            raise OwnDataError(
                f"{file}: its rows have more fields than its header; put texts with commas between quotation marks."
            )
        headers[file] = [str(name) for name in first.columns]
    if other := [file for file in files if headers[file] != headers[files[0]]]:
        raise OwnDataError(f"{other[0]}: its columns are others than those of {files[0]}; make them the same.")
    return headers[files[0]]


def _by_folder(files: list[Path]) -> dict[Path, list[Path]]:
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    return folders


def _reason(source: Source, error: Exception) -> str:
    while isinstance(error, DatasetGenerationError) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).partition("Example of usage")[0].split()) or type(error).__name__
    if isinstance(error, StopIteration) or any(sign in text for sign in _WITHOUT_ROWS):
        return "it holds no rows."
    if source.kind != "hub":
        return f"it cannot be read as {source.kind} ({text}); repair or convert it."
    if isinstance(error, DatasetNotFoundError):
        return (
            f"there is no such file or folder here, and {constants.ENDPOINT} has no such dataset or this account may not see it; "
            f"check the name, or log in with hf auth login ({text})"
        )
    if "Config name is missing" in text:
        return f"it has several configurations; choose one (dataset_config in training, --data-config). {text}"
    if constants.HF_HUB_OFFLINE and isinstance(error, OSError):
        return (
            "there is no such file or folder here, and as a dataset of the Hub it is not in the cache, and HF_HUB_OFFLINE=1 "
            "forbids to fetch it; unset it, or pass a file or folder."
        )
    return f"the dataset of the Hub cannot be read ({text})."
