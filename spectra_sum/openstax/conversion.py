"""Checkouts of OpenStax books to a folder in the MSMO layout."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from spectra_sum.atomic_write import check_output, whole_folder
from spectra_sum.documents.parts import printable
from spectra_sum.openstax.checkout import OpenStaxError, find_checkouts
from spectra_sum.openstax.collection import Book, read_books
from spectra_sum.openstax.counts import Counts
from spectra_sum.openstax.reading import read_sections
from spectra_sum.openstax.splits import assign_splits
from spectra_sum.openstax.writing import OUTPUT_NAMES, write_splits


class Conversion(NamedTuple):
    """What was written: the books, what was kept and left out, and the number of sections by split."""

    books: list[Book]
    counts: Counts
    splits: Counter[str]


def find_books(checkouts: Sequence[Path], wanted: Sequence[str] = ()) -> list[Book]:
    """
    The books of checkouts, their licences checked.

    Args:
        checkouts (`Sequence[Path]`): Their folders, or folders of checkouts.
        wanted (`Sequence[str]`, *optional*): Names or slugs of the books to read. Defaults to all.

    Raises:
        OpenStaxError: A checkout is none, or not under CC BY; a wanted book is in none; two books have one name.
    """
    books = [book for path in checkouts for checkout in find_checkouts(path) for book in read_books(checkout, wanted)]
    found = {name for book in books for name in (book.name, book.slug)}
    missing = [name for name in wanted if name not in found]
    if missing:
        raise OpenStaxError(
            f"--books {printable(missing[0])}: no checkout has this book; leave --books out to read all."
        )
    places: dict[str, Path] = {}
    for book in books:
        place = places.setdefault(book.name, book.checkout.folder)
        if place != book.checkout.folder:
            raise OpenStaxError(
                f"{printable(book.checkout.folder)}: it has the book {book.name}, which {printable(place)} has, too; name one."
            )
    return books


def convert(
    checkouts: Sequence[Path], output: Path, *, wanted: Sequence[str] = (), overwrite: bool = False
) -> Conversion:
    """
    Reads books and writes their sections in the MSMO layout, with `alt/` and `sources.tsv`.

    Args:
        checkouts (`Sequence[Path]`): The folders of the checkouts, or folders of checkouts.
        output (`Path`): The folder to write: new or empty, or with `overwrite` an earlier result.
        wanted (`Sequence[str]`, *optional*): Names or slugs of the books to read. Defaults to all.
        overwrite (`bool`, *optional*, defaults to `False`): Whether an earlier result is replaced.

    Raises:
        SpectraSumError: A checkout or the output cannot be used, or no section has a summary.
    """
    check_output(output, OUTPUT_NAMES, overwrite=overwrite)
    books = find_books(checkouts, wanted)
    counts = Counts()
    total = sum(len(chapter.modules) for book in books for chapter in book.chapters)
    with whole_folder(output) as folder:
        images = folder / "images"
        images.mkdir()
        with tqdm(total=total, desc="modules", unit="module", disable=None) as bar:
            sections = list(
                read_sections(
                    books, lambda name, jpeg: (images / name).write_bytes(jpeg), counts, lambda: bar.update()
                )
            )
        if not sections:
            raise OpenStaxError(
                f"{', '.join(printable(path) for path in checkouts)}: no module has a summary at its end; "
                f"{'; '.join(counts.lines()[1:])}."
            )
        splits = assign_splits(sections)
        write_splits(folder, books, sections, splits, images)
        images.rmdir()
    return Conversion(books, counts, Counter(splits.values()))
