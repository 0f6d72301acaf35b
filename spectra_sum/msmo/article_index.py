"""The files of each article of a split, sorted in an index on disk: millions of names in memory that does not grow."""

import errno
import itertools
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from datasets.utils import tqdm

from spectra_sum.msmo.integrity import SplitIntegrity
from spectra_sum.msmo.layout import ANNOTATION_FILE, SPLIT_FOLDERS, is_inside, is_plain_name, place_name, read_lines

_IMAGE_NAME = re.compile(r"(?P<article>.+)_(?P<ending>[0-9]+\.(?:jpe?g|png))", re.IGNORECASE)
_CAPTION_NAME = re.compile(r"(?P<article>.+)_(?P<ending>[0-9]+\.(?:caption|txt))", re.IGNORECASE)
_ALT_NAME = re.compile(r"(?P<article>.+)_(?P<ending>[0-9]+\.alt)", re.IGNORECASE)
# The system's names are bytes; those that are no UTF-8 arrive with lone surrogates, which Arrow cannot store.
_NOT_UTF8 = re.compile("[\ud800-\udfff]")
# A work file of one process, made anew after a failure: it needs neither locks nor a journal. `cache_size` (8 MiB) also
# bounds what is sorted in memory.
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -8192;
CREATE TABLE article_found (name BLOB, readable INTEGER);
CREATE TABLE article (position INTEGER PRIMARY KEY, name BLOB UNIQUE, readable INTEGER);
CREATE TABLE found (article BLOB, ending TEXT);
CREATE TABLE img (position INTEGER, ending TEXT, PRIMARY KEY (position, ending)) WITHOUT ROWID;
CREATE TABLE caption (position INTEGER, ending TEXT, PRIMARY KEY (position, ending)) WITHOUT ROWID;
CREATE TABLE alt (position INTEGER, ending TEXT, PRIMARY KEY (position, ending)) WITHOUT ROWID;
CREATE TABLE gold (position INTEGER, ending TEXT, UNIQUE (position, ending));
CREATE TABLE files (position INTEGER PRIMARY KEY, article TEXT, endings TEXT, annotated INTEGER);
"""


# SQLite's errors that are the disk's.
DISK_ERRORS = {
    sqlite3.SQLITE_FULL: (
        errno.ENOSPC,
        "no space left for the index of a split, or in the temporary folder, where it is sorted",
    ),
    sqlite3.SQLITE_IOERR: (errno.EIO, "the index of a split cannot be written; is a quota or a limit reached?"),
    sqlite3.SQLITE_CANTOPEN: (errno.EACCES, "the index of a split cannot be made here"),
}


class ArticleFiles(NamedTuple):
    """
    The files of one article. An image, caption or alternative text is kept as the ending of its name after `HASH_`:
    `"3.jpg"`.

    Args:
        position (`int`): The article's place among the sorted hashes of its split, from 0.
        article (`str`): The hash.
        images (`tuple[str, ...]`): Endings, by number.
        captions, alt_texts (`tuple[str, ...]`): Endings, one per image; empty where there is no such file.
        gold (`tuple[str, ...]`): Endings of the gold images, each one of `images`.
        annotated (`bool`): Whether the annotation has a line for the article; a line may say None.
    """

    position: int
    article: str
    images: tuple[str, ...]
    captions: tuple[str, ...]
    alt_texts: tuple[str, ...]
    gold: tuple[str, ...]
    annotated: bool


def index_split(folder: Path, report: SplitIntegrity, path: Path) -> int:
    """
    Writes the index of a split, for [`read_index`]; the damage of names and annotation goes to `report`.

    Args:
        folder (`Path`): The split's folder.
        report (`SplitIntegrity`): Its total `articles` becomes the number of article files, readable or not.
        path (`Path`): The file to write, of about 0.1 kB for each image, caption and alternative text; an older one is replaced.

    Returns:
        `int`: The number of articles that may be read.

    Raises:
        OSError: A folder cannot be listed, or the index cannot be written.
    """
    path.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?nolock=1", uri=True)) as index:
            index.executescript(_TABLES)
            _index_articles(index, folder, report)
            _index_endings(index, folder, "img", _IMAGE_NAME, "image_without_article", report)
            _index_endings(index, folder, "caption", _CAPTION_NAME, "caption_without_article", report)
            # What only some copies have is not missing in the others.
            if (folder / "alt").is_dir():
                _index_endings(index, folder, "alt", _ALT_NAME, "alt_text_without_article", report)
            lines = _index_annotation(index, folder, report)
            index.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", _join_files(index, folder, lines, report))
            index.commit()
            return index.execute("SELECT count(*) FROM files").fetchone()[0]
    except sqlite3.OperationalError as error:
        # Extended codes have the kind in their last byte.
        kind = error.sqlite_errorcode & 0xFF
        if kind not in DISK_ERRORS:
            raise
        number, what = DISK_ERRORS[kind]
        raise OSError(number, f"{what} ({error})", str(path)) from error


def read_index(path: str | Path, start: int, stop: int) -> Iterator[ArticleFiles]:
    """The articles at the positions `start` to `stop` (exclusive) of an index that [`index_split`] wrote, in order."""
    with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as index:
        rows = index.execute(
            "SELECT * FROM files WHERE position >= ? AND position < ? ORDER BY position", (start, stop)
        )
        for position, article, endings, annotated in rows:
            images, captions, alt_texts, gold = map(tuple, json.loads(endings))
            yield ArticleFiles(position, article, images, captions, alt_texts, gold, bool(annotated))


def _number(ending: str) -> int:
    return int(ending.partition(".")[0])


def _key(name: str) -> bytes:
    # Bytes that sort as the strings do, undecodable names included.
    return name.encode("utf-8", "surrogatepass")


def _scan(folder: Path, report: SplitIntegrity) -> Iterator[tuple[str, bool]]:
    """The names of a folder's files, each with whether it may be read; entries of other kinds are counted."""
    if not folder.is_dir():
        report.add("missing_folder", place_name(folder.parent, folder.name))
        return
    with os.scandir(folder) as entries:
        for entry in tqdm(entries, desc=f"Indexing {place_name(folder.parent, folder.name)}", unit=" files", delay=5):
            is_link = entry.is_symlink()
            problem = ""
            if _NOT_UTF8.search(entry.name):
                problem = "the name is not UTF-8"
            elif is_link and not is_inside(entry.path, folder):
                problem = "a link that leads out of the folder"
            if problem:
                report.add("unsafe_name", place_name(folder.parent, folder.name, entry.name), problem)
                yield entry.name, False
            # DirEntry.is_file costs no stat for plain files, but raises on a link that leads to itself.
            elif entry.name.startswith(".") or not (os.path.isfile(entry.path) if is_link else entry.is_file()):
                report.add("unknown_file", place_name(folder.parent, folder.name, entry.name))
            else:
                yield entry.name, True


