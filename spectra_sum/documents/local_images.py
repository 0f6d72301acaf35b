"""Opening image files that nobody vouches for."""

import base64
import io
import os
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from PIL import Image

# EPS would start Ghostscript, and the rarer formats have the least exercised decoders.
READABLE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")


class ImageError(ValueError):
    """An image that cannot be used. `kind` is `"missing_image"`, `"broken_image"`, `"oversized_image"`,
    `"remote_image"`, `"outside_folder"` or `"unsupported_image"`."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


def open_linked_image(source: str, folder: Path) -> Image.Image:
    """
    Opens the image file that a document names, as [`open_local_image`] does.

    Args:
        source (`str`):
            A URL, percent-encoded: a path from `folder`.
        folder (`Path`):
            The document's folder, resolved. No path may leave it, also not by a symbolic link.

    Raises:
        ImageError: The address is remote, leads out of the folder or is no path, or the file cannot be used.
    """
    if source[:5].lower() == "data:":
        # Before urlsplit, whose cache would keep the image.
        raise ImageError("unsupported_image", "data: addresses are not read; save it beside the document")
    try:
        url = urlsplit(source)
    except ValueError:
        raise ImageError("unsupported_image", "this is no valid path") from None
    if url.scheme in ("http", "https") or url.netloc:
        raise ImageError("remote_image", "remote images are not fetched; save it beside the document")
    if url.scheme:
        raise ImageError("unsupported_image", f"{url.scheme}: addresses are not read; save it beside the document")
    if not url.path:
        raise ImageError("missing_image", "the image has no path")
    try:
        # realpath follows every symbolic link on the way; an absolute path replaces the folder.
        path = Path(os.path.realpath(folder / unquote(url.path)))
        if path.is_relative_to(folder):
            return open_local_image(path)
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # a name too long, a NUL byte
        raise ImageError("missing_image", f"this is no usable file name ({error})") from None
    raise ImageError("outside_folder", "images outside the document's folder are not read; copy it there")


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


def _decoded(file: Path | io.BytesIO) -> Image.Image:
    # Not at the top: spectra_sum.msmo takes READABLE_FORMATS from here, and must not load torch for them.
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
