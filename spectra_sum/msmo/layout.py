"""The raw layout in which the MSMO dataset is distributed (Zhu et al., EMNLP 2018), read from a local copy.

{train,valid,test}_data/article/HASH.txt          sections @title, @body, @summary
{train,valid,test}_data/img/HASH_N.jpg            also .jpeg and .png
{train,valid,test}_data/caption/HASH_N.caption    also .txt
{train,valid,test}_data/image_annotation.txt      a line per article, sorted by hash: gold image names, or None
"""

import hashlib
import os
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from PIL import Image, ImageOps

from spectra_sum.local_images import READABLE_FORMATS
from spectra_sum.msmo.integrity import SplitIntegrity

SPLIT_FOLDERS = {"train": "train_data", "validation": "valid_data", "test": "test_data"}
ANNOTATION_FILE = "image_annotation.txt"
VERIFY_CHOICES = ("header", "full")
# Pillow's own default, as a constant: a program may have set PIL.Image.MAX_IMAGE_PIXELS to None.
MAX_IMAGE_PIXELS = 89_478_485

_IMAGE_NAME = re.compile(r"(?P<article>.+)_(?P<ending>[0-9]+\.(?:jpe?g|png))", re.IGNORECASE)
_CAPTION_NAME = re.compile(r"(?P<article>.+)_(?P<ending>[0-9]+\.(?:caption|txt))", re.IGNORECASE)
# The system's names are bytes; those that are no UTF-8 arrive with lone surrogates, which Arrow cannot store.
_NOT_UTF8 = re.compile("[\ud800-\udfff]")
_MARKER_AT_LINE_START = re.compile(r"^[ \t]*@(title|body|summary)(?!\S)", re.MULTILINE)
_MARKER_ANYWHERE = re.compile(r"(?<!\S)@(title|body|summary)(?!\S)")


class Article(NamedTuple):
    """An article file. `repeated` names each section that occurs again, `outside` is text before the first section."""

    title: str
    body: str
    summary: list[str]
    repeated: list[str]
    outside: str


class ArticleFiles(NamedTuple):
    """
    The files of one article. To index millions of images in little memory, an image or caption is kept as the ending
    of its name after `HASH_`: `"3.jpg"`.

    Args:
        position (`int`): The article's place among the sorted hashes of its split, from 0.
        article (`str`): The hash.
        images (`tuple[str, ...]`): Endings, by number.
        captions (`tuple[str, ...]`): Endings, one per image; empty where there is no caption file.
        gold (`tuple[str, ...]`): Endings of the gold images, each one of `images`.
        annotated (`bool`): Whether the annotation has a line for the article; a line may say None.
    """

    position: int
    article: str
    images: tuple[str, ...]
    captions: tuple[str, ...]
    gold: tuple[str, ...]
    annotated: bool


def find_splits(root: Path, splits: Collection[str] | None = None) -> dict[str, Path]:
    """
    The split folders of a copy of the dataset, by split name, in the order train, validation, test.

    Args:
        root (`Path`): The resolved folder that holds `train_data`, `valid_data`, `test_data`.
        splits (`Collection[str]`, *optional*): The wanted splits; without it all that exist.

    Raises:
        ValueError: `splits` has an unknown name, or a folder is a link that leads out of `root`.
        FileNotFoundError: `root` is no copy of the dataset, a wanted split does not exist, or a split has no articles.
    """
    unknown = sorted(set(splits or ()) - set(SPLIT_FOLDERS))
    if unknown or (splits is not None and not splits):
        raise ValueError(f"splits must be some of {', '.join(SPLIT_FOLDERS)}, got {', '.join(unknown) or 'none'}")
    if not root.is_dir():
        raise FileNotFoundError(
            f"data_dir {root} is not a folder; pass the one that holds train_data, valid_data, test_data"
        )
    wanted = [split for split in SPLIT_FOLDERS if splits is None or split in splits]
    found = {split: root / SPLIT_FOLDERS[split] for split in wanted if (root / SPLIT_FOLDERS[split]).is_dir()}
    missing = [split for split in wanted if split not in found]
    if not found or (splits is not None and missing):
        looked_for = ", ".join(f"{SPLIT_FOLDERS[split]}/article/HASH.txt" for split in missing)
        raise FileNotFoundError(f"{root} is no copy of the MSMO dataset with these splits: looked for {looked_for}")
    for folder in found.values():
        for place in (folder, folder / "article", folder / "img", folder / "caption"):
            if not _is_inside(place, root):
                raise ValueError(f"{place} is a link that leads out of {root}; put the folder itself there")
        if not _has_articles(folder / "article"):
            raise FileNotFoundError(
                f"{folder} has no articles: looked for article/HASH.txt; complete or remove it, or choose other splits"
            )
    return found


