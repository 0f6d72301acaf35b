"""The documents that a command names, as files and as folders of them."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .msmo_article import is_msmo_split
from .parts import DocumentError, printable
from .reading import DOCUMENT_SUFFIXES, check_document

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif")


@dataclass
class FoundDocuments:
    """
    What was named.

    Attributes:
        ids (`dict[Path, str]`): The documents in order, with an id that no other has: the stem, else the path.
        failures (`list[str]`): What cannot be a document or be searched; each names the file and the fix.
        notes (`list[str]`): What a folder holds beside documents.
    """

    ids: dict[Path, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_documents(names: Sequence[str | Path], images: Sequence[str | Path] = ()) -> FoundDocuments:
    """
    Finds and checks documents without reading them.

    A folder gives all documents in it and in its subfolders, sorted by path. Left out are hidden files and folders,
    folders `NAME_files` beside a page `NAME.html` (what browsers save with it), links to folders, and links to files
    outside. Of a split in the MSMO layout it gives the articles. A document that is named twice counts once.

    Args:
        names (`Sequence[str | Path]`):
            Documents and folders.
        images (`Sequence[str | Path]`, *optional*, defaults to `()`):
            Images that are given with a text document.
    """
    found = FoundDocuments()
    paths: list[Path] = []
    for name in map(Path, names):
        if name.is_dir() and not images:
            inside, remarks = _in_folder(name, found.failures)
            if inside:
                found.notes += [f"{printable(name)}: {remark}" for remark in remarks]
            else:
                message = f"{printable(name)}: the folder holds no document ({', '.join(DOCUMENT_SUFFIXES)})"
                found.failures.append("; ".join([message, *remarks]) + ".")
            paths += inside
        else:
            paths.append(name)

    seen: set[str] = set()
    documents: list[Path] = []
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        try:
            check_document(path, images)
        except DocumentError as error:
            found.failures.append(str(error))
        else:
            documents.append(path)
    found.ids = _unique_ids(documents)
    return found


def _unique_ids(documents: Sequence[Path]) -> dict[Path, str]:
    """The stem where no other document has it as its stem or its path, else the path, numbered where names that are no
    Unicode look the same."""
    stems = Counter(printable(path.stem) for path in documents)
    paths = Counter(printable(path) for path in documents)
    ids: dict[Path, str] = {}
    taken: set[str] = set()
    for path in documents:
        stem, shown = printable(path.stem), printable(path)
        unique = stem if stems[stem] == 1 and not paths[stem] else shown
        number = 1
        while unique in taken or (number > 1 and (stems[unique] or paths[unique])):
            number += 1
            unique = f"{shown} ({number})"
        taken.add(unique)
        ids[path] = unique
    return ids


def _in_folder(folder: Path, failures: list[str]) -> tuple[list[Path], list[str]]:
    """The documents in a folder, sorted, and remarks on what else is in it; adds subfolders that cannot be searched to
    `failures`."""
    documents: list[Path] = []
    images, pages, splits = 0, 0, 0
    others: Counter[str] = Counter()
    links: list[str] = []
    root = Path(os.path.realpath(folder))

    def cannot_search(error: OSError) -> None:
        failures.append(
            f"{printable(error.filename)}: the folder cannot be searched ({error.strerror}); check its permissions."
        )

    for place, folders, files in os.walk(folder, onerror=cannot_search):
        saved = {f"{Path(name).stem}_files" for name in files if name.lower().endswith((".html", ".htm"))}
        kept = []
        for name in folders:
            if name.startswith("."):
                continue
            if os.path.islink(os.path.join(place, name)):
                links.append(os.path.join(place, name))
            elif name in saved:
                pages += 1
            else:
                kept.append(name)
        if is_msmo_split(kept):
            # Captions and the annotation may be .txt files, and are no documents.
            kept, files = ["article"], []
            splits += 1
        folders[:] = kept
        for name in files:
            path = Path(place, name)
            suffix = path.suffix.lower()
            if name.startswith("."):
                continue
            if suffix in DOCUMENT_SUFFIXES:
                if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                    links.append(str(path))
                else:
                    documents.append(path)
            elif suffix in _IMAGE_SUFFIXES:
                images += 1
            else:
                others[suffix or "no ending"] += 1

    remarks = []
    if links:
        shown = ", ".join(map(printable, sorted(links)))
        remarks.append(f"symbolic links to folders or out of it are not followed: {shown}")
    if others:
        counts = ", ".join(f"{count} {printable(suffix)}" for suffix, count in sorted(others.items()))
        remarks.append(f"files of other kinds are not read: {counts}")
    if pages:
        remarks.append(f"folders saved with a page are not searched for documents: {pages}")
    if splits:
        remarks.append(f"splits in the MSMO layout, of which the articles are read, with their images: {splits}")
    if images:
        remarks.append(f"image files are read where a document shows them: {images}")
    return sorted(documents), remarks
