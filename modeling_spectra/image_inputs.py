"""What an image may be given as: a PIL image, a path, an address, base64, or an array → the pixels that a model sees."""

import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import httpx

from .rgb_images import DECODING_ERRORS, flat_rgb, open_rgb

# What fetching an image raises, and decoding it.
IMAGE_ERRORS = (httpx.HTTPError, httpx.InvalidURL, *DECODING_ERRORS)
# Seconds to wait for an image that is fetched.
FETCH_TIMEOUT = 30.0
ADDRESS = ("http://", "https://")
DATA_URI = "data:image/"
# Of content that comes from elsewhere: of others, such as EPS, Pillow would start other programs.
EMBEDDED_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")


def open_image(image: Any, timeout: float | None = None) -> Image.Image:
    """An image in any form → RGB by the rule of [`flat_rgb`].

    Args:
        image (`PIL.Image.Image`, `str`, `os.PathLike`, `np.ndarray` or `torch.Tensor`):
            A string is read as `transformers.image_utils.load_image` reads it: an address, a path, a `data:image/` URI or
            base64. An array is (H, W), (H, W, C) or (C, H, W) with C of 1, 3 or 4 (grey, RGB, RGBA), in uint8 or, from
            0 to 1, in floating point; (3, W, 3) is read as (H, W, C).
        timeout (`float`, *optional*): Seconds to wait for an address; without it nothing is fetched.

    Raises:
        IMAGE_ERRORS: The image cannot be read; a ValueError for one of another form, and for an address without a
            timeout.
    """
    if isinstance(image, Image.Image):
        return flat_rgb(image)
    if isinstance(image, np.ndarray | torch.Tensor):
        return flat_rgb(_from_array(image))
    if not isinstance(image, str | os.PathLike):
        raise ValueError(f"an image is a PIL image, a path, base64 or an array, not {type(image).__name__}")
    if not isinstance(image, str):
        return open_rgb(Path(image))
    if image.startswith(ADDRESS):
        if timeout is None:
            raise ValueError("it is a URL; images are not fetched unless asked: pass fetch_images=True, or a path")
        response = httpx.get(image, timeout=timeout, follow_redirects=True)
        return open_rgb(io.BytesIO(response.raise_for_status().content), EMBEDDED_FORMATS)
    encoded = image.partition(",")[2] if image.startswith(DATA_URI) else None
    if encoded is None and os.path.isfile(image):
        return open_rgb(image)
    try:
        return open_rgb(io.BytesIO(base64.decodebytes((encoded or image).encode())), EMBEDDED_FORMATS)
    except (Image.UnidentifiedImageError, ValueError) as error:
        what = (
            "it is no image" if encoded is not None else "there is no such file, and it is neither a URL nor an image"
        )
        raise ValueError(f"{what} in base64") from error


def to_rgb(image: Any, timeout: float | None = None) -> Image.Image:
    """[`open_image`], with one kind of error.

    Raises:
        ValueError: naming the image, for what [`open_image`] raises; an image has more than
            `PIL.Image.MAX_IMAGE_PIXELS` pixels, too.
    """
    try:
        return open_image(image, timeout)
    except IMAGE_ERRORS as error:
        shown = getattr(image, "filename", "") or image
        # The values of an array say nothing.
        shown = type(image).__name__ if isinstance(image, np.ndarray | torch.Tensor) else str(shown)[:200]
        # Of a failed request the second line is an address to read.
        raise ValueError(f"cannot read the image {shown}: {str(error).partition(chr(10))[0]}") from error


def _from_array(image: np.ndarray | torch.Tensor) -> Image.Image:
    tensor = image.detach().cpu() if isinstance(image, torch.Tensor) else None
    array = tensor.float().numpy() if _is_float_tensor(image) else np.asarray(image if tensor is None else tensor)
    shape, dtype = tuple(array.shape), image.dtype
    if array.ndim == 3 and shape[-1] not in (1, 3, 4) and shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (3, 4))) or 0 in shape:
        raise ValueError(f"an image array is (H, W), (H, W, C) or (C, H, W) with C of 1, 3 or 4, not {shape}")
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"an image array in floating point goes from 0 to 1, not from {array.min()} to {array.max()}: pass "
                "uint8, or scale it (one that a processor has normalized is no image any more)"
            )
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"an image array holds uint8, or floating point from 0 to 1, not {dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def _is_float_tensor(image: np.ndarray | torch.Tensor) -> bool:
    return isinstance(image, torch.Tensor) and image.is_floating_point()


__all__ = ["DATA_URI", "FETCH_TIMEOUT", "IMAGE_ERRORS", "open_image", "to_rgb"]
