"""Sections in the MSMO layout, with `alt/` and `sources.tsv`."""

from collections.abc import Sequence
from pathlib import Path

from spectra_sum.msmo.layout import ANNOTATION_FILE, FOLDERS, SPLIT_FOLDERS, parse_article
from spectra_sum.openstax.checkout import OpenStaxError
from spectra_sum.openstax.collection import Book
from spectra_sum.openstax.gold import gold_figures
from spectra_sum.openstax.section import Figure, Section

SOURCES_FILE = "sources.tsv"
# Not README.md: a folder's Markdown files are documents to summarize.
NOTICE_FILE = "NOTICE"
# What a run writes, and a later one may replace.
OUTPUT_NAMES = (*SPLIT_FOLDERS.values(), NOTICE_FILE)
_COLUMNS = ("image", "book", "commit", "module", "file", "credit")
_NOTICE = """Sections of the OpenStax books below in the layout of the MSMO dataset: body, figures, and the summary that the
authors wrote at the end of the section. © Rice University, OpenStax (https://openstax.org).
Changes: figures reduced to 384 pixels, JPEG; text without links, tables, exercises. Each figure's own credit and licence stand
in sources.tsv. The gold images of image_annotation.txt are weak labels: the captions nearest to the summary by ROUGE.

"""


def write_splits(
    folder: Path, books: Sequence[Book], sections: Sequence[Section], splits: dict[str, str], images: Path
) -> None:
    """
    Writes the layout.

    Args:
        folder (`Path`): An empty folder.
        books (`Sequence[Book]`): The books, for the notice.
        sections (`Sequence[Section]`): Their sections.
        splits (`dict[str, str]`): The split of each section, by its id.
        images (`Path`): The folder of the figures, named as in the layout; they are moved.

    Raises:
        OpenStaxError: The text of a section would be read as another one.
    """
    for split, name in SPLIT_FOLDERS.items():
        chosen = sorted(
            (section for section in sections if splits[section.id] == split), key=lambda section: section.id
        )
        if chosen:
            for inner in FOLDERS:
                (folder / name / inner).mkdir(parents=True)
            _write_split(folder / name, chosen, images)
    lines = [
        f"{book.title} ({book.name}, commit {book.checkout.commit or 'unknown'}): {book.licence}, {book.address}\n"
        for book in books
    ]
    _write(folder / NOTICE_FILE, _NOTICE + "".join(lines))


def _write_split(folder: Path, sections: Sequence[Section], images: Path) -> None:
    gold, rows = [], ["\t".join(_COLUMNS)]
    for section in sections:
        _write(folder / "article" / f"{section.id}.txt", _article(section))
        names = [f"{section.id}_{number}" for number in range(len(section.figures))]
        for name, figure in zip(names, section.figures, strict=True):
            (images / f"{name}.jpg").rename(folder / "img" / f"{name}.jpg")
            for inner, text in (("caption", figure.caption), ("alt", figure.alt)):
                if text:
                    _write(folder / inner / f"{name}.{inner}", f"{text}\n")
            rows.append("\t".join((f"{name}.jpg", *_source(section, figure))))
        best = gold_figures([figure.caption or figure.alt for figure in section.figures], "\n".join(section.summary))
        gold.append(" ".join(f"{names[place]}.jpg" for place in best) or "None")
    _write(folder / ANNOTATION_FILE, "".join(f"{line}\n" for line in gold))
    _write(folder / SOURCES_FILE, "".join(f"{row}\n" for row in rows))


def _source(section: Section, figure: Figure) -> tuple[str, ...]:
    return section.book, section.commit, section.module, figure.file, figure.credit


def _article(section: Section) -> str:
    body, summary = "\n\n".join(section.body), "\n".join(section.summary)
    text = f"@title\n{section.title}\n\n@body\n{body}\n\n@summary\n{summary}\n"
    read = parse_article(text)
    if (read.title, read.body, read.summary) != (section.title, body, section.summary):
        raise OpenStaxError(
            f"{section.book}/{section.module}: a paragraph begins with @title, @body or @summary, as sections of the MSMO layout "
            "do; mend it in the module."
        )
    return text


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
