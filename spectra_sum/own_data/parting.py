"""A validation split for data that have none: articles fall on either side by the hash of their id."""

import hashlib

from datasets import Dataset, IterableDataset

from .formats import OwnDataError

VALIDATION_SHARE = 0.05


def place_of(identifier: str) -> float:
    """A number in [0, 1) that belongs to an id: the same in whatever data and order it stands."""
    return int.from_bytes(hashlib.sha256(f"validation\n{identifier}".encode()).digest()[:8], "big") / 2**64


def part_off_validation(where: str, records: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """
    Parts a set of articles into training and validation, neither of them empty.

    Args:
        where (`str`): The data, for the message.
        records (`Dataset`): Articles with the column `id`.
        share (`float`): Of the validation articles, about.

    Raises:
        OwnDataError: There is only one article.
    """
    places = [place_of(identifier) for identifier in records["id"]]
    if len(places) < 2:
        raise OwnDataError(f"{where}: training needs at least two articles, one of them for validation; there is one.")
    order = sorted(range(len(places)), key=lambda index: places[index])
    count = min(max(sum(place < share for place in places), 1), len(places) - 1)
    validation = set(order[:count])
    kept = [index for index in range(len(places)) if index not in validation]
    return records.select(kept), records.select(sorted(validation))


def part_stream(stream: IterableDataset, share: float) -> tuple[IterableDataset, IterableDataset]:
    """The same for a stream, of which nothing is read: both parts are the stream without the articles of the other."""
    return (
        stream.filter(_on_side, input_columns=["id"], fn_kwargs={"share": share, "validation": False}),
        stream.filter(_on_side, input_columns=["id"], fn_kwargs={"share": share, "validation": True}),
    )


def _on_side(identifier: str, share: float, validation: bool) -> bool:
    return (place_of(identifier) < share) is validation
