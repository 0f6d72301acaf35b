"""The training and evaluation records: the closed world, or a folder in the MSMO layout."""

from collections.abc import Collection, Mapping
from typing import Any

import datasets
from datasets import Dataset, DatasetDict
from torch.utils.data import IterableDataset
from transformers.trainer_utils import has_length
from transformers.utils import logging

from modeling_spectra import SpectraSumProcessor
from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo import load_msmo
from spectra_sum.msmo.closed_world import closed_world_dataset
from trainer.arguments import DataArguments
from trainer.features.extracts import select_bodies

logger = logging.get_logger(__name__)

CLOSED_WORLD = "closed_world"


def load_records(args: DataArguments) -> DatasetDict:
    """The splits train, validation and (where there is one) test, with extracts for long bodies if these are asked for.

    Raises:
        SpectraSumError: when the folder cannot be read, or a split that training needs is missing or empty.
    """
    if args.dataset == CLOSED_WORLD:
        count = args.closed_world_eval_articles
        splits = closed_world_dataset(
            {"train": args.closed_world_articles, "validation": count, "test": count},
            seed=args.closed_world_seed,
            difficulty=args.closed_world_difficulty,
        )
    else:
        try:
            splits = load_msmo(args.dataset, verify=args.verify, num_proc=args.num_proc)
        except (OSError, ValueError) as error:
            # What the layout's reader finds missing or out of place.
            raise SpectraSumError(f"dataset {args.dataset}: {' '.join(str(error).split())}") from error
    for name in ("train", "validation"):
        if name not in splits or not len(splits[name]):
            raise SpectraSumError(f"{args.dataset} has no {name} articles; training needs both train and validation.")
    limits = {"train": args.max_train_articles}
    records = DatasetDict(
        {
            name: split.select(range(min(len(split), limits.get(name, args.max_eval_articles) or len(split))))
            for name, split in splits.items()
        }
    )
    if args.long_documents == "cut":
        return records
    return select_bodies(records, args.text_encoder, args.extract_words, args.cache_dir)


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


def count_excess_images(records: Dataset, limit: int) -> int:
    """How many images lie beyond the first `limit` of their article, and are therefore never scored."""
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
    if isinstance(articles, Dataset | datasets.IterableDataset):
        known = articles.column_names
    elif isinstance(articles, IterableDataset):
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
