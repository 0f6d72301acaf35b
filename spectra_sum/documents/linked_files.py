"""Which file of a document's folder an address of the document names."""

import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .local_images import ImageError

_SEPARATORS = re.compile(r"[/\\]")
# "C:" of a Windows path looks like a scheme; no registered scheme has one letter.
_DRIVE = re.compile(r"[a-z]")


class LinkedFiles:
    r"""
    Finds the files that a document names. No path may leave the folder, also not by a symbolic link.

    An address is a URL, percent-encoded: a path from the folder. Where there is no such file, `\` separates folders,
    as on Windows, and a name stands for the one entry of its folder that is equal in Unicode's form NFC: systems store
    "é" as one character or as two.

    Args:
        folder (`Path`): The document's folder, resolved.
        by_name (`bool`, *optional*, defaults to `False`): Look first for a file of the folder that has the name at the
            end of the address, whatever precedes it, a host as well: of uploads only the names are known.
    """

    def __init__(self, folder: Path, *, by_name: bool = False):
        self._folder = folder
        self._by_name = by_name
        self._names: dict[Path, dict[str, list[str]]] = {}

    def find(self, address: str) -> Path:
        """
        The file at an address.

        Raises:
            ImageError: The address is remote, leads out of the folder, is no path, or names no file or several.
        """
        if address[:5].lower() == "data:":
            # Before urlsplit, whose cache would keep the image.
            raise ImageError("unsupported_image", "data: addresses are not read; save it beside the document")
        try:
            url = urlsplit(address)
        except ValueError:
            raise ImageError("unsupported_image", "this is no valid path") from None
        path = unquote(url.path)
        if self._by_name:
            name = _SEPARATORS.split(path)[-1]
            found = self._file(name) if name not in ("", ".", "..") else None
            if found:
                return found
        if url.scheme in ("http", "https") or url.netloc:
            raise ImageError("remote_image", "remote images are not fetched; save it beside the document")
        if _DRIVE.fullmatch(url.scheme):
            raise self._outside()
        if url.scheme:
            raise ImageError("unsupported_image", f"{url.scheme}: addresses are not read; save it beside the document")
        if not path:
            raise ImageError("missing_image", "the image has no path")
        found = self._file(path) or ("\\" in path and self._file(path.replace("\\", "/")))
        if not found:
            raise ImageError("missing_image", "there is no such file")
        return found

    def _file(self, path: str) -> Path | None:
        try:
            # realpath follows every symbolic link on the way; an absolute path replaces the folder.
            real = Path(os.path.realpath(self._folder / path))
            if not real.is_relative_to(self._folder):
                raise self._outside()
            return real if real.is_file() else self._equal_file(path)
        except ImageError:
            raise
        except (OSError, ValueError) as error:  # a name too long, a NUL byte
            raise ImageError("missing_image", f"this is no usable file name ({error})") from None

    def _equal_file(self, path: str) -> Path | None:
        """The file whose path has equal names after normalisation, if it is in the folder."""
        place = Path(os.path.normpath(self._folder / path))
        if not place.is_relative_to(self._folder):
            return None
        parts = place.relative_to(self._folder).parts
        place = self._folder
        for part in parts:
            if not (place / part).exists():
                names = self._names_in(place).get(unicodedata.normalize("NFC", part), [])
                if len(names) > 1:
                    raise ImageError(
                        "missing_image", f"{len(names)} files have this name in other Unicode forms; rename them"
                    )
                if not names:
                    return None
                part = names[0]
            place = Path(os.path.realpath(place / part))
            if not place.is_relative_to(self._folder):
                raise self._outside()
        return place if place.is_file() else None

    def _names_in(self, place: Path) -> dict[str, list[str]]:
        if place not in self._names:
            names: dict[str, list[str]] = {}
            for name in os.listdir(place) if place.is_dir() else ():
                names.setdefault(unicodedata.normalize("NFC", name), []).append(name)
            self._names[place] = names
        return self._names[place]

    def _outside(self) -> ImageError:
        return ImageError("outside_folder", "images outside the document's folder are not read; copy it there")
