"""Which group is in which split: no object is in two."""

import hashlib
from collections.abc import Sequence

from spectra_sum.linked_pairs.objects import Group

HELD_OUT = {"test": 0.1, "validation": 0.1}
# A shared object, and another one for each image.
LEAST_GROUPS = 3


def assign_splits(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """
    The groups of each split that has any, in the order train, validation, test.

    Groups are sorted by a hash of their name, whatever the seed; the first tenth is for testing, the next one for validation,
    at least `LEAST_GROUPS` each. With less than three times as many groups all are for training.

    Args:
        groups (`Sequence[Group]`): At least `LEAST_GROUPS`.
    """
    ordered = sorted(groups, key=lambda group: hashlib.sha1(group.name.encode()).digest())
    parts = {}
    if len(ordered) >= LEAST_GROUPS * (1 + len(HELD_OUT)):
        for split, share in HELD_OUT.items():
            size = max(LEAST_GROUPS, round(share * len(groups)))
            parts[split], ordered = ordered[:size], ordered[size:]
    parts["train"] = ordered
    return {split: parts[split] for split in ("train", "validation", "test") if split in parts}


def pairs_by_split(total: int, groups: dict[str, list[Group]]) -> dict[str, int]:
    """
    How many of `total` pairs each split has: by its share of the groups, by largest remainders.

    Args:
        total (`int`): All pairs.
        groups (`dict[str, list[Group]]`): As [`assign_splits`] gives them.
    """
    everything = sum(map(len, groups.values()))
    shares = {split: divmod(total * len(found), everything) for split, found in groups.items()}
    sizes = {split: whole for split, (whole, _) in shares.items()}
    for split in sorted(shares, key=lambda split: -shares[split][1])[: total - sum(sizes.values())]:
        sizes[split] += 1
    return sizes
