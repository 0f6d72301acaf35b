"""Pairs in the MSMO layout and as a folder of `datasets`, with where every pixel comes from."""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.table import MemoryMappedTable
from PIL import Image

from spectra_sum.linked_pairs.cutouts import SegmentedPhotograph
from spectra_sum.linked_pairs.image_files import LinkedPairsError
from spectra_sum.linked_pairs.objects import Group
from spectra_sum.linked_pairs.pairs import Pair
from spectra_sum.msmo.layout import SPLIT_FOLDERS, parse_article

DATASET_FOLDER = "dataset"
MASKS_FOLDER = "masks"
PAIRS_FILE = "pairs.jsonl"
COUNTS_FILE = "counts.json"
# What a run writes, and a later one may replace.
OUTPUT_NAMES = (*SPLIT_FOLDERS.values(), DATASET_FOLDER, MASKS_FOLDER, PAIRS_FILE, COUNTS_FILE)
JPEG_QUALITY = 90
_ROWS_AT_A_TIME = 64


def pair_features() -> datasets.Features:
    """The columns of the folder of `datasets`."""
    text = datasets.Value("string")
    return datasets.Features(
        {
            "id": text,
            "images": datasets.List(datasets.Image()),
            "instruction": text,
            "answer": text,
            "shared_object": text,
            "description": text,
            "other_objects": datasets.List(text),
        }
    )


def write_split(folder: Path, split: str, pairs: Iterable[Pair]) -> int:
    """
    Writes the pairs of a split as they come: its part of the MSMO layout and of `pairs.jsonl`, and its rows for
    [`write_dataset`].

    Args:
        folder (`Path`): The folder of the result.
        split (`str`): The split.
        pairs (`Iterable[Pair]`): Its pairs.

    Returns:
        `int`: How many there were. With none nothing is written.

    Raises:
        LinkedPairsError: The texts of a pair would be read as others.
    """
    place = folder / SPLIT_FOLDERS[split]
    rows: list[dict[str, Any]] = []
    count, schema = 0, pair_features().arrow_schema
    with open(folder / PAIRS_FILE, "a", encoding="utf-8", newline="\n") as records:
        with pa.OSFile(str(_rows_file(folder, split)), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            for pair in pairs:
                if not count:
                    for inner in ("article", "img"):
                        (place / inner).mkdir(parents=True)
                count += 1
                images = [_jpeg(image.picture) for image in pair.images]
                files = [f"{pair.id}_{number}.jpg" for number in range(len(images))]
                for name, content in zip(files, images, strict=True):
                    (place / "img" / name).write_bytes(content)
                (place / "article" / f"{pair.id}.txt").write_text(_article(pair), encoding="utf-8", newline="\n")
                records.write(json.dumps(_record(pair, split, files)) + "\n")
                rows.append(_row(pair, images))
                if len(rows) == _ROWS_AT_A_TIME:
                    stream.write_table(pa.Table.from_pylist(rows, schema=schema))
                    rows = []
            if rows:
                stream.write_table(pa.Table.from_pylist(rows, schema=schema))
    if not count:
        _rows_file(folder, split).unlink()
    return count


def write_dataset(folder: Path, splits: Iterable[str]) -> None:
    """
    Writes the folder of `datasets` from the rows of the splits, which are removed.

    Args:
        folder (`Path`): The folder of the result.
        splits (`Iterable[str]`): The splits that have pairs.
    """
    found = datasets.DatasetDict()
    for split in splits:
        file = _rows_file(folder, split)
        with open(file, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        info = datasets.DatasetInfo(features=pair_features())
        # With a fingerprint of its own choice, `datasets` would write another file each time.
        table = MemoryMappedTable.from_file(str(file))
        found[split] = datasets.Dataset(table, info, datasets.NamedSplit(split), fingerprint=digest[:16])
    with _no_progress_bars():
        found.save_to_disk(folder / DATASET_FOLDER)
    for split in found:
        _rows_file(folder, split).unlink()


def write_masks(folder: Path, groups: Iterable[Group]) -> None:
    """
    Writes the masks that a model has made: of the photograph `boat/1.jpg` the one in `masks/boat/1.jpg.png`.

    Args:
        folder (`Path`): The folder of the result.
        groups (`Iterable[Group]`): The objects, of photographs or not.
    """
    for group in groups:
        for pose in group.poses:
            if isinstance(pose, SegmentedPhotograph):
                file = folder / MASKS_FOLDER / f"{pose.name}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(pose.mask)


def read_pairs(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a result's `pairs.jsonl`."""
    with open(folder / PAIRS_FILE, encoding="utf-8") as file:
        yield from map(json.loads, file)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _rows_file(folder: Path, split: str) -> Path:
    return folder / f".{split}.arrow"


def _record(pair: Pair, split: str, files: list[str]) -> dict[str, Any]:
    return {
        "id": pair.id,
        "split": split,
        "shared": pair.shared.name,
        "description": pair.shared.description,
        "instruction": pair.instruction,
        "answer": pair.answer,
        "images": [
            {"file": f"{SPLIT_FOLDERS[split]}/img/{name}", **image.record}
            for name, image in zip(files, pair.images, strict=True)
        ],
    }


def _row(pair: Pair, images: list[bytes]) -> dict[str, Any]:
    return {
        "id": pair.id,
        "images": [{"bytes": content, "path": None} for content in images],
        "instruction": pair.instruction,
        "answer": pair.answer,
        "shared_object": pair.shared.name,
        "description": pair.shared.description,
        "other_objects": [group.name for group in pair.others],
    }


def _article(pair: Pair) -> str:
    text = f"@body\n{pair.instruction}\n\n@summary\n{pair.answer}\n"
    read = parse_article(text)
    if (read.body, read.summary) != (pair.instruction, [pair.answer]):
        raise LinkedPairsError(
            f"{pair.shared.name}: an instruction or answer begins with @title, @body or @summary, as sections of the MSMO layout "
            "do; change it."
        )
    return text


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
