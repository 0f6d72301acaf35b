"""The images of a request, in whatever way they are sent, as bytes; and names of files that lead nowhere."""

import base64
import binascii
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from ...documents.parts import printable
from ..errors import ApiError
from .shapes import ImageObject

_SEPARATORS = re.compile(r"[/\\]")
_SPACE = re.compile(r"\s+")
_MOST_NAME_BYTES = 150


@dataclass(frozen=True)
class SentFile:
    """
    A file of a request.

    Attributes:
        name (`str`): Its name alone, without any folder.
        data (`bytes`): Its content.
        caption (`str`), alt (`str`): Of an image; may be empty.
    """

    name: str
    data: bytes
    caption: str = ""
    alt: str = ""


@dataclass(frozen=True)
class SentAddress:
    """An image that is to be fetched, with its place in the request for messages."""

    url: str
    param: str
    name: str = ""
    caption: str = ""
    alt: str = ""


def image_of(value: str | ImageObject, param: str, number: int, most_bytes: int) -> SentFile | SentAddress:
    """
    An image as JSON has it.

    Args:
        value (`str` or `ImageObject`): Base64, a data URI, an http address, or an object with one of them.
        param (`str`): Its place in the request, for messages.
        number (`int`): Its number, from 1, which names it where it has no name.
        most_bytes (`int`): Most bytes of its content.

    Raises:
        ApiError: 400 or 413, it cannot be decoded or is too large.
    """
    image = ImageObject(data=value) if isinstance(value, str) else value
    source = image.data if image.url is None else image.url
    texts = {"caption": image.caption or "", "alt": image.alt or ""}
    if source[:5].lower() != "data:" and (image.url is not None or source[:8].lower().startswith(("http:", "https:"))):
        return SentAddress(source, param, image.name or "", **texts)
    return SentFile(file_name(image.name or "", f"image-{number}"), _decoded(source, param, most_bytes), **texts)


def file_name(name: str, otherwise: str) -> str:
    """
    A name for a file in a folder of the request's own: what follows the last separator, of a length that every file system
    takes.

    Args:
        name (`str`): As it was sent.
        otherwise (`str`): Where that is no name.
    """
    last = printable(_SEPARATORS.split(name)[-1]).strip()
    if last.strip(".") == "":
        return otherwise
    if len(last.encode()) > _MOST_NAME_BYTES:
        stem, dot, ending = last.rpartition(".")
        ending = dot + ending if stem and len(ending.encode()) <= 10 else ""
        last = last.encode()[: _MOST_NAME_BYTES - len(ending.encode())].decode(errors="ignore") + ending
    return last


def _decoded(text: str, param: str, most_bytes: int) -> bytes:
    payload, is_base64 = text, True
    if text[:5].lower() == "data:":
        header, comma, payload = text.partition(",")
        if not comma:
            raise ApiError(400, f"{param}: this data URI has no comma; write data:image/png;base64,….", param=param)
        is_base64 = header.rstrip().lower().endswith(";base64")
    # Four characters for three bytes; of percent-encoding three for one.
    if len(payload) > (3 * most_bytes if not is_base64 else 4 * most_bytes / 3 + most_bytes / 10 + 4):
        raise too_large(param, most_bytes)
    try:
        if is_base64:
            data = base64.b64decode(_SPACE.sub("", payload), validate=True)
        else:
            data = unquote_to_bytes(payload)
    except (binascii.Error, ValueError):
        raise ApiError(400, f"{param}: this is no valid base64.", param=param, code="invalid_base64") from None
    if len(data) > most_bytes:
        raise too_large(param, most_bytes)
    return data


def too_large(param: str, most_bytes: int) -> ApiError:
    """The refusal of an image of too many bytes."""
    return ApiError(413, f"{param}: the image has more than {most_bytes:,} bytes.", param=param, code="too_large")
