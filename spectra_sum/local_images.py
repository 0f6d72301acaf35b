"""Opening image files that nobody vouches for."""

import struct
import warnings
import zlib
from pathlib import Path

from PIL import Image, ImageOps

# EPS would start Ghostscript, and the rarer formats have the least exercised decoders.
READABLE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
# Vision towers read 224 to 512 pixels; the bound keeps a document full of photographs small in memory.
MAX_IMAGE_SIDE = 1024


class ImageError(ValueError):
    """An image file that cannot be used. `kind` is `"missing_image"`, `"broken_image"` or `"oversized_image"`."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def open_local_image(path: Path, max_side: int = MAX_IMAGE_SIDE) -> Image.Image:
    """
    Decodes an image file into RGB: upright (EXIF orientation), transparency over white, first frame of an animation.

    Args:
        path (`Path`):
            A regular file in one of `READABLE_FORMATS`.
        max_side (`int`, *optional*, defaults to `1024`):
            The longer side is reduced to this many pixels; smaller images keep their size.

    Raises:
        ImageError: The file is missing, no regular file, undecodable, or declares more than
            `PIL.Image.MAX_IMAGE_PIXELS` pixels (a decompression bomb).
    """
    if not path.is_file():
        raise ImageError("missing_image", "there is no such file")
    try:
        with warnings.catch_warnings():
            # Pillow only warns between one and two times its limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=READABLE_FORMATS) as image:
                image.draft("RGB", (max_side, max_side))
                image.load()
                image = ImageOps.exif_transpose(image)
                image.thumbnail((max_side, max_side))
                if image.has_transparency_data:
                    image = image.convert("RGBA")
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
                return image.convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ImageError(
            "oversized_image", f"it declares more than {Image.MAX_IMAGE_PIXELS:,} pixels (a decompression bomb?)"
        ) from None
    except Image.UnidentifiedImageError:
        raise ImageError(
            "broken_image", f"it is no image in one of the formats {', '.join(READABLE_FORMATS)}"
        ) from None
    # What Pillow's decoders raise on damaged data.
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error) as error:
        raise ImageError("broken_image", f"it cannot be decoded ({error})") from None