def _index_articles(index: sqlite3.Connection, folder: Path, report: SplitIntegrity) -> None:
    def found() -> Iterator[tuple[bytes, bool]]:
        for name, is_safe in _scan(folder / "article", report):
            stem, extension = os.path.splitext(name)
            if extension == ".txt":
                yield _key(stem), is_safe
            elif is_safe:
                report.add("unknown_file", place_name(folder, "article", name))

    index.executemany("INSERT INTO article_found VALUES (?, ?)", found())
    # The lines of the annotation count every article file, readable or not.
    rows = enumerate(index.execute("SELECT name, readable FROM article_found ORDER BY name"))
    index.executemany("INSERT INTO article VALUES (?, ?, ?)", ((position, *row) for position, row in rows))
    report.totals["articles"] = _number_of_articles(index)


def _number_of_articles(index: sqlite3.Connection) -> int:
    return index.execute("SELECT count(*) FROM article").fetchone()[0]


def _index_endings(
    index: sqlite3.Connection, folder: Path, kind: str, pattern: re.Pattern[str], orphan: str, report: SplitIntegrity
) -> None:
    """Fills the table `kind` with the endings of each article, and counts files without one as `orphan`."""

    def found() -> Iterator[tuple[bytes, str]]:
        for name, is_safe in _scan(folder / kind, report):
            match = pattern.fullmatch(name)
            if not is_safe:
                continue
            if match is None:
                report.add("unknown_file", place_name(folder, kind, name))
            else:
                yield _key(match["article"]), match["ending"]

    index.execute("DELETE FROM found")
    index.executemany("INSERT INTO found VALUES (?, ?)", found())
    orphans = index.execute(
        "SELECT found.article, ending FROM found LEFT JOIN article ON name = found.article "
        "WHERE position IS NULL ORDER BY found.rowid"
    )
    for article, ending in orphans:
        report.add(orphan, place_name(folder, kind, f"{article.decode()}_{ending}"))
    index.execute(
        f"INSERT INTO {kind} SELECT position, ending FROM found CROSS JOIN article ON name = found.article "
        "ORDER BY position, ending"
    )


