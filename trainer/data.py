"""The training and evaluation records: of the closed world, a folder in the MSMO layout, or data of the user's own."""

from collections.abc import Collection, Mapping
from typing import Any

from accelerate import PartialState
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from torch.utils import data as torch_data
from transformers.trainer_utils import has_length
from transformers.utils import logging

from modeling_spectra import SpectraSumProcessor
from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo import load_msmo
from spectra_sum.msmo.closed_world import closed_world_dataset
from spectra_sum.own_data.formats import CLOSED_WORLD, OwnDataError, Source, check_task, find_source, is_prepared
from spectra_sum.own_data.loading import check_split, load_splits
from spectra_sum.own_data.parting import VALIDATION_SHARE, part_off_validation, part_stream
from spectra_sum.own_data.prepared import for_task
from spectra_sum.tasks.task import TASKS
from trainer.arguments import DataArguments
from trainer.features.extracts import select_bodies

logger = logging.get_logger(__name__)


def load_records(args: DataArguments) -> DatasetDict | IterableDatasetDict:
    """The splits train, validation and (where there is one) test, with extracts for long bodies if these are asked for.

    Raises:
        SpectraSumError: when the data cannot be read, or a split that training needs is missing or empty.
    """
    try:
        source = find_source(args.dataset)
    except OwnDataError as error:
        raise SpectraSumError(f"dataset {error}") from None
    task = TASKS[args.task]
    check_task(source, task)
    if source.kind == CLOSED_WORLD:
        count = args.closed_world_eval_articles
        splits = closed_world_dataset(
            {"train": args.closed_world_articles, "validation": count, "test": count},
            seed=args.closed_world_seed,
            difficulty=args.closed_world_difficulty,
        )
    elif source.kind == "msmo":
        try:
            splits = load_msmo(args.dataset, verify=args.verify, num_proc=args.num_proc)
        except (OSError, ValueError) as error:
            # What the layout's reader finds missing or out of place.
            raise SpectraSumError(f"dataset {args.dataset}: {' '.join(str(error).split())}") from error
        if task.has_instructions:
            report = print if PartialState().is_main_process else None
            splits = DatasetDict(
                {name: for_task(args.dataset, name, split, task, report) for name, split in splits.items()}
            )
            for name, split in splits.items():
                if len(split):
                    check_split(args.dataset, name, split, task=task)
    else:
        splits = _own_splits(source, args)
    for name in ("train", "validation"):
        if name not in splits or is_empty(splits[name]):
            raise SpectraSumError(f"{args.dataset} has no {name} articles; training needs both train and validation.")
    limits = {"train": args.max_train_articles}
    records = type(splits)(
        {name: first_articles(split, limits.get(name, args.max_eval_articles)) for name, split in splits.items()}
    )
    if args.long_documents == "cut":
        return records
    return select_bodies(records, args.text_encoder, args.extract_words, args.cache_dir)


def _own_splits(source: Source, args: DataArguments) -> DatasetDict | IterableDatasetDict:
    """The splits of the user's own data, with a part of the training articles for validation where there is no such split."""
    with PartialState().main_process_first():
        splits = load_splits(
            source,
            columns=args.columns or (),
            config=args.dataset_config,
            streaming=args.streaming,
            num_proc=args.num_proc,
            verify=args.verify,
            report=print if PartialState().is_main_process else None,
            task=TASKS[args.task],
        )
    if "" in splits:
        splits["train"] = splits.pop("")
    if "validation" in splits or "train" not in splits:
        if args.validation_share is not None:
            raise SpectraSumError(
                f"validation_share: {args.dataset} has {', '.join(splits)}, and nothing is parted off; leave it out."
            )
        return splits
    share = args.validation_share or VALIDATION_SHARE
    if args.streaming:
        splits["train"], splits["validation"] = part_stream(splits["train"], share)
        if is_empty(splits["validation"]):
            raise SpectraSumError(f"validation_share: {share} of {args.dataset} is no article; pass more.")
    else:
        splits["train"], splits["validation"] = part_off_validation(args.dataset, splits["train"], share)
    counts = {name: article_count(split) for name, split in splits.items()}
    if PartialState().is_main_process:
        parted = (
            "" if args.streaming else f": {counts['train']:,} for training, {counts['validation']:,} for validation"
        )
        print(
            f"{args.dataset}: validation articles are parted off by the hash of their ids{parted} (validation_share {share})"
        )
    return splits


def first_articles(split: Dataset | IterableDataset, count: int | None) -> Dataset | IterableDataset:
    """The first articles of a split or stream, at most `count`; without it all."""
    if isinstance(split, Dataset):
        return split.select(range(min(len(split), count or len(split))))
    return split if count is None else split.take(count)


def article_count(split: Any) -> int | None:
    """How many articles there are; None for a stream."""
    return len(split) if has_length(split) else None


def is_empty(split: Dataset | IterableDataset) -> bool:
    """Whether there is no article; of a stream the first one is read."""
    return not len(split) if isinstance(split, Dataset) else next(iter(split), None) is None