def fingerprint_split(folder: Path) -> str:
    """
    A hash over the names, sizes and modification times of a split's files. It takes one `stat` per file: about a
    minute for the five million files of the full dataset on a local disk.
    """
    total = 0
    for place in (folder, folder / "article", folder / "img", folder / "caption"):
        if not place.is_dir():
            continue
        with os.scandir(place) as entries:
            for entry in entries:
                if place == folder and entry.name != ANNOTATION_FILE:
                    continue
                status = entry.stat(follow_symlinks=False)
                line = f"{place.name}/{entry.name}\n{status.st_size}\n{status.st_mtime_ns}"
                digest = hashlib.blake2b(line.encode("utf-8", "surrogateescape"), digest_size=16).digest()
                # A sum does not depend on the order of scandir, and needs no list of names.
                total = (total + int.from_bytes(digest)) % 2**128
    return f"{total:032x}"


def index_split(folder: Path, report: SplitIntegrity) -> list[ArticleFiles]:
    """The files of each article of a split, sorted by hash; the damage of names and annotation goes to `report`."""
    safe = {}
    for name, is_safe in _scan(folder / "article", report):
        stem, extension = os.path.splitext(name)
        if extension == ".txt":
            safe[stem] = is_safe
        elif is_safe:
            report.add("unknown_file", _place(folder, "article", name))
    # The lines of the annotation count every article file, readable or not.
    articles = sorted(safe)
    report.totals["articles"] = len(articles)
    images = _endings_by_article(folder, "img", _IMAGE_NAME, "image_without_article", articles, report)
    captions = _endings_by_article(folder, "caption", _CAPTION_NAME, "caption_without_article", articles, report)
    gold = _read_annotation(folder, articles, images, report)
    index = []
    for position, article in enumerate(articles):
        numbers = {_number(ending) for ending in images[article]}
        skipped = max(numbers, default=-1) - min(numbers, default=0) + 1 - len(numbers)
        if skipped:
            report.add("missing_image", _place(folder, "img", article), f"{skipped} numbers skipped", skipped)
        caption_of = {}
        # .caption comes before .txt
        for ending in sorted(captions[article]):
            number = _number(ending)
            if number not in numbers:
                report.add("caption_without_image", _place(folder, "caption", f"{article}_{ending}"))
            elif number in caption_of:
                report.add("caption_repeated", _place(folder, "caption", f"{article}_{ending}"))
            else:
                caption_of[number] = ending
        if safe[article]:
            image_endings = tuple(sorted(images[article], key=lambda ending: (_number(ending), ending)))
            caption_endings = tuple(caption_of.get(_number(ending), "") for ending in image_endings)
            gold_endings = tuple(gold.get(article, ()))
            index.append(
                ArticleFiles(position, article, image_endings, caption_endings, gold_endings, article in gold)
            )
    return index


def _has_articles(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(".txt") for entry in entries)


def _is_inside(path: str | Path, folder: Path) -> bool:
    # Unlike Path.resolve, realpath does not raise on a link that leads to itself.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _place(folder: Path, *names: str) -> str:
    return "/".join((folder.name, *names))


def _number(ending: str) -> int:
    return int(ending.partition(".")[0])


def _scan(folder: Path, report: SplitIntegrity) -> Iterator[tuple[str, bool]]:
    """The names of a folder's files, each with whether it may be read; entries of other kinds are counted."""
    if not folder.is_dir():
        report.add("missing_folder", _place(folder.parent, folder.name))
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            is_link = entry.is_symlink()
            problem = ""
            if _NOT_UTF8.search(entry.name):
                problem = "the name is not UTF-8"
            elif is_link and not _is_inside(entry.path, folder):
                problem = "a link that leads out of the folder"
            if problem:
                report.add("unsafe_name", _place(folder.parent, folder.name, entry.name), problem)
                yield entry.name, False
            # DirEntry.is_file costs no stat for plain files, but raises on a link that leads to itself.
            elif entry.name.startswith(".") or not (os.path.isfile(entry.path) if is_link else entry.is_file()):
                report.add("unknown_file", _place(folder.parent, folder.name, entry.name))
            else:
                yield entry.name, True


def _endings_by_article(
    folder: Path, kind: str, pattern: re.Pattern[str], orphan: str, articles: list[str], report: SplitIntegrity
) -> dict[str, list[str]]:
    endings: dict[str, list[str]] = {article: [] for article in articles}
    for name, is_safe in _scan(folder / kind, report):
        match = pattern.fullmatch(name)
        if not is_safe:
            continue
        if match is None:
            report.add("unknown_file", _place(folder, kind, name))
        elif match["article"] not in endings:
            report.add(orphan, _place(folder, kind, name))
        else:
            # Few endings are distinct: interned, the whole index costs a pointer per image.
            endings[match["article"]].append(sys.intern(match["ending"]))
    return endings


