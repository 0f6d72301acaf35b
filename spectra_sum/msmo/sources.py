"""The articles of one split, from wherever a command's `--data` points."""

import hashlib
import itertools
import json
from pathlib import Path

import datasets
import pyarrow.compute as pc

from spectra_sum.msmo.builder import load_msmo
from spectra_sum.msmo.closed_world import closed_world_dataset

CLOSED_WORLD = "closed_world"
_TEXT = datasets.Value("string")
_COLUMNS = {
    "id": _TEXT,
    "title": _TEXT,
    "article": _TEXT,
    "summary": datasets.List(_TEXT),
    "images": datasets.List(datasets.Image()),
    "gold_images": datasets.List(datasets.Value("int64")),
}


def load_split(
    data: str,
    split: str,
    *,
    closed_world_seed: int = 0,
    closed_world_articles: int = 200,
    closed_world_difficulty: str = "standard",
) -> datasets.Dataset:
    """
    Loads one split.

    Args:
        data (`str`): ``"closed_world"``, a folder in the MSMO layout, or a folder that `save_to_disk` wrote.
        split (`str`): ``"train"``, ``"validation"`` or ``"test"``.
        closed_world_seed (`int`, *optional*, defaults to `0`): The closed world's seed.
        closed_world_articles (`int`, *optional*, defaults to `200`): Its number of articles.
        closed_world_difficulty (`str`, *optional*, defaults to `"standard"`): One of `DIFFICULTIES`.

    Raises:
        ValueError: when the folder or the split does not exist, or the split has no article, lacks a column or has one
            of another type, holds an id twice, a gold image that is none of the article's, or an image outside of the
            folder.
    """
    if data == CLOSED_WORLD:
        sizes = {split: closed_world_articles}
        return closed_world_dataset(sizes, seed=closed_world_seed, difficulty=closed_world_difficulty)[split]
    folder = Path(data)
    if not folder.is_dir():
        raise ValueError(f"{data}: there is no such folder; pass a folder in the MSMO layout or {CLOSED_WORLD!r}.")
    saved = True
    if (folder / "dataset_dict.json").is_file():
        splits = datasets.load_from_disk(folder)
        if split not in splits:
            raise ValueError(f"{data} has no split {split!r}; it has {', '.join(splits)}.")
        records = splits[split]
    elif (folder / "state.json").is_file():
        records = datasets.load_from_disk(folder)
        if records.split not in (None, split):
            raise ValueError(f"{data} holds the split {str(records.split)!r}, not {split!r}.")
    else:
        saved = False
        records = load_msmo(folder, splits=[split])[split]
    _check_columns(data, records)
    if saved:
        _check_embedded(data, records)
    if not len(records):
        raise ValueError(f"{data} has no {split} articles.")
    ids = sorted(records["id"])
    twice = [first for first, second in itertools.pairwise(ids) if first == second]
    if twice:
        raise ValueError(
            f"{data} holds {len(twice)} ids twice, {twice[0]!r} among them; give each article its own id."
        )
    for name, gold, count in zip(records["id"], records["gold_images"], image_counts(records), strict=True):
        if gold is None or not all(0 <= index < count for index in gold):
            raise ValueError(f"{data}: the gold images of {name!r} are {gold}, but it has {count} images (from 0).")
    return records


def _check_embedded(data: str, records: datasets.Dataset) -> None:
    """An image that is named only could be any file of this machine, or an address to fetch."""
    for chunk in records.data.column("images").chunks:
        if chunk.flatten().field("bytes").null_count:
            raise ValueError(
                f"{data}: it names images by their paths; save it with `save_to_disk`, which embeds them."
            )


def _check_columns(data: str, records: datasets.Dataset) -> None:
    missing = [name for name in _COLUMNS if name not in records.column_names]
    if missing:
        raise ValueError(f"{data}: its articles have no {', '.join(missing)}; is this a dataset of articles?")
    for name, feature in _COLUMNS.items():
        if records.features[name] != feature:
            raise ValueError(f"{data}: the column {name} is {records.features[name]}; it must be {feature}.")


def articles_digest(records: datasets.Dataset) -> str:
    """
    SHA-256 of what the articles are: ids, titles, bodies, summaries, gold images, and each image's name and size in bytes.

    Equal for equal data in equal order. Images are not read: gigabytes would be.
    """
    digest = hashlib.sha256()
    names = ["id", "title", "article", "summary", "gold_images"]
    for batch in records.with_format("arrow").iter(batch_size=256):
        images = batch["images"].combine_chunks()
        files = images.flatten()
        sizes = pc.binary_length(files.field("bytes")).to_pylist()
        paths = [path and Path(path).name for path in files.field("path").to_pylist()]
        content = [batch[name].to_pylist() for name in names]
        content += [pc.list_value_length(images).to_pylist(), sizes, paths]
        digest.update(json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def image_counts(records: datasets.Dataset) -> list[int]:
    """The number of images of each article, without decoding one."""
    return [len(row) for row in records.with_format("arrow")["images"]]
