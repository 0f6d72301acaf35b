"""A checkout of an OpenStax repository: where its files are, and at which commit."""

import re
from pathlib import Path
from typing import NamedTuple

from spectra_sum.documents.parts import printable
from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo.layout import is_inside

COMMIT_DIGITS = 10
_FOLDERS = ("collections", "modules")


class OpenStaxError(SpectraSumError):
    """A checkout that cannot be read, or may not be. The message names the file."""


class Checkout(NamedTuple):
    """
    A checkout.

    Attributes:
        folder (`Path`): Its resolved folder.
        commit (`str`): The first `COMMIT_DIGITS` digits of its commit, or `""` where no `.git` tells it.
    """

    folder: Path
    commit: str

    @property
    def name(self) -> str:
        """The name of the repository without its `osbooks-`."""
        return self.folder.name.removeprefix("osbooks-")

    def shown(self, path: Path) -> str:
        """A path for messages: the checkout's name and what follows."""
        return printable(path.relative_to(self.folder.parent))

    def file(self, *parts: str) -> Path:
        """
        A file by its path in the checkout.

        Raises:
            OpenStaxError: It is missing, no file, or leads out of the checkout.
        """
        path = self.folder.joinpath(*parts)
        shown = printable(Path(self.folder.name, *parts))
        if not is_inside(path, self.folder):
            raise OpenStaxError(f"{shown}: this path leads out of the checkout; it is not read.")
        if not path.is_file():
            raise OpenStaxError(f"{shown}: there is no such file; is the checkout complete?")
        return path


def find_checkouts(path: Path) -> list[Checkout]:
    """
    The checkout in a folder, or those in its subfolders, by name.

    Raises:
        OpenStaxError: The folder does not exist, or there is no checkout of a book.
    """
    folder = path.resolve()
    if not folder.is_dir():
        raise OpenStaxError(f"{printable(path)}: there is no such folder; clone github.com/openstax/osbooks-… there.")
    inner = sorted(entry for entry in folder.iterdir() if _is_checkout(entry) and is_inside(entry, folder))
    found = [folder] if _is_checkout(folder) else inner
    if not found:
        raise OpenStaxError(
            f"{printable(path)}: there is no checkout of an OpenStax book, which has the folders {' and '.join(_FOLDERS)}."
        )
    return [Checkout(checkout, _commit(checkout)) for checkout in found]


def _is_checkout(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in _FOLDERS)


def _commit(folder: Path) -> str:
    """What HEAD names; read from the files, since `git` runs what a repository's own configuration names."""
    [head] = _git_lines(folder, "HEAD")[:1] or [""]
    if head.startswith("ref: "):
        name = head.removeprefix("ref: ")
        packed = [line.partition(" ")[0] for line in _git_lines(folder, "packed-refs") if line.endswith(f" {name}")]
        [head] = [*_git_lines(folder, name), *packed][:1] or [""]
    return head[:COMMIT_DIGITS] if re.fullmatch(r"[0-9a-f]{40,64}", head) else ""


def _git_lines(folder: Path, name: str) -> list[str]:
    path = folder / ".git" / name
    if not is_inside(path, folder) or not path.is_file():
        return []
    return [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
