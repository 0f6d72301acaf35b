"""Image files as the articles have them: 384 pixels, JPEG."""

import io
from pathlib import Path

from PIL import Image, ImageOps

from spectra_sum.documents.local_images import COMMON_FORMATS, open_local_image
from spectra_sum.msmo.layout import image_damage

MAX_SIDE = 384
JPEG_QUALITY = 82


def small_jpeg(path: Path) -> bytes:
    """
    An image file as JPEG: RGB, upright, transparency over white, its longer side reduced to `MAX_SIDE` pixels.

    Args:
        path (`Path`): A file in one of `COMMON_FORMATS`.

    Raises:
        ValueError: It cannot be decoded, or has more pixels than the MSMO layout allows. The message says why.
    """
    damage = image_damage(path, verify="full")
    if damage:
        raise ValueError(damage)
    with Image.open(path, formats=COMMON_FORMATS) as image:
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            # More shades than JPEG has; the models' own rule scales them.
            small = open_local_image(path)
        else:
            small = ImageOps.exif_transpose(image)
            if small.has_transparency_data:
                small = small.convert("RGBA")
                small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
            small = small.convert("RGB")
    small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()
