"""The image files in a data file's folder and two folders below, by their names: data may name them without a folder."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .formats import OwnDataError

_DEPTH = 2
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class ImageFolders:
    """
    The image files of a folder.

    Args:
        folder (`str`): The folder.
        places (`dict[str, tuple[str, ...]]`): By a file's name its places: paths from `folder`, sorted.
    """

    folder: str
    places: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, folder: str | Path) -> "ImageFolders":
        """What lies in a folder and two below; hidden folders are passed over."""
        places: dict[str, list[str]] = {}
        for path in _files(str(folder), _DEPTH):
            places.setdefault(os.path.basename(path), []).append(os.path.relpath(path, folder).replace(os.sep, "/"))
        return cls(str(folder), {name: tuple(sorted(paths)) for name, paths in sorted(places.items())})

    def find(self, path: str) -> str:
        """
        The place of an image: the path itself, or where no such file lies in the folder and it is a mere name, that of the file
        of this name in a folder below.

        Args:
            path (`str`): A path from `folder`.

        Raises:
            OwnDataError: Several folders below have a file of this name. The message goes on from the article's name.
        """
        found = self.places.get(path, ())
        if not found or path in found:
            return path
        if len(found) > 1:
            raise OwnDataError(
                f"the image {path!r} lies in several folders ({found[0]}, {found[1]}); give its path from {self.folder}."
            )
        return found[0]

    def by_stem(self) -> dict[str, str]:
        """The place of each file by its name without the ending; of several the first one, those nearest to the folder first."""
        stems: dict[str, str] = {}
        for path in sorted((path for paths in self.places.values() for path in paths), key=_nearest):
            stems.setdefault(os.path.splitext(os.path.basename(path))[0], path)
        return stems


def _nearest(path: str) -> tuple[int, str]:
    return path.count("/"), path


def _files(folder: str, depth: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if depth and not entry.name.startswith("."):
                    yield from _files(entry.path, depth - 1)
            elif entry.name.lower().endswith(_ENDINGS):
                yield entry.path
