"""A local copy of MSMO → a dataset repository: Parquet shards with the images in them, and a card."""

import errno
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import filelock
import pyarrow
from datasets.exceptions import DatasetGenerationError
from datasets.utils.py_utils import convert_file_size_to_int

from spectra_sum.msmo.builder import MSMO
from spectra_sum.msmo.layout import find_splits

from ..cards.dataset import check_license, count_provenance, dataset_card
from ..errors import HubError
from ..repository import Push, Target, check_dry_run, check_target, hub_errors, push_folder, write_dry_run
from .shards import plan_shards, stored_bytes, write_shards

# What `Dataset.push_to_hub` cuts at by default.
MAX_SHARD_SIZE = "500MB"
RIGHTS_OPTION = "--i-have-the-right-to-redistribute"


def wanted_privacy(private: bool, public: bool, may_redistribute: bool) -> bool:
    """
    Whether the repository is private: MSMO may not be redistributed, so only who has the right to may make it public.

    Raises:
        HubError: It shall be public without the right.
    """
    if public and not may_redistribute:
        raise HubError(
            f"--public: MSMO may not be redistributed, nothing was uploaded; leave --public out for a private "
            f"repository, or pass {RIGHTS_OPTION} if you have that right."
        )
    return private or not may_redistribute


def push_dataset(
    root: Path,
    target: Target,
    *,
    splits: Collection[str] | None = None,
    may_redistribute: bool = False,
    license: str | None = None,
    num_proc: int | None = None,
    max_shard_size: str = MAX_SHARD_SIZE,
    dry_run: Path | None = None,
) -> Push | None:
    """
    Publishes a local copy of MSMO. Every image is decoded first, and what is damaged is left out and counted on the card.
    Shards are written one by one to the cache of `datasets`; a second run goes on where the first was stopped, and they
    are removed when the push is done.

    Args:
        root (`Path`): The folder that holds `train_data`, `valid_data`, `test_data`.
        target (`Target`): The dataset repository; see [`wanted_privacy`].
        splits (`Collection[str]`, *optional*): Some of `"train"`, `"validation"`, `"test"`. Defaults to all that exist.
        may_redistribute (`bool`, *optional*, defaults to `False`): Whether the publisher declares to have the right to
            redistribute the data. Without it `target.private` must be `True`.
        license (`str`, *optional*): Identifier of the licence for the card, as the Hub lists them.
        num_proc (`int`, *optional*): Processes that decode the images.
        max_shard_size (`str`, *optional*, defaults to `"500MB"`): Bytes of a shard.
        dry_run (`Path`, *optional*): A new or empty folder for what would be pushed; nothing is sent then.

    Returns:
        `Push`: What was done; None for a dry run.

    Raises:
        HubError: The push was refused or did not finish, no record is left, a folder is a link that leads out of `root`,
            or the data would be published without the right.
        FileNotFoundError: `root` is no copy of the dataset, or lacks a split.
    """
    if target.private is not True and not may_redistribute:
        raise HubError(
            f"{target.repo_id}: MSMO may not be redistributed; push it to a private repository, or declare the right "
            f"to redistribute it ({RIGHTS_OPTION})."
        )
    if license is not None:
        check_license(license)
    try:
        # The builder looks at every file, which takes a while.
        find_splits(Path(os.path.realpath(root.expanduser())), splits)
    except ValueError as error:
        raise HubError(str(error)) from None
    if dry_run is None:
        check_target(target)
    else:
        check_dry_run(dry_run)
    builder = MSMO(root, splits=splits, verify="full")
    with hub_errors(target.repo_id), _staging(builder, max_shard_size) as staging:
        folder = staging / "repository"
        with _disk_errors(target.repo_id):
            _stage(builder, folder, staging / "partial.parquet", target, license, num_proc, max_shard_size)
        if dry_run is not None:
            write_dry_run(folder, dry_run)
            return None
        return push_folder(folder, target, "Upload dataset")


def _stage(
    builder: MSMO,
    folder: Path,
    partial: Path,
    target: Target,
    license: str | None,
    num_proc: int | None,
    max_shard_size: str,
) -> None:
    """Makes `folder` what the repository shall hold."""
    try:
        builder.download_and_prepare(num_proc=num_proc)
    except DatasetGenerationError as error:
        reason = _reason(error.__cause__ or error)
        if f"[Errno {errno.ENOSPC}]" in reason:
            raise OSError(errno.ENOSPC, reason) from error
        raise HubError(f"{builder.config.data_dir}: the copy cannot be read: {reason}") from error
    # A split whose articles were all dropped cannot be loaded from Parquet; the card's table shows its counts.
    parts = {split: part for split, part in builder.as_dataset().items() if len(part)}
    if not parts:
        raise HubError(f"{builder.config.data_dir}: no article is left to publish; see the report above.")
    max_size = convert_file_size_to_int(max_shard_size)
    shards = [shard for split, part in parts.items() for shard in plan_shards(part, split, max_size)]
    write_shards(parts, shards, folder, partial)

    provenance = {split: count_provenance(part) for split, part in parts.items()}
    stored = dict.fromkeys(parts, 0)
    for shard in shards:
        stored[shard.split] += stored_bytes(folder / shard.name)
    info = datasets.DatasetInfo(
        features=builder.info.features,
        splits=datasets.SplitDict(
            {split: datasets.SplitInfo(split, stored[split], len(part)) for split, part in parts.items()}
        ),
        download_size=sum((folder / shard.name).stat().st_size for shard in shards),
        dataset_size=sum(stored.values()),
    )
    card = dataset_card(
        target.repo_id, info, builder.integrity_report(), provenance, license=license, private=bool(target.private)
    )
    (folder / "README.md").write_text(f"{card}\n", encoding="utf-8")


def _reason(error: BaseException) -> str:
    """An error in one line. Of an error in another process there is but its traceback, which begins with the cause."""
    cause = re.split(r"\n\n(?:The above exception|During handling of)", str(error))[0]
    lines = [line.strip() for line in cause.splitlines() if line.strip(' "')]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _disk_errors(what: str) -> Iterator[None]:
    """A full disk as a [`HubError`]: all that is staged lies in the cache of `datasets`."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise HubError(
            f"{what}: the disk of {datasets.config.HF_DATASETS_CACHE} is full; make room, or set HF_DATASETS_CACHE to a "
            "folder on a larger disk, and run the same command again."
        ) from error


@contextmanager
def _staging(builder: MSMO, max_shard_size: str) -> Iterator[Path]:
    """A folder of its own for this data, kept when the block fails, so that finished shards are found again."""
    # The builder's id changes with every file of the copy; the libraries decide on the bytes of a shard.
    key = f"{builder.config_id}-{builder.VERSION}-{max_shard_size}-{datasets.__version__}-{pyarrow.__version__}"
    place = Path(datasets.config.HF_DATASETS_CACHE) / "msmo-push"
    place.mkdir(parents=True, exist_ok=True)
    staging, lock = place / key, place / f"{key}.lock"
    try:
        with filelock.FileLock(lock, timeout=0):
            staging.mkdir(exist_ok=True)
            yield staging
            shutil.rmtree(staging)
            lock.unlink()
    except filelock.Timeout:
        raise HubError(
            f"{builder.config.data_dir}: another process is pushing this data; wait until it is done."
        ) from None
