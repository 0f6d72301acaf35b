"""The raw layout in which the MSMO dataset is distributed (Zhu et al., EMNLP 2018), read from a local copy.

{train,valid,test}_data/article/HASH.txt          sections @title, @body, @summary
{train,valid,test}_data/img/HASH_N.jpg            also .jpeg and .png
{train,valid,test}_data/caption/HASH_N.caption    also .txt
{train,valid,test}_data/alt/HASH_N.alt            alternative texts; not of MSMO itself, and the folder may be missing
{train,valid,test}_data/image_annotation.txt      a line per article, sorted by hash: gold image names, or None

Image names count without the case of their ending (.JPG is .jpg), and None in any case.
"""

import codecs
import hashlib
import itertools
import os
import re
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from PIL import Image, ImageOps

from spectra_sum.documents.local_images import COMMON_FORMATS
from spectra_sum.msmo.integrity import SplitIntegrity

SPLIT_FOLDERS = {"train": "train_data", "validation": "valid_data", "test": "test_data"}
FOLDERS = ("article", "img", "caption", "alt")
ANNOTATION_FILE = "image_annotation.txt"
VERIFY_CHOICES = ("header", "full")
# Pillow's own default, as a constant: a program may have set PIL.Image.MAX_IMAGE_PIXELS to None.
MAX_IMAGE_PIXELS = 89_478_485

_MARKER_AT_LINE_START = re.compile(r"^[ \t]*@(title|body|summary)(?!\S)", re.MULTILINE)
_MARKER_ANYWHERE = re.compile(r"(?<!\S)@(title|body|summary)(?!\S)")


class Article(NamedTuple):
    """An article file. `repeated` names each section that occurs again, `outside` is text before the first section."""

    title: str
    body: str
    summary: list[str]
    repeated: list[str]
    outside: str


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
        for place in (folder, *(folder / name for name in FOLDERS)):
            if not is_inside(place, root):
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
    for place in (folder, *(folder / name for name in FOLDERS)):
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


def _has_articles(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(".txt") for entry in entries)


def is_inside(path: str | Path, folder: Path) -> bool:
    """Whether a path, after all of its links, lies in `folder` or is that folder."""
    # Unlike Path.resolve, realpath does not raise on a link that leads to itself.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def place_name(folder: Path, *names: str) -> str:
    """A place as the report names it: relative to the dataset's root, of which `folder` is a split."""
    return "/".join((folder.name, *names))


def is_plain_name(name: str) -> bool:
    """Whether `name` can only mean a file directly in its folder: no separator of any system, no drive, no `..`."""
    return name not in ("", ".", "..") and PurePosixPath(name).name == PureWindowsPath(name).name == name


def read_text(path: str | Path, place: str, report: SplitIntegrity) -> str | None:
    """A UTF-8 file with unix line ends. Bad bytes become U+FFFD and are counted; `None` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        report.add("unreadable_file", place, str(error.strerror))
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report.add("undecodable_bytes", place, f"byte {error.start}")
        text = content.decode("utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path, place: str, report: SplitIntegrity) -> Iterator[str]:
    """
    The lines, one after another, of the text that [`read_text`] gives; an empty file has one, which is empty.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        start, is_sound = 0, True
        # No character of UTF-8 but a line feed has its byte: what is cut there decodes as the whole would.
        for content in itertools.chain([next(file, b"")], file):
            content = content.removeprefix(codecs.BOM_UTF8) if start == 0 else content
            try:
                text = content.decode()
            except UnicodeDecodeError as error:
                if is_sound:
                    report.add("undecodable_bytes", place, f"byte {start + error.start}")
                is_sound, text = False, content.decode(errors="replace")
            start += len(content)
            yield from text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


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


def image_damage(path: str | Path, verify: str = "header") -> str:
    """
    What is wrong with an image file, or `""`. `verify="header"` reads its header, `verify="full"` decodes its pixels.
    An image of more than `MAX_IMAGE_PIXELS` pixels, a decompression bomb, is broken under both.
    """
    try:
        with warnings.catch_warnings():
            # The limit below is the one that counts.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=COMMON_FORMATS) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    return f"{image.width} x {image.height} pixels, more than {MAX_IMAGE_PIXELS:,}"
                if verify == "full":
                    # What `datasets` does when a record is read.
                    image.load()
                    ImageOps.exif_transpose(image, in_place=True)
    except Image.UnidentifiedImageError:
        return f"no image in one of the formats {', '.join(COMMON_FORMATS)}"
    except Image.DecompressionBombError as error:
        return str(error)
    # What Pillow's decoders raise on damaged data.
    except (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error) as error:
        return str(error) or type(error).__name__
    return ""
