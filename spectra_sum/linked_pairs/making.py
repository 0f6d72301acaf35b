"""Cut-outs and backgrounds to a folder of linked pairs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from spectra_sum.atomic_write import whole_folder
from spectra_sum.linked_pairs.counts import Counts
from spectra_sum.linked_pairs.image_files import LinkedPairsError
from spectra_sum.linked_pairs.objects import Group
from spectra_sum.linked_pairs.pairs import Pair, PairMaker, Settings
from spectra_sum.linked_pairs.scenes import Scene
from spectra_sum.linked_pairs.splits import LEAST_GROUPS, assign_splits, pairs_by_split
from spectra_sum.linked_pairs.writing import COUNTS_FILE, write_dataset, write_masks, write_split


def check_sources(groups: Sequence[Group], scenes: Sequence[Scene], counts: Counts) -> None:
    """
    Checks that pairs can be made.

    Raises:
        LinkedPairsError: There are less than three groups or two backgrounds; the message says what was left out.
    """
    told = "; ".join(counts.source_lines())
    if len(groups) < LEAST_GROUPS:
        raise LinkedPairsError(
            f"--groups: pairs need at least {LEAST_GROUPS} objects, a folder each with two cut-outs or more ({told})."
        )
    if len(scenes) < 2:
        raise LinkedPairsError(f"--backgrounds: pairs need at least two backgrounds ({told}).")


def make_pairs(
    groups: Sequence[Group],
    scenes: Sequence[Scene],
    output: Path,
    total: int,
    settings: Settings,
    counts: Counts,
    models: Mapping[str, Any],
) -> None:
    """
    Makes pairs and writes the whole folder or nothing.

    Args:
        groups (`Sequence[Group]`): The objects.
        scenes (`Sequence[Scene]`): What they are pasted on.
        output (`Path`): The folder, which [`spectra_sum.atomic_write.check_output`] has checked.
        total (`int`): How many pairs, of all splits.
        settings (`Settings`): How.
        counts (`Counts`): Takes all counts.
        models (`Mapping[str, Any]`): The models that took part, with how, for `counts.json`.

    Raises:
        LinkedPairsError: There are too few groups or backgrounds, or quality control has rejected everything.
    """
    check_sources(groups, scenes, counts)
    parts = assign_splits(groups)
    sizes = pairs_by_split(total, parts)
    with whole_folder(output) as folder:
        with tqdm(total=total, desc="pairs", unit="pair", disable=None) as bar:
            for split, count in sizes.items():
                maker = PairMaker(split, parts[split], scenes, settings, counts)
                write_split(folder, split, _made(maker.pairs(count), bar))
        if not counts.pairs.total():
            raise LinkedPairsError(
                f"no pair passed quality control ({counts.lines()[-2]}); loosen --least-visible, --most-overlap or --least-size, "
                "or change --object-size."
            )
        write_dataset(folder, [split for split in sizes if counts.pairs[split]])
        write_masks(folder, groups)
        record = {
            "settings": asdict(settings) | {"limits": settings.limits._asdict()},
            "models": dict(models),
            "groups": {split: [group.name for group in found] for split, found in parts.items()},
            **counts.record(),
        }
        text = json.dumps(record, indent=2)
        (folder / COUNTS_FILE).write_text(f"{text}\n", encoding="utf-8", newline="\n")


def _made(pairs: Iterator[Pair | None], bar: tqdm) -> Iterator[Pair]:
    for pair in pairs:
        bar.update()
        if pair is not None:
            yield pair
