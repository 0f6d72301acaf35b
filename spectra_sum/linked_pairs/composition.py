"""Two objects on a background: where they lie, and what of them is to be seen."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from spectra_sum.linked_pairs.objects import MAX_ENLARGEMENT, solid

# Of an object's width and height, what may at most lie outside of the canvas at each side.
OVERHANG = 0.15


class Placement(NamedTuple):
    """
    Where a cut-out lies.

    Attributes:
        x (`int`), y (`int`): Its left upper corner in pixels of the canvas; negative where it begins outside.
        width (`int`), height (`int`): Its size there.
        flip (`bool`): Whether left and right are exchanged.
    """

    x: int
    y: int
    width: int
    height: int
    flip: bool


class Limits(NamedTuple):
    """
    What quality control asks of an image.

    Attributes:
        least_visible (`float`): Least share of each object's pixels that lie on the canvas with nothing in front.
        most_overlap (`float`): Greatest share of the smaller object's pixels that both objects have.
        least_size (`float`): Least share of the canvas on which each object is to be seen.
    """

    least_visible: float = 0.85
    most_overlap: float = 0.15
    least_size: float = 0.02


class Measures(NamedTuple):
    """
    What is to be seen of two objects, back and front.

    Attributes:
        visible (`tuple[float, float]`): The share of each object's pixels that is to be seen.
        sizes (`tuple[float, float]`): The share of the canvas on which each is.
        overlap (`float`): The share of the smaller object's pixels that both have.
    """

    visible: tuple[float, float]
    sizes: tuple[float, float]
    overlap: float

    def rejection(self, limits: Limits) -> str:
        """The first of the limits that is not kept, as in `REJECTIONS`, or `""`."""
        if min(self.sizes) < limits.least_size:
            return "small"
        if self.overlap > limits.most_overlap:
            return "overlap"
        return "hidden" if min(self.visible) < limits.least_visible else ""


def draw_placement(
    size: tuple[int, int], canvas: int, sides: tuple[float, float], generator: np.random.Generator
) -> Placement:
    """
    A placement at random: size, place and flip.

    Args:
        size (`tuple[int, int]`): Width and height of the cut-out's file in pixels.
        canvas (`int`): The canvas' side in pixels.
        sides (`tuple[float, float]`): Least and greatest longer side of the object, as shares of the canvas' side.
        generator (`np.random.Generator`): The source of chance.
    """
    scale = min(generator.uniform(*sides) * canvas / max(size), MAX_ENLARGEMENT)
    width, height = (max(1, round(length * scale)) for length in size)
    # With room for nothing, an object of the canvas' size or more, it lies in the middle.
    x, y = (_corner(length, canvas, generator) for length in (width, height))
    return Placement(x, y, width, height, bool(generator.random() < 0.5))


def _corner(length: int, canvas: int, generator: np.random.Generator) -> int:
    outside = int(length * OVERHANG)
    low, high = -outside, canvas - length + outside
    return (canvas - length) // 2 if high < low else int(generator.integers(low, high + 1))


def placed(cutout: Image.Image, placement: Placement) -> Image.Image:
    """An RGBA cut-out in the size and direction of its placement."""
    if placement.flip:
        cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return cutout.resize((placement.width, placement.height), Image.Resampling.LANCZOS)


def measure(layers: Sequence[Image.Image], placements: Sequence[Placement], canvas: int) -> Measures:
    """
    What is to be seen of two objects.

    Args:
        layers (`Sequence[Image]`): The object behind and the one in front, as [`placed`] gives them.
        placements (`Sequence[Placement]`): Where they lie.
        canvas (`int`): The canvas' side in pixels.
    """
    totals, masks = [], []
    for layer, placement in zip(layers, placements, strict=True):
        mask = solid(layer)
        totals.append(max(1, np.count_nonzero(mask)))
        whole = Image.new("L", (canvas, canvas))
        whole.paste(mask, (placement.x, placement.y))
        masks.append(np.asarray(whole) > 0)
    back, front = masks
    shared = np.count_nonzero(back & front)
    seen = (np.count_nonzero(back) - shared, np.count_nonzero(front))
    return Measures(
        visible=(seen[0] / totals[0], seen[1] / totals[1]),
        sizes=(seen[0] / canvas**2, seen[1] / canvas**2),
        overlap=shared / min(totals),
    )


def compose(background: Image.Image, layers: Sequence[Image.Image], placements: Sequence[Placement]) -> Image.Image:
    """The RGB background with the layers on it, the last one in front."""
    image = background.copy()
    for layer, placement in zip(layers, placements, strict=True):
        image.paste(layer, (placement.x, placement.y), layer)
    return image
