"""Groups of cut-outs: a folder for each object, with RGBA files, or with images and their masks."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from spectra_sum.documents.local_images import MIN_IMAGE_SIDE
from spectra_sum.documents.parts import printable
from spectra_sum.linked_pairs.counts import Counts
from spectra_sum.linked_pairs.descriptions import CAPTIONS_FILE, DESCRIPTION_FILE, describe, read_captions
from spectra_sum.linked_pairs.image_files import (
    LinkedPairsError,
    image_files,
    inner_folders,
    named_folder,
    open_image,
    shown,
)
from spectra_sum.linked_pairs.objects import SOLID, Group, Picture, solid

MASK_SUFFIX = "_mask"
MIN_POSES = 2


class UnusableCutout(ValueError):
    """A file that shows no cut-out. `reason` is one of `CUTOUT_REASONS`."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class CutoutFile:
    """
    A cut-out in a file.

    Args:
        name (`str`): Its path from the folder of the groups.
        file (`Path`): The file.
        mask (`Path`, *optional*): A file of the same size, white where the object is; without it the file's alpha channel counts.
    """

    name: str
    file: Path
    mask: Path | None = None

    def load(self, verify: str = "header") -> Image.Image:
        """
        The cut-out in RGBA, cropped to the object.

        Args:
            verify (`str`, *optional*, defaults to `"header"`): As in [`open_image`].

        Raises:
            UnusableCutout: There is none.
        """
        try:
            image = open_image(self.file, "RGBA", verify=verify)
            if self.mask is not None:
                mask = open_image(self.mask, "L", verify=verify)
                if mask.size != image.size:
                    raise UnusableCutout("mask_size")
                image.putalpha(mask)
        except UnusableCutout:
            raise
        except ValueError as error:
            raise UnusableCutout("broken", str(error)) from None
        if image.getchannel("A").getextrema()[0] >= SOLID:
            raise UnusableCutout("whole")
        box = solid(image).getbbox()
        if box is None:
            raise UnusableCutout("empty")
        if min(box[2] - box[0], box[3] - box[1]) < MIN_IMAGE_SIDE:
            raise UnusableCutout("small")
        return image.crop(box)


def read_groups(path: Path, counts: Counts) -> list[Group]:
    """
    The groups in a folder of folders, by name; each file is decoded once.

    Args:
        path (`Path`): The folder. What lies in it beside folders is no cut-out, but for `captions.json`.
        counts (`Counts`): Counts what is kept and what is not.

    Raises:
        LinkedPairsError: There is no such folder, a description cannot be read, or two groups have the same one.
    """
    root = named_folder(path, "--groups")
    captions = read_captions(root)
    leave_out = _without(lambda reason, place: counts.leave_out("cut-outs", reason, place), CAPTIONS_FILE)
    for file in image_files(root, root, leave_out):
        counts.leave_out("cut-outs", "no_image", shown(file, root))
    seen: set[bytes] = set()
    groups, places = [], {}
    for folder in inner_folders(root, root):
        poses = _read_poses(folder, root, counts, seen)
        if len(poses) < MIN_POSES:
            counts.leave_out("groups", "few_poses", shown(folder, root))
            continue
        group = Group(shown(folder, root), describe(folder, root, captions), poses)
        other = places.setdefault(group.description.casefold(), group.name)
        if other != group.name:
            raise LinkedPairsError(
                f"--groups {printable(path)}: {other} and {group.name} have the same description; put their files into one "
                f"folder, or tell them apart in {CAPTIONS_FILE}."
            )
        groups.append(group)
    counts.kept.update({"groups": len(groups), "cut-outs": sum(len(group.poses) for group in groups)})
    return groups


def _read_poses(folder: Path, root: Path, counts: Counts, seen: set[bytes]) -> list[Picture]:
    def left_out(reason: str, place: str) -> None:
        counts.leave_out("cut-outs", reason, place)

    files = image_files(folder, root, _without(left_out, f"{shown(folder, root)}/{DESCRIPTION_FILE}"))
    masks = {file.stem.removesuffix(MASK_SUFFIX): file for file in files if file.stem.endswith(MASK_SUFFIX)}
    images = [file for file in files if not file.stem.endswith(MASK_SUFFIX)]
    for inner in inner_folders(folder, root):
        left_out("no_image", shown(inner, root))
    for stem in sorted(masks.keys() - {file.stem for file in images}):
        left_out("lone_mask", shown(masks[stem], root))
    poses: list[Picture] = []
    for file in images:
        pose = CutoutFile(shown(file, root), file, masks.get(file.stem))
        try:
            cutout = pose.load("full")
        except UnusableCutout as error:
            counts.leave_out("cut-outs", error.reason, pose.name, str(error))
            continue
        digest = hashlib.sha256(f"{cutout.size}".encode() + cutout.tobytes()).digest()
        if digest in seen:
            left_out("repeated", pose.name)
        else:
            seen.add(digest)
            poses.append(pose)
    return poses


def _without(leave_out: Callable[[str, str], None], known: str) -> Callable[[str, str], None]:
    """Of what is left out, all but a file that is read in another way."""
    return lambda reason, place: None if (reason, place) == ("no_image", known) else leave_out(reason, place)