def _index_annotation(index: sqlite3.Connection, folder: Path, report: SplitIntegrity) -> int:
    """Fills the table of gold images, and returns to how many articles, from the first, a line belongs."""
    path, place = folder / ANNOTATION_FILE, place_name(folder, ANNOTATION_FILE)
    if not is_inside(path, folder):
        report.add("unsafe_name", place, "a link that leads out of the folder")
        return 0
    if not path.is_file():
        if folder.name == SPLIT_FOLDERS["test"]:
            report.add("annotation_missing", place)
        return 0
    articles, findings = _number_of_articles(index), SplitIntegrity()
    count = blank = 0
    try:
        for line in read_lines(path, place, findings):
            # Blank lines beyond the last article are lines only if there is another one after them.
            if count >= articles and not line.strip():
                blank += 1
                continue
            for content in (*itertools.repeat("", blank), line):
                _index_line(index, count, content, articles, place, findings)
                count += 1
            blank = 0
    except OSError as error:
        index.execute("DELETE FROM gold")
        report.add("unreadable_file", place, str(error.strerror))
        return 0
    if count < articles:
        detail = f"{count} lines for {articles} articles"
        findings.add("annotation_lines_missing", place, detail, articles - count)
    report.merge(findings)
    return count


def _index_line(
    index: sqlite3.Connection, position: int, line: str, articles: int, place: str, report: SplitIntegrity
) -> None:
    where = f"{place}, line {position + 1}"
    if position >= articles:
        report.add("annotation_lines_extra", where)
    names = [name for name in re.split(r"[\s,;]+", line) if name]
    if not names:
        report.add("annotation_blank_line", where)
    elif [name.lower() for name in names] == ["none"]:
        return
    for name in names:
        match = _IMAGE_NAME.fullmatch(name)
        image = (
            match
            and index.execute(
                # Copies that went through Windows have .JPG in one place and .jpg in the other.
                "SELECT position, ending FROM article JOIN img USING (position) "
                "WHERE name = ?1 AND lower(ending) = lower(?2) ORDER BY ending = ?2 DESC, ending",
                (_key(match["article"]), match["ending"]),
            ).fetchone()
        )
        if not is_plain_name(name):
            report.add("unsafe_name", where, name)
        elif image is None:
            report.add("gold_image_missing", where, name)
        else:
            # The name carries the article's hash: it holds where a lost or added line shifts all that follow.
            if image[0] != position:
                report.add("gold_out_of_order", where, name)
            if not index.execute("INSERT OR IGNORE INTO gold VALUES (?, ?)", image).rowcount:
                report.add("gold_repeated", where, name)


def _join_files(
    index: sqlite3.Connection, folder: Path, lines: int, report: SplitIntegrity
) -> Iterator[tuple[int, str, str, bool]]:
    """The rows of the table `files`: the articles that may be read, by position."""

    def endings(table: str) -> list[str]:
        # Gold images stay in the order of their line, the others come sorted.
        order = "rowid" if table == "gold" else "ending"
        found = index.execute(f"SELECT ending FROM {table} WHERE position = ? ORDER BY {order}", (position,))
        return [ending for (ending,) in found]

    def texts_of(table: str, kind: str) -> list[str]:
        """The file of each image in a folder of texts, empty where there is none."""
        found: dict[int, str] = {}
        # .caption comes before .txt
        for ending in endings(table):
            number = _number(ending)
            if number not in numbers:
                report.add(f"{kind}_without_image", place_name(folder, table, f"{article}_{ending}"))
            elif number in found:
                report.add(f"{kind}_repeated", place_name(folder, table, f"{article}_{ending}"))
            else:
                found[number] = ending
        return [found.get(_number(ending), "") for ending in images]

    for position, key, is_safe in index.execute("SELECT position, name, readable FROM article ORDER BY position"):
        article = key.decode("utf-8", "surrogatepass")
        images = sorted(endings("img"), key=lambda ending: (_number(ending), ending))
        numbers = {_number(ending) for ending in images}
        skipped = max(numbers, default=-1) - min(numbers, default=0) + 1 - len(numbers)
        if skipped:
            report.add("missing_image", place_name(folder, "img", article), f"{skipped} numbers skipped", skipped)
        captions = texts_of("caption", "caption")
        alt_texts = texts_of("alt", "alt_text")
        if is_safe:
            gold = endings("gold")
            yield position, article, json.dumps([images, captions, alt_texts, gold]), position < lines or bool(gold)
