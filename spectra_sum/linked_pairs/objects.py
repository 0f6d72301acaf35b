"""Objects as groups of cut-outs, and what backgrounds are: from files or drawn."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from PIL import Image

from spectra_sum.linked_pairs.image_files import LinkedPairsError

# Alpha from which a pixel counts as the object's.
SOLID = 128
# How often larger than its file a cut-out or a background may be shown.
MAX_ENLARGEMENT = 2.5


class Picture(Protocol):
    """A cut-out (RGBA, cropped to the object) or a background (RGB). `name` says where it comes from."""

    @property
    def name(self) -> str: ...

    def load(self) -> Image.Image: ...


class Group(NamedTuple):
    """
    One object.

    Attributes:
        name (`str`): Its name: that of its folder.
        description (`str`): What an answer calls it, such as `"a red boat"`.
        poses (`Sequence[Picture]`): At least two cut-outs of it.
    """

    name: str
    description: str
    poses: Sequence[Picture]


def solid(cutout: Image.Image) -> Image.Image:
    """The mask (mode L, 0 or 255) of the pixels of an RGBA image that count as the object's."""
    return cutout.getchannel("A").point([255 * (value >= SOLID) for value in range(256)])


def loaded(picture: Picture) -> Image.Image:
    """
    A picture that was read before.

    Raises:
        LinkedPairsError: Its file has changed meanwhile.
    """
    try:
        return picture.load()
    except ValueError as error:
        raise LinkedPairsError(f"{picture.name}: it has changed since it was read ({error}); start again.") from None
