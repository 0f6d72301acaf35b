"""Splits → Parquet shards that hold the images' own bytes; a shard that is finished is never written again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import datasets
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets.table import embed_table_storage
from tqdm import tqdm

# Records that are embedded at a time.
BATCH_SIZE = 100


@dataclass(frozen=True)
class Shard:
    """
    A contiguous part of a split.

    Args:
        split (`str`): Name of the split.
        index (`int`): Its number among the split's shards, from 0.
        count (`int`): How many shards the split has.
        start, stop (`int`): Its records.
        size (`int`): Bytes of its images and articles.
    """

    split: str
    index: int
    count: int
    start: int
    stop: int
    size: int

    @property
    def name(self) -> str:
        """Its path in the repository, as `datasets` names shards."""
        return f"data/{self.split}-{self.index:05d}-of-{self.count:05d}.parquet"


def plan_shards(dataset: datasets.Dataset, split: str, max_size: int) -> list[Shard]:
    """
    Cuts a split into shards of at most `max_size` bytes; only a record that is larger by itself has a larger one. The
    same data gives the same shards.

    Args:
        dataset (`Dataset`): Records of the MSMO builder, with the images' paths.
        split (`str`): Its name.
        max_size (`int`): In bytes.
    """
    bounds, sizes = [0], [0]
    for position, size in enumerate(_record_sizes(dataset)):
        if position > bounds[-1] and sizes[-1] + size > max_size:
            bounds.append(position)
            sizes.append(0)
        sizes[-1] += size
    ends = [*bounds[1:], len(dataset)]
    return [
        Shard(split, index, len(sizes), start, stop, size)
        for index, (start, stop, size) in enumerate(zip(bounds, ends, sizes, strict=True))
    ]


def write_shards(parts: dict[str, datasets.Dataset], shards: list[Shard], folder: Path, partial: Path) -> None:
    """
    Writes the shards that `folder` lacks, each as a whole or not at all, with a progress bar in bytes.

    Args:
        parts (`dict[str, Dataset]`): The splits by name.
        shards (`list[Shard]`): Of all splits.
        folder (`Path`): The repository's folder.
        partial (`Path`): A file on the same disk, outside of `folder`, for the shard being written.
    """
    missing = [shard for shard in shards if not (folder / shard.name).exists()]
    total = sum(shard.size for shard in shards)
    done = total - sum(shard.size for shard in missing)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    with (
        _without_inner_bars(),
        tqdm(desc="Writing shards", total=total, initial=done, unit="B", unit_scale=True) as bar,
    ):
        for shard in missing:
            _write_shard(parts[shard.split], shard, partial)
            partial.rename(folder / shard.name)
            bar.update(shard.size)


def stored_bytes(path: Path) -> int:
    """Bytes of a shard's records before compression."""
    metadata = pq.read_metadata(path)
    return sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))


def _write_shard(dataset: datasets.Dataset, shard: Shard, path: Path) -> None:
    embedded = (
        dataset.select(range(shard.start, shard.stop))
        .with_format("arrow")
        # Of an image's path this leaves the file's name.
        .map(embed_table_storage, batched=True, batch_size=BATCH_SIZE, keep_in_memory=True, load_from_cache_file=False)
        .with_format(None)
    )
    with open(path, "wb") as file:
        embedded.to_parquet(file)
        file.flush()
        os.fsync(file.fileno())


def _record_sizes(dataset: datasets.Dataset) -> Iterator[int]:
    for table in dataset.select_columns(["article", "images"]).with_format("arrow").iter(1000):
        lengths = pc.binary_length(table["article"]).to_pylist()
        for length, images in zip(lengths, table["images"].to_pylist(), strict=True):
            yield length + sum(os.stat(image["path"]).st_size for image in images)


@contextmanager
def _without_inner_bars() -> Iterator[None]:
    # One bar over all bytes tells more than two more for each shard.
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
