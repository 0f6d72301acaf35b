"""Writing a file or a folder so that a reader sees the old one or the whole new one."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from spectra_sum.errors import SpectraSumError


def write_text_atomically(path: str | Path, text: str) -> None:
    """Writes UTF-8 text beside `path` and renames it into place; on failure nothing is left behind."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_output(output: Path, names: Collection[str], *, overwrite: bool) -> None:
    """
    Checks, before any work, that the folder of `--output` can be written.

    Args:
        output (`Path`): The folder to write.
        names (`Collection[str]`): What a run of the command writes there.
        overwrite (`bool`): Whether an earlier result there is replaced.

    Raises:
        SpectraSumError: It is a file, cannot be made, or holds what is not replaced.
    """
    # With it Pillow comes, which a command's --help does not wait for.
    from spectra_sum.documents.parts import printable

    shown = printable(output)
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise SpectraSumError(f"--output {shown}: this is a file or a link; name a folder.")
    if not output.absolute().parent.is_dir():
        raise SpectraSumError(f"--output {shown}: there is no folder {printable(output.parent)}; make it first.")
    if not os.access(output.absolute().parent, os.W_OK):
        raise SpectraSumError(f"--output {shown}: the folder cannot be written; check the permissions.")
    there = sorted(os.listdir(output)) if output.exists() else []
    if there and not overwrite:
        raise SpectraSumError(
            f"--output {shown}: the folder is not empty; name a new one, or replace it with --overwrite."
        )
    others = [name for name in there if name not in names]
    if others:
        raise SpectraSumError(
            f"--output {shown}: it holds {printable(others[0])}, which no earlier run has written; --overwrite replaces only "
            "a folder of this command's."
        )


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A new folder beside `output`, which takes its place when the work is done; on failure nothing is left behind."""
    output = output.absolute()
    work = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    old = output.with_name(f".{output.name}.{os.getpid()}.old")
    work.mkdir()
    try:
        yield work
        if output.exists():
            output.rename(old)
        work.rename(output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if old.exists() and not output.exists():
            old.rename(output)
        shutil.rmtree(old, ignore_errors=True)
