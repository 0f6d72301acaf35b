"""Of the masks that a model finds in a photograph: which one is the object, and whether it is good enough."""

import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image
from scipy import ndimage

from spectra_sum.linked_pairs.cutouts import CutoutFile, SegmentedPhotograph, UnusableCutout
from spectra_sum.linked_pairs.image_files import open_image

# Least share of the photograph that the object has.
LEAST_SHARE = 0.02
# Floors, walls and skies touch three of the four sides, the object at most two.
MOST_SIDES = 2
# Least share of a mask's pixels in its largest piece; the others are cut off.
LEAST_PIECE = 0.9


class Segmenter(Protocol):
    """A model that finds masks. `record` says which one and how, for JSON."""

    @property
    def record(self) -> dict[str, Any]: ...

    def masks(self, image: Image.Image) -> list[np.ndarray]:
        """The masks of an RGB image that the model is sure of: bool, (height, width) of the image or of a smaller one."""
        ...


def segment(photograph: CutoutFile, segmenter: Segmenter) -> SegmentedPhotograph:
    """
    A photograph with the mask of its object.

    Args:
        photograph (`CutoutFile`): An image without transparency.
        segmenter (`Segmenter`): Finds the masks.

    Raises:
        UnusableCutout: No mask passes quality control, or the photograph cannot be read.
    """
    try:
        image = open_image(photograph.file, "RGB")
    except ValueError as error:
        raise UnusableCutout("broken", str(error)) from None
    mask = Image.fromarray(choose_mask(segmenter.masks(image)).astype(np.uint8) * 255)
    buffer = io.BytesIO()
    mask.resize(image.size, Image.Resampling.BILINEAR).save(buffer, "PNG")
    return SegmentedPhotograph(photograph.name, photograph.file, buffer.getvalue())


def choose_mask(masks: Sequence[np.ndarray]) -> np.ndarray:
    """
    The largest of the masks that pass quality control, its largest piece alone: a model finds an object's parts, too.

    Args:
        masks (`Sequence[np.ndarray]`): Bool, (height, width).

    Raises:
        UnusableCutout: None passes. The reason is the check that the last of them failed: `"unsure"` where there is no mask,
            `"small"`, `"border"` (it touches three sides of the photograph or all four), `"pieces"`.
    """
    if not masks:
        raise UnusableCutout("unsure")
    checks = {
        "small": lambda mask: mask.mean() >= LEAST_SHARE,
        "border": lambda mask: sides_touched(mask) <= MOST_SIDES,
        "pieces": lambda mask: largest_piece(mask).sum() >= LEAST_PIECE * mask.sum(),
    }
    left = list(masks)
    for reason, passes in checks.items():
        left = [mask for mask in left if passes(mask)]
        if not left:
            raise UnusableCutout(reason)
    return largest_piece(max(left, key=np.count_nonzero))


def sides_touched(mask: np.ndarray) -> int:
    """How many of the four sides a mask (height, width) touches."""
    return sum(bool(line.any()) for line in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """Of a mask (height, width) with any pixels, those of its largest piece; pixels that meet at a corner are in one piece."""
    pieces, _ = ndimage.label(mask, np.ones((3, 3)))
    return pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
