"""Groups of cut-outs: a folder for each object, with RGBA files, images and their masks, or photographs to be cut out."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from spectra_sum.documents.parts import printable
from spectra_sum.linked_pairs.counts import Counts
from spectra_sum.linked_pairs.cutouts import CutoutFile, SegmentedPhotograph, UnusableCutout
from spectra_sum.linked_pairs.descriptions import CAPTIONS_FILE, DESCRIPTION_FILE, describe, read_captions
from spectra_sum.linked_pairs.image_files import (
    LinkedPairsError,
    image_files,
    inner_folders,
    named_folder,
    shown,
)
from spectra_sum.linked_pairs.masks import Segmenter, segment
from spectra_sum.linked_pairs.objects import Group, Picture

MASK_SUFFIX = "_mask"
MIN_POSES = 2


def read_groups(path: Path, counts: Counts, segmenter: Segmenter | None = None) -> list[Group]:
    """
    The groups in a folder of folders, by name; each file is decoded once.

    Args:
        path (`Path`): The folder. What lies in it beside folders is no cut-out, but for `captions.json`.
        counts (`Counts`): Counts what is kept and what is not.
        segmenter (`Segmenter`, *optional*): Finds the objects of plain photographs, which are left out without it.

    Raises:
        LinkedPairsError: There is no such folder, a description cannot be read, or two groups have the same one.
    """
    root = named_folder(path, "--groups")
    leave_out = _without(lambda reason, place: counts.leave_out("cut-outs", reason, place), CAPTIONS_FILE)
    for file in image_files(root, root, leave_out):
        counts.leave_out("cut-outs", "no_image", shown(file, root))
    found = {folder: _find_files(folder, root, counts) for folder in inner_folders(root, root)}
    descriptions = _describe(path, root, [folder for folder in found if len(found[folder]) >= MIN_POSES])
    groups, seen = [], set()
    # Without a model a file takes milliseconds.
    quiet = True if segmenter is None else None
    with tqdm(total=sum(map(len, found.values())), desc="cut-outs", unit="file", disable=quiet) as bar:
        for folder, files in found.items():
            poses = _read_poses(_with_progress(files, bar), counts, seen, segmenter)
            if len(poses) < MIN_POSES:
                counts.leave_out("groups", "few_poses", shown(folder, root))
            else:
                groups.append(Group(shown(folder, root), descriptions[folder], poses))
    counts.kept.update({"groups": len(groups), "cut-outs": sum(len(group.poses) for group in groups)})
    return groups


def _describe(path: Path, root: Path, folders: Sequence[Path]) -> dict[Path, str]:
    captions = read_captions(root)
    descriptions = {folder: describe(folder, root, captions) for folder in folders}
    places: dict[str, Path] = {}
    for folder, description in descriptions.items():
        other = places.setdefault(description.casefold(), folder)
        if other != folder:
            raise LinkedPairsError(
                f"--groups {printable(path)}: {shown(other, root)} and {shown(folder, root)} have the same description; put "
                f"their files into one folder, or tell them apart in {CAPTIONS_FILE}."
            )
    return descriptions


def _find_files(folder: Path, root: Path, counts: Counts) -> list[CutoutFile]:
    def left_out(reason: str, place: str) -> None:
        counts.leave_out("cut-outs", reason, place)

    files = image_files(folder, root, _without(left_out, f"{shown(folder, root)}/{DESCRIPTION_FILE}"))
    masks = {file.stem.removesuffix(MASK_SUFFIX): file for file in files if file.stem.endswith(MASK_SUFFIX)}
    images = [file for file in files if not file.stem.endswith(MASK_SUFFIX)]
    for inner in inner_folders(folder, root):
        left_out("no_image", shown(inner, root))
    for stem in sorted(masks.keys() - {file.stem for file in images}):
        left_out("lone_mask", shown(masks[stem], root))
    return [CutoutFile(shown(file, root), file, masks.get(file.stem)) for file in images]


def _with_progress(files: Sequence[CutoutFile], bar: tqdm) -> Iterator[CutoutFile]:
    for file in files:
        yield file
        bar.update()


def _read_poses(
    files: Iterable[CutoutFile], counts: Counts, seen: set[bytes], segmenter: Segmenter | None
) -> list[Picture]:
    poses: list[Picture] = []
    for file in files:
        try:
            pose, cutout = _read_pose(file, segmenter)
        except UnusableCutout as error:
            counts.leave_out("cut-outs", error.reason, file.name, str(error))
            continue
        digest = hashlib.sha256(f"{cutout.size}".encode() + cutout.tobytes()).digest()
        if digest in seen:
            counts.leave_out("cut-outs", "repeated", file.name)
            continue
        seen.add(digest)
        poses.append(pose)
        counts.segmented += isinstance(pose, SegmentedPhotograph)
    return poses


def _read_pose(file: CutoutFile, segmenter: Segmenter | None) -> tuple[Picture, Image.Image]:
    try:
        return file, file.load("full")
    except UnusableCutout as error:
        if segmenter is None or file.mask is not None or error.reason != "whole":
            raise
    photograph = segment(file, segmenter)
    return photograph, photograph.load()


def _without(leave_out: Callable[[str, str], None], known: str) -> Callable[[str, str], None]:
    """Of what is left out, all but a file that is read in another way."""
    return lambda reason, place: None if (reason, place) == ("no_image", known) else leave_out(reason, place)