def fit_to_length(
    splits: DatasetDict | IterableDatasetDict, processor: SpectraSumProcessor, args: DataArguments
) -> DatasetDict | IterableDatasetDict:
    """
    Makes sure that every article has room for some of its body within `max_length`, to which bodies are cut.

    Of the closed world and the MSMO layout articles without room are left out and counted; data of the user's own lose none
    unasked. Of a stream, nobody knows before: such an article is left out and named when it is met.

    Raises:
        SpectraSumError: when a split has no article left, or an article of the user's own has no room.
    """
    if isinstance(splits, IterableDatasetDict):
        columns = {"input_columns": ["id", "title", "summary"]}
        return IterableDatasetDict(
            {name: split.filter(_HasRoom(processor, args.max_length), **columns) for name, split in splits.items()}
        )
    if not is_prepared(find_source(args.dataset)):
        _check_room(splits, processor, args)
        return splits
    return drop_oversized(splits, processor, args.max_length)


class _HasRoom:
    """Whether `max_length` leaves room for the body of an article; where it does not, a warning names it."""

    def __init__(self, processor: SpectraSumProcessor, max_length: int):
        self.processor = processor
        self.max_length = max_length

    def __call__(self, identifier: str, title: str, summary: list[str]) -> bool:
        fits = self.processor.room_for_body(title, " ".join(summary), self.max_length) >= 1
        if not fits:
            logger.warning(
                f"article {identifier} is left out: title and summary alone fill max_length={self.max_length}."
            )
        return fits


def _check_room(splits: DatasetDict, processor: SpectraSumProcessor, args: DataArguments) -> None:
    for name, split in splits.items():
        rows = zip(split["id"], split["title"], split["summary"], strict=True)
        missing = {
            identifier: 1 - room
            for identifier, title, summary in rows
            if (room := processor.room_for_body(title, " ".join(summary), args.max_length)) < 1
        }
        if missing:
            first = next(iter(missing))
            raise SpectraSumError(
                f"{args.dataset}: title and summary alone fill max_length={args.max_length} in {len(missing)} of {len(split)} "
                f"{name} articles, {first!r} among them; pass max_length {args.max_length + max(missing.values())} or more, "
                "or shorten or remove them."
            )


def drop_oversized(splits: DatasetDict, processor: SpectraSumProcessor, max_length: int) -> DatasetDict:
    """Leave out the articles whose title and summary alone fill `max_length`, and report how many.

    Raises:
        ValueError: when a split has no article left.
    """
    fitting = {}
    for name, split in splits.items():
        texts = zip(split["title"], split["summary"], strict=True)
        kept = [
            index
            for index, (title, summary) in enumerate(texts)
            if processor.room_for_body(title, " ".join(summary), max_length) >= 1
        ]
        if not kept:
            raise SpectraSumError(
                f"no {name} article fits into max_length={max_length} with its summary; raise max_length."
            )
        if len(kept) < len(split):
            logger.warning(
                f"{len(split) - len(kept)} of {len(split)} {name} articles are left out: title and summary alone fill "
                f"max_length={max_length}."
            )
        fitting[name] = split.select(kept) if len(kept) < len(split) else split
    return DatasetDict(fitting)


def count_excess_images(records: Dataset | IterableDataset, limit: int) -> int:
    """How many images lie beyond the first `limit` of their article, and are therefore never scored; of a stream 0, unknown."""
    if isinstance(records, IterableDataset):
        return 0
    counts = records.with_format("arrow")["images"]
    return sum(max(0, len(row) - limit) for row in counts if row.is_valid)


def check_articles(articles: Any, name: str, columns: Collection[str]) -> None:
    """Check a set of articles for a trainer, before anything is done with it; of a stream nothing is read.

    Args:
        articles: A `datasets.Dataset`, anything else with `__len__` and `__getitem__`, or an `IterableDataset` of torch or
            `datasets`.
        name (`str`): What it is, for the message: `"train_dataset"`, for example.
        columns (`Collection[str]`): What every article must have.

    Raises:
        SpectraSumError: It is none of these, is empty, or its first article lacks a column.
    """
    if isinstance(articles, Dataset | IterableDataset):
        known = articles.column_names
    elif isinstance(articles, torch_data.IterableDataset):
        known = None
    elif not has_length(articles):
        raise SpectraSumError(
            f"{name} is a {type(articles).__name__}: pass a list of articles, a Dataset, or an IterableDataset of torch or "
            "datasets."
        )
    else:
        first = articles[0] if len(articles) else {}
        if not isinstance(first, Mapping):
            raise SpectraSumError(
                f"{name}: an article is a {type(first).__name__}, where a dict by columns is needed."
            )
        known = list(first)
    if has_length(articles) and not len(articles):
        raise SpectraSumError(f"{name} has no articles.")
    missing = sorted(set(columns) - set(known)) if known is not None else []
    if missing:
        raise SpectraSumError(f"{name}: its articles lack {', '.join(missing)}; they have {', '.join(known)}.")
