"""Figures with their texts, from a dataset in the MSMO layout."""

import csv
from pathlib import Path
from typing import NamedTuple

from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo.layout import SPLIT_FOLDERS
from spectra_sum.own_data.loading import load_split

SOURCES_FILE = "sources.tsv"


class Figure(NamedTuple):
    """
    A figure of a section.

    Attributes:
        image (`Path`): Its file.
        section (`str`): The id of its article.
        book (`str`): Empty where the dataset does not name it.
        caption, alt (`str`): Its caption and its alternative text; empty where there is none.
    """

    image: Path
    section: str
    book: str
    caption: str
    alt: str


def read_figures(data: Path, split: str) -> list[Figure]:
    """
    The figures of a split, in the order of its sections.

    Args:
        data (`Path`): Folder in the MSMO layout; a file `sources.tsv` in a split's folder names each figure's book.
        split (`str`): `"train"`, `"validation"` or `"test"`.

    Raises:
        SpectraSumError: The folder cannot be read, or none of its figures has a text.
    """
    try:
        records = load_split(str(data), split)
    except (ValueError, OSError) as error:
        raise SpectraSumError(str(error)) from error
    books = _books(data / SPLIT_FOLDERS[split] / SOURCES_FILE)
    places = records.with_format("arrow")["images"]
    figures = []
    for record, images in zip(records.remove_columns("images"), places, strict=True):
        paths = [Path(image["path"].as_py()) for image in images]
        for path, caption, alt in zip(paths, record["captions"], record["alt_texts"], strict=True):
            figures.append(Figure(path, record["id"], books.get(path.name, ""), caption, alt))
    if not any(figure.caption or figure.alt for figure in figures):
        raise SpectraSumError(
            f"{data}: none of its {split} figures has a caption or an alternative text; add caption/ or alt/ (docs/data.md)."
        )
    return figures


def _books(file: Path) -> dict[str, str]:
    """The book of each image, by the image's name; nothing where there is no such file."""
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as lines:
        return {row["image"]: row["book"] for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)}
