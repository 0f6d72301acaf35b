"""Backgrounds: the images of a folder and the folders in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from spectra_sum.linked_pairs.counts import Counts
from spectra_sum.linked_pairs.image_files import image_files, inner_folders, named_folder, open_image, shown
from spectra_sum.linked_pairs.objects import MAX_ENLARGEMENT, Picture

# Of the pixels of a photograph at most this share has one colour, at 5 bits a channel; the paper of a drawing has more.
MAX_SHARE_OF_A_COLOUR = 0.15


@dataclass(frozen=True)
class BackgroundFile:
    """
    A background in a file.

    Args:
        name (`str`): Its path from the folder of the backgrounds.
        file (`Path`): The file.
    """

    name: str
    file: Path

    def load(self, verify: str = "header") -> Image.Image:
        """
        The background in RGB.

        Raises:
            ValueError: It cannot be read.
        """
        return open_image(self.file, "RGB", verify=verify)


def read_backgrounds(path: Path, size: int, counts: Counts, *, photographs: bool = False) -> list[Picture]:
    """
    The backgrounds in a folder and its inner folders, by path; each file is decoded once.

    Args:
        path (`Path`): The folder.
        size (`int`): The side in pixels that a background will have; its file may be `MAX_ENLARGEMENT` times smaller.
        counts (`Counts`): Counts what is kept and what is not.
        photographs (`bool`, *optional*, defaults to `False`): Whether drawings are left out.

    Raises:
        LinkedPairsError: There is no such folder.
    """
    root = named_folder(path, "--backgrounds")
    found: list[Picture] = []
    for file in _walk(root, root, counts):
        background = BackgroundFile(shown(file, root), file)
        try:
            image = background.load("full")
        except ValueError as error:
            counts.leave_out("backgrounds", "broken", background.name, str(error))
            continue
        if min(image.size) * MAX_ENLARGEMENT < size:
            counts.leave_out("backgrounds", "small", background.name)
        elif photographs and share_of_a_colour(image) > MAX_SHARE_OF_A_COLOUR:
            counts.leave_out("backgrounds", "drawing", background.name)
        else:
            found.append(background)
    counts.kept["backgrounds"] = len(found)
    return found


def share_of_a_colour(image: Image.Image, mask: Image.Image | None = None) -> float:
    """
    The share of an RGB image's pixels that have their most frequent colour, at 5 bits a channel; 1 for no pixels.

    Args:
        image (`Image`): The image.
        mask (`Image`, *optional*): Mode L, of its size; only pixels where it is white count.
    """
    levels = np.asarray(image, dtype=np.uint32) >> 3
    codes = (levels[..., 0] << 10 | levels[..., 1] << 5 | levels[..., 2]).ravel()
    if mask is not None:
        codes = codes[np.asarray(mask).ravel() > 0]
    return int(np.bincount(codes).max()) / codes.size if codes.size else 1.0


def square(size: tuple[int, int], generator: np.random.Generator) -> tuple[int, int, int, int]:
    """A largest square (left, top, right, bottom) in an image of this size (width, height), at a random place."""
    side = min(size)
    left, top = (int(generator.integers(length - side + 1)) for length in size)
    return left, top, left + side, top + side


def _walk(folder: Path, root: Path, counts: Counts) -> Iterator[Path]:
    yield from image_files(folder, root, lambda reason, place: counts.leave_out("backgrounds", reason, place))
    for inner in inner_folders(folder, root):
        yield from _walk(inner, root, counts)
