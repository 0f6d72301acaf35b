"""The pixels that a model sees of an image: one rule for the processor, the pipeline and the user's documents."""

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageOps

# Vision towers read 224 to 512 pixels; the bound keeps an article full of photographs small in memory.
MAX_SIDE = 1024
# What Pillow's decoders raise on missing, damaged and oversized images.
DECODING_ERRORS = (
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
)


def open_rgb(file: str | Path | io.BytesIO, formats: Sequence[str] | None = None) -> Image.Image:
    """The first frame of an image file as [`flat_rgb`] gives it.

    Args:
        file (`str`, `Path` or `BytesIO`): A path, or the file's content.
        formats (`Sequence[str]`, *optional*): The formats that may be decoded, by Pillow's names; all without it.

    Raises:
        DecompressionBombError: The image declares more than `PIL.Image.MAX_IMAGE_PIXELS` pixels.
        DECODING_ERRORS: The file cannot be read.
    """
    with warnings.catch_warnings():
        # Pillow only warns between one and two times its limit; flat_rgb refuses these, too.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(file, formats=formats) as image:
            return flat_rgb(image)


def flat_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode → RGB, upright (EXIF orientation), transparency over white, without metadata.

    16-bit grey (`I;16`) is scaled to 8 bit. The modes `I` and `F` have no range of their own: it is the first of 0 to
    1 (`F` only), 0 to 255 and 0 to 65535 that holds all values, else from the least value to the greatest. The longer
    side is reduced to `MAX_SIDE` pixels; smaller images keep their size. The result is its own `flat_rgb`.

    Raises:
        DecompressionBombError: The image has more than `PIL.Image.MAX_IMAGE_PIXELS` pixels; it is not decoded.
        DECODING_ERRORS: The image was opened, but its pixels cannot be decoded.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError(f"it has more than {limit:,} pixels (a decompression bomb?)")
    try:
        image.load()
    except AssertionError:
        raise ValueError("its file was closed before its pixels were read") from None
    layer = ImageOps.exif_transpose(image)
    if layer.mode in ("I", "F") or layer.mode.startswith("I;16"):
        layer = _eight_bit(layer)
    elif layer.mode == "La":
        # Pillow has no way from La to RGBA, and would drop the transparency.
        layer = layer.convert("LA")
    layer = layer.convert("RGBA" if layer.has_transparency_data else "RGB")
    layer.thumbnail((MAX_SIDE, MAX_SIDE))
    if layer.mode == "RGBA":
        layer = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    # What was read from it must not be applied again.
    layer.info = {}
    return layer


def _eight_bit(image: Image.Image) -> Image.Image:
    values = torch.frombuffer(bytearray(image.convert("F").tobytes()), dtype=torch.float32)
    low, high = values.min().item(), values.max().item()
    if not high - low <= torch.finfo(torch.float32).max:  # also for NaN
        raise ValueError(f"its values, from {low} to {high}, are no shades of grey")
    tops = {"I": (255, 65535), "F": (1, 255, 65535)}.get(image.mode, (65535,))
    fitting = [top for top in tops if low >= 0 and high <= top]
    bottom, top = (0, fitting[0]) if fitting else (low, high)
    transparent = values == image.info["transparency"] if "transparency" in image.info else None
    shades = values.sub_(bottom).mul_(255 / ((top - bottom) or 1)).round_().to(torch.uint8)
    grey = _grey(shades, image.size)
    if transparent is not None:
        grey.putalpha(_grey(255 * (~transparent).to(torch.uint8), image.size))
    return grey


def _grey(shades: torch.Tensor, size: tuple[int, int]) -> Image.Image:
    return Image.frombuffer("L", size, shades.numpy(), "raw", "L", 0, 1).copy()


__all__ = ["DECODING_ERRORS", "MAX_SIDE", "flat_rgb", "open_rgb"]
