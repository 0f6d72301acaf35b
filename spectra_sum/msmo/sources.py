"""The articles of one split, from wherever a command's `--data` points."""

import itertools
from pathlib import Path

import datasets

from spectra_sum.msmo.builder import load_msmo
from spectra_sum.msmo.closed_world import closed_world_dataset

CLOSED_WORLD = "closed_world"
_COLUMNS = ("id", "title", "article", "summary", "images", "gold_images")


def load_split(
    data: str, split: str, *, closed_world_seed: int = 0, closed_world_articles: int = 200
) -> datasets.Dataset:
    """
    Loads one split.

    Args:
        data (`str`): ``"closed_world"``, a folder in the MSMO layout, or a folder that `save_to_disk` wrote.
        split (`str`): ``"train"``, ``"validation"`` or ``"test"``.
        closed_world_seed (`int`, *optional*, defaults to `0`): The closed world's seed.
        closed_world_articles (`int`, *optional*, defaults to `200`): Its number of articles.

    Raises:
        ValueError: when the folder or the split does not exist, or the split has no article, lacks a column, or holds
            an id twice.
    """
    if data == CLOSED_WORLD:
        return closed_world_dataset({split: closed_world_articles}, seed=closed_world_seed)[split]
    folder = Path(data)
    if not folder.is_dir():
        raise ValueError(f"{data}: there is no such folder; pass a folder in the MSMO layout or {CLOSED_WORLD!r}.")
    if (folder / "dataset_dict.json").is_file():
        splits = datasets.load_from_disk(folder)
        if split not in splits:
            raise ValueError(f"{data} has no split {split!r}; it has {', '.join(splits)}.")
        records = splits[split]
    elif (folder / "state.json").is_file():
        records = datasets.load_from_disk(folder)
    else:
        records = load_msmo(folder, splits=[split])[split]
    missing = [name for name in _COLUMNS if name not in records.column_names]
    if missing:
        raise ValueError(f"{data}: its articles have no {', '.join(missing)}; is this a dataset of articles?")
    if not len(records):
        raise ValueError(f"{data} has no {split} articles.")
    ids = sorted(records["id"])
    twice = [first for first, second in itertools.pairwise(ids) if first == second]
    if twice:
        raise ValueError(
            f"{data} holds {len(twice)} ids twice, {twice[0]!r} among them; give each article its own id."
        )
    return records


def image_counts(records: datasets.Dataset) -> list[int]:
    """The number of images of each article, without decoding one."""
    return [len(row) for row in records.with_format("arrow")["images"]]
