"""Cut-outs in files: RGBA, an image with its mask, or a photograph with a mask that a model has made."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from spectra_sum.documents.local_images import MIN_IMAGE_SIDE
from spectra_sum.linked_pairs.image_files import open_image
from spectra_sum.linked_pairs.objects import SOLID, solid


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
        return _cropped(image)


@dataclass(frozen=True)
class SegmentedPhotograph:
    """
    A photograph with the mask that a model has made of it.

    Args:
        name (`str`): Its path from the folder of the groups.
        file (`Path`): The file.
        mask (`bytes`): A PNG of the upright photograph's size, white where the object is.
    """

    name: str
    file: Path
    mask: bytes

    def load(self) -> Image.Image:
        """
        The cut-out in RGBA, cropped to the object.

        Raises:
            UnusableCutout: The object is too small.
            ValueError: The file cannot be read, or has another size than the mask.
        """
        image = open_image(self.file, "RGBA")
        with Image.open(io.BytesIO(self.mask)) as mask:
            image.putalpha(mask)
        return _cropped(image)


def _cropped(image: Image.Image) -> Image.Image:
    box = solid(image).getbbox()
    if box is None:
        raise UnusableCutout("empty")
    if min(box[2] - box[0], box[3] - box[1]) < MIN_IMAGE_SIDE:
        raise UnusableCutout("small")
    return image.crop(box)
