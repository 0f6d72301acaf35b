"""Where the images of a user's records lie: in the data, or in files that the data may name."""

import ast
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..msmo.layout import is_inside
from .formats import OwnDataError
from .image_folders import ImageFolders

# No system has a longer path; text of an encoded image is.
_LONGEST_PATH = 4096
_ABSOLUTE = re.compile(r"[/\\~]|[A-Za-z]:[/\\]")
# One letter before a colon is a disk.
_ADDRESS = re.compile(r"data:|[A-Za-z][A-Za-z0-9+.-]+:/?/", re.IGNORECASE)


_QUOTED_LIST = re.compile(r"""\[\s*['"].*['"]\s*\]""", re.DOTALL)


@dataclass(frozen=True)
class ImagePlace:
    """
    Where images may be read from.

    Args:
        folder (`str`, *optional*): That of the data file, which paths are relative to. None: paths say nothing.
        roots (`tuple[str, ...]`, *optional*): Folders in which the library itself has put or found image files: absolute paths
            that lie there are its own.
        address (`str`, *optional*): What an image of a stream on the Hub begins with; such an image is fetched.
        beside (`ImageFolders`, *optional*): What lies in `folder`: a file that is only named is looked for in folders there, too.
    """

    folder: str | None = None
    roots: tuple[str, ...] = ()
    address: str = ""
    beside: ImageFolders | None = None

    def stored(self, value: Any) -> dict[str, Any]:
        """
        An image as a record holds it, `{"bytes", "path"}` with one of the two.

        Args:
            value: Bytes, a path, or a dict of both as `datasets` stores images.

        Raises:
            OwnDataError: It is none of these, or names what is not read. The message goes on from the article's name.
        """
        if isinstance(value, Mapping) and value and value.keys() <= {"bytes", "path"}:
            content = value.get("bytes")
            value = value.get("path") if content is None else content
        if isinstance(value, bytes | bytearray):
            # Not its name beside it: a file of that name here would be read in its place.
            return {"bytes": bytes(value), "path": None}
        if not isinstance(value, str) or not value.strip():
            raise OwnDataError(f"an image is {_shown(value)}; give a path, the file's bytes, or a feature Image.")
        if self.address and value.startswith(self.address):
            return {"bytes": _fetched(value), "path": None}
        return {"bytes": None, "path": self._path(value.strip())}

    def _path(self, path: str) -> str:
        if _ADDRESS.match(path):
            raise OwnDataError(
                f"the image {_shown(path)} is an address, and none is fetched or decoded; save it as a file beside the data."
            )
        if "\0" in path:
            raise OwnDataError(f"the image {_shown(path)} is no path: it has a zero byte; give its path, or bytes.")
        if len(path) > _LONGEST_PATH:
            raise OwnDataError(
                f"the image {_shown(path)} is no path (base64 is not read); save it as a file, or give bytes."
            )
        if any(os.path.isabs(path) and is_inside(path, root) for root in self.roots):
            return path
        if self.folder is None:
            raise OwnDataError(
                f"the image {_shown(path)} is only named; there are no files beside this dataset: put the images into it."
            )
        if _ABSOLUTE.match(path) or ".." in re.split(r"[/\\]", path):
            raise OwnDataError(
                f"the image {_shown(path)} may lie outside of the data's folder; give its path from {self.folder}."
            )
        place = os.path.join(self.folder, path if self.beside is None else self.beside.find(path))
        if not is_inside(place, self.folder):
            raise OwnDataError(f"the image {_shown(path)} is a link that leads out of {self.folder}; copy it there.")
        return place


def image_values(value: Any) -> list[Any]:
    """The values of an article's images: a list, one image, or several paths in a text (a JSON list, or parted by `;`)."""
    if isinstance(value, str):
        parts = text_list(value)
        return parts if parts is not None else [part.strip() for part in value.split(";") if part.strip()]
    if value is None or value == {"bytes": None, "path": None}:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray) else [value]


def text_list(value: str) -> list[Any] | None:
    """
    The list that a cell of a table writes, in JSON or as Python does, which is what `pandas` makes of lists; None for another
    text.

    Raises:
        OwnDataError: It looks like a list of texts, and is neither.
    """
    text = value.strip()
    if not text.startswith("["):
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = _python_list(text)
    if content is None and _QUOTED_LIST.fullmatch(text):
        raise OwnDataError(f"{_shown(text)} is no list that can be read; write it in JSON.")
    return content if isinstance(content, list) else None


def _python_list(text: str) -> list[Any] | None:
    try:
        content = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    # Of arrays, whose texts stand without commas, Python would join all to one.
    return content if repr(content) == text else None


def _fetched(address: str) -> bytes:
    from datasets.utils.file_utils import xopen

    with xopen(address, "rb") as file:
        return file.read()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"