def _read_annotation(
    folder: Path, articles: list[str], images: dict[str, list[str]], report: SplitIntegrity
) -> dict[str, list[str]]:
    """The endings of the gold images of each article that has a line (or is named on another's line)."""
    path, place = folder / ANNOTATION_FILE, _place(folder, ANNOTATION_FILE)
    if not _is_inside(path, folder):
        report.add("unsafe_name", place, "a link that leads out of the folder")
        return {}
    if not path.is_file():
        if folder.name == SPLIT_FOLDERS["test"]:
            report.add("annotation_missing", place)
        return {}
    text = read_text(path, place, report)
    if text is None:
        return {}
    lines = text.removesuffix("\n").split("\n")
    while len(lines) > len(articles) and not lines[-1].strip():
        lines.pop()
    if len(lines) < len(articles):
        detail = f"{len(lines)} lines for {len(articles)} articles"
        report.add("annotation_lines_missing", place, detail, len(articles) - len(lines))
    gold: dict[str, list[str]] = {article: [] for article, _ in zip(articles, lines, strict=False)}
    for position, line in enumerate(lines):
        where = f"{place}, line {position + 1}"
        if position >= len(articles):
            report.add("annotation_lines_extra", where)
        names = [name for name in re.split(r"[\s,;]+", line) if name]
        if not names:
            report.add("annotation_blank_line", where)
        elif names == ["None"]:
            continue
        for name in names:
            match = _IMAGE_NAME.fullmatch(name)
            if not is_plain_name(name):
                report.add("unsafe_name", where, name)
            elif match is None or match["ending"] not in images.get(match["article"], ()):
                report.add("gold_image_missing", where, name)
            else:
                # The name carries the article's hash: it holds where a lost or added line shifts all that follow.
                if position >= len(articles) or articles[position] != match["article"]:
                    report.add("gold_out_of_order", where, name)
                endings = gold.setdefault(match["article"], [])
                if match["ending"] in endings:
                    report.add("gold_repeated", where, name)
                else:
                    endings.append(match["ending"])
    return gold


def is_plain_name(name: str) -> bool:
    """Whether `name` can only mean a file directly in its folder: no separator of any system, no drive, no `..`."""
    return name not in ("", ".", "..") and PurePosixPath(name).name == PureWindowsPath(name).name == name


def read_text(path: Path, place: str, report: SplitIntegrity) -> str | None:
    """A UTF-8 file with unix line ends. Bad bytes become U+FFFD and are counted; `None` if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        report.add("unreadable_file", place, str(error.strerror))
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report.add("undecodable_bytes", place, f"byte {error.start}")
        text = content.decode("utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_article(text: str) -> Article:
    """
    Splits an article file into its sections. A marker stands at the start of a line; only a file whose body or summary
    has no such marker is read as sections separated by spaces.

    The body's paragraphs are the blocks between blank lines, or the lines of a body without blank lines. The summary's
    sentences are its lines; a summary on one line stays one string.
    """
    pieces = _MARKER_AT_LINE_START.split(text)
    if not {"body", "summary"} <= set(pieces[1::2]):
        pieces = _MARKER_ANYWHERE.split(text)
    sections: dict[str, list[str]] = {"title": [], "body": [], "summary": []}
    for name, content in zip(pieces[1::2], pieces[2::2], strict=True):
        sections[name].append(content.strip())
    paragraphs = []
    for content in sections["body"]:
        blocks = re.split(r"\n\s*\n", content)
        paragraphs.extend(blocks if len(blocks) > 1 else content.split("\n"))
    return Article(
        title=" ".join(" ".join(sections["title"]).split()),
        body="\n\n".join(paragraph.strip() for paragraph in paragraphs if paragraph.strip()),
        summary=[line.strip() for line in "\n".join(sections["summary"]).split("\n") if line.strip()],
        repeated=[name for name, contents in sections.items() for _ in contents[1:]],
        outside=pieces[0].strip(),
    )


def image_damage(path: Path, verify: str = "header") -> str:
    """
    What is wrong with an image file, or `""`. `verify="header"` reads its header, `verify="full"` decodes its pixels.
    An image of more than `MAX_IMAGE_PIXELS` pixels, a decompression bomb, is broken under both.
    """
    try:
        with warnings.catch_warnings():
            # The limit below is the one that counts.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=READABLE_FORMATS) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    return f"{image.width} x {image.height} pixels, more than {MAX_IMAGE_PIXELS:,}"
                if verify == "full":
                    # What `datasets` does when a record is read.
                    image.load()
                    ImageOps.exif_transpose(image, in_place=True)
    except Image.UnidentifiedImageError:
        return f"no image in one of the formats {', '.join(READABLE_FORMATS)}"
    except Image.DecompressionBombError as error:
        return str(error)
    # What Pillow's decoders raise on damaged data.
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error) as error:
        return str(error) or type(error).__name__
    return ""
