"""The image files of folders that nobody vouches for: found, and opened within bounds."""

import os
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageOps

from spectra_sum.documents.local_images import COMMON_FORMATS
from spectra_sum.documents.parts import printable
from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo.layout import image_damage, is_inside

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
LeaveOut = Callable[[str, str], None]


class LinkedPairsError(SpectraSumError):
    """Cut-outs, backgrounds or an output that cannot be used. The message names the folder or option, and the fix."""


def named_folder(path: Path, option: str) -> Path:
    """
    The resolved folder that an option names.

    Raises:
        LinkedPairsError: There is no such folder.
    """
    if not path.is_dir():
        raise LinkedPairsError(f"{option} {printable(path)}: there is no such folder.")
    return path.resolve()


def shown(path: Path, root: Path) -> str:
    """A path in `root` as records and messages name it: from that folder on, with `/`."""
    return printable(path.relative_to(root).as_posix())


def image_files(folder: Path, root: Path, leave_out: LeaveOut) -> list[Path]:
    """
    The image files directly in a folder, by name.

    Args:
        folder (`Path`): A folder in `root`.
        root (`Path`): The resolved folder that no file may lie outside of.
        leave_out (`Callable[[str, str], None]`): Takes the reason and the place of each entry that is left out: `"outside"` for
            links that lead out of `root`, `"no_image"` for other files and links to folders. Folders are not looked at.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            if not is_inside(path, root):
                leave_out("outside", shown(path, root))
            elif entry.is_dir(follow_symlinks=False):
                continue
            elif path.suffix.lower() in IMAGE_ENDINGS and entry.is_file():
                found.append(path)
            else:
                leave_out("no_image", shown(path, root))
    return found


def inner_folders(folder: Path, root: Path) -> list[Path]:
    """The folders directly in a folder, by name, without links, which could lead anywhere or in a circle."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))


def open_image(path: Path, mode: str, *, verify: str = "header") -> Image.Image:
    """
    An image file in a mode of 8 bits: upright, its first frame.

    Args:
        path (`Path`): A file in one of `COMMON_FORMATS`.
        mode (`str`): `"RGB"` (transparency over white), `"RGBA"` or `"L"`.
        verify (`str`, *optional*, defaults to `"header"`): `"full"` decodes all pixels first, and tells of any damage.

    Raises:
        ValueError: It cannot be read, has more pixels than the MSMO layout allows, or more than 8 bits a value. The message
            says why.
    """
    damage = image_damage(path, verify=verify)
    if damage:
        raise ValueError(damage)
    with Image.open(path, formats=COMMON_FORMATS) as image:
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            raise ValueError("it has more than 8 bits a value; save it with 8")
        upright = ImageOps.exif_transpose(image)
        if mode == "RGB" and upright.has_transparency_data:
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        return upright.convert(mode)
