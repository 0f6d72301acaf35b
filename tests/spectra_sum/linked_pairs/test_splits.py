"""No object in two splits."""

import pytest

from spectra_sum.linked_pairs.objects import Group
from spectra_sum.linked_pairs.splits import assign_splits, pairs_by_split


def groups(count):
    return [Group(f"thing_{number}", f"a thing {number}", []) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (3, {"train": 3}),
        (8, {"train": 8}),
        (9, {"train": 3, "validation": 3, "test": 3}),
        (48, {"train": 38, "validation": 5, "test": 5}),
        (200, {"train": 160, "validation": 20, "test": 20}),
    ],
)
def test_each_group_is_in_one_split(count, sizes):
    found = assign_splits(groups(count))
    assert {split: len(part) for split, part in found.items()} == sizes and list(found) == list(sizes)
    assert sorted(group.name for part in found.values() for group in part) == sorted(
        group.name for group in groups(count)
    )


def test_the_order_of_the_groups_does_not_matter():
    assert assign_splits(groups(30)[::-1]) == assign_splits(groups(30))


@pytest.mark.parametrize(
    ("total", "sizes"),
    [
        (1, {"train": 1, "validation": 0, "test": 0}),
        (10, {"train": 8, "validation": 1, "test": 1}),
        (48, {"train": 38, "validation": 5, "test": 5}),
    ],
)
def test_pairs_by_the_share_of_the_groups(total, sizes):
    assert pairs_by_split(total, assign_splits(groups(48))) == sizes
