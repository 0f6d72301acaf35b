"""Opening image files that nobody vouches for."""

import base64
import io
from pathlib import Path
from urllib.parse import unquote_to_bytes

from PIL import Image, features

# EPS would start Ghostscript, and the rarer formats have the least exercised decoders.
COMMON_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
# Pillow has AVIF from 11.3 on, and not in every build.
READABLE_FORMATS = COMMON_FORMATS + (("AVIF",) if "avif" in features.modules and features.check("avif") else ())
# Smaller ones are spacers, icons, counters of visits, and placeholders of scripts that load the image itself later.
MIN_IMAGE_SIDE = 24


class ImageError(ValueError):
    """An image that cannot be used. `kind` is `"missing_image"`, `"broken_image"`, `"oversized_image"`,
    `"small_image"`, `"remote_image"`, `"outside_folder"` or `"unsupported_image"`."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def open_data_image(uri: str) -> Image.Image:
    """
    Decodes the image in a `data:` URI (RFC 2397) as [`open_local_image`] does a file's.

    Raises:
        ImageError: There is no image in it that can be used.
    """
    header, _, payload = uri.partition(",")
    try:
        data = unquote_to_bytes(payload)
    except ValueError as error:  # lone surrogates
        raise ImageError("broken_image", f"its address is damaged ({error})") from None
    if header.rstrip().lower().endswith(";base64"):
        try:
            data = base64.b64decode(data)
        except ValueError as error:
            raise ImageError("broken_image", f"its base64 is damaged ({error})") from None
    return _decoded(io.BytesIO(data))


def open_local_image(path: Path) -> Image.Image:
    """
    Decodes an image file into RGB as the model sees it, by the rule of [`modeling_spectra.rgb_images.flat_rgb`]:
    upright, transparency over white, at most 1024 pixels a side, first frame of an animation.

    Args:
        path (`Path`):
            A regular file in one of `READABLE_FORMATS`.

    Raises:
        ImageError: The file is missing, no regular file, undecodable, or declares more than
            `PIL.Image.MAX_IMAGE_PIXELS` pixels (a decompression bomb).
    """
    if not path.is_file():
        raise ImageError("missing_image", "there is no such file")
    return _decoded(path)


def check_side(width: float, height: float) -> None:
    """
    Holds an image to `MIN_IMAGE_SIDE`.

    Args:
        width (`float`), height (`float`): Its sides in pixels, as [`open_local_image`] decodes it or a page shows it.

    Raises:
        ImageError: A side is shorter.
    """
    if min(width, height) < MIN_IMAGE_SIDE:
        raise ImageError(
            "small_image",
            f"it has {width:g} × {height:g} pixels; images of less than {MIN_IMAGE_SIDE} a side are not the article's",
        )


def _decoded(file: Path | io.BytesIO) -> Image.Image:
    # Not at the top: spectra_sum.msmo takes COMMON_FORMATS from here, and must not load torch for them.
    from modeling_spectra.rgb_images import DECODING_ERRORS, open_rgb

    try:
        return open_rgb(file, READABLE_FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(
            "oversized_image", f"it declares more than {Image.MAX_IMAGE_PIXELS:,} pixels (a decompression bomb?)"
        ) from None
    except Image.UnidentifiedImageError:
        raise ImageError(
            "broken_image", f"it is no image in one of the formats {', '.join(READABLE_FORMATS)}"
        ) from None
    except DECODING_ERRORS as error:
        raise ImageError("broken_image", f"it cannot be decoded ({error})") from None
