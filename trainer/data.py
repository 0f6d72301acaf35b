"""The training and evaluation records: the closed world, or a folder in the MSMO layout."""

from datasets import Dataset, DatasetDict

from spectra_sum.msmo import load_msmo
from spectra_sum.msmo.closed_world import closed_world_dataset
from trainer.arguments import DataArguments

CLOSED_WORLD = "closed_world"


def load_records(args: DataArguments) -> DatasetDict:
    """The splits train, validation and (where there is one) test.

    Raises:
        ValueError: when a split that training needs is missing or empty.
    """
    if args.dataset == CLOSED_WORLD:
        count = args.closed_world_eval_articles
        splits = closed_world_dataset(
            {"train": args.closed_world_articles, "validation": count, "test": count}, seed=args.closed_world_seed
        )
    else:
        splits = load_msmo(args.dataset, num_proc=args.num_proc)
    for name in ("train", "validation"):
        if name not in splits or not len(splits[name]):
            raise ValueError(f"{args.dataset} has no {name} articles; training needs both train and validation.")
    limits = {"train": args.max_train_articles}
    return DatasetDict(
        {
            name: split.select(range(min(len(split), limits.get(name, args.max_eval_articles) or len(split))))
            for name, split in splits.items()
        }
    )


def count_excess_images(records: Dataset, limit: int) -> int:
    """How many images lie beyond the first `limit` of their article, and are therefore never scored."""
    counts = records.with_format("arrow")["images"]
    return sum(max(0, len(row) - limit) for row in counts)
