"""An article in the MSMO layout as a document: its sections, and its images, captions and alternative texts, which lie in
the folders beside that of the article."""

import os
import re
from pathlib import Path

from ..msmo.layout import is_inside, parse_article
from .local_images import ImageError, check_side, open_local_image
from .parts import Document, DocumentImage, Problem, printable

# Names are tried and not listed: a folder of MSMO holds millions of images, an article some dozens.
MAX_NUMBER = 999
IMAGE_ENDINGS = ("jpg", "jpeg", "png")
CAPTION_ENDINGS = ("caption", "txt")
ALT_ENDINGS = ("alt",)

_OPENING = re.compile(r"\s*@(?:title|body)\s")


def is_msmo_article(text: str) -> bool:
    """Whether a text opens with a section of an article in the MSMO layout."""
    return _OPENING.match(text) is not None


def is_msmo_split(folders: list[str]) -> bool:
    """Whether a folder with these subfolders is a split in the MSMO layout."""
    return {"article", "img"} <= set(folders)


def read_msmo_article(path: Path, text: str, *, with_images: bool) -> Document:
    """
    Reads an article `article/HASH.txt`. Its body's paragraphs are as the file has them.

    Args:
        path (`Path`): The file.
        text (`str`): What is in it.
        with_images (`bool`): Also read `img/HASH_N.jpg` (or `.jpeg`, `.png`) with `caption/HASH_N.caption` (or `.txt`) and
            `alt/HASH_N.alt`, N from 0 to `MAX_NUMBER`, where the article lies in such a folder. A link that leads out of the
            split is not followed. What cannot be read stands in `problems`.
    """
    article = parse_article(text)
    document = Document(path.stem, printable(path), article.title or path.stem, article.body)
    document.reference = "\n".join(map(printable, article.summary)) or None
    split = Path(os.path.abspath(path)).parent.parent
    if with_images and path.absolute().parent.name == "article" and (split / "img").is_dir():
        for number in range(MAX_NUMBER + 1):
            name = f"{path.stem}_{number}"
            file = _find(split / "img", name, IMAGE_ENDINGS)
            if file is not None:
                _add_image(file, split, name, document)
    return document


def _add_image(file: Path, split: Path, name: str, document: Document) -> None:
    try:
        if not is_inside(file, split):
            raise ImageError("outside_folder", "it is a link that leads out of the split")
        image = open_local_image(file)
        check_side(*image.size)
    except ImageError as error:
        document.problems.append(Problem(error.kind, f"{printable(file.name)}: {error}"))
        return
    alt, caption = (
        _read_text(_find(split / kind, name, endings), split, document)
        for kind, endings in (("alt", ALT_ENDINGS), ("caption", CAPTION_ENDINGS))
    )
    document.images.append(DocumentImage(printable(file.name), alt, image, caption))


def _find(folder: Path, name: str, endings: tuple[str, ...]) -> Path | None:
    """The file of that name in a folder, also with its ending in capitals, as copies that went through Windows have it."""
    paths = (folder / f"{name}.{spelled}" for ending in endings for spelled in (ending, ending.upper()))
    return next((path for path in paths if path.is_file()), None)


def _read_text(path: Path | None, split: Path, document: Document) -> str:
    """A text on one line; empty where there is no file."""
    if path is None:
        return ""
    try:
        if not is_inside(path, split):
            raise OSError("it is a link that leads out of the split")
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        reason = error.strerror or error
        document.problems.append(Problem("image_text", f"{printable(path.name)}: it cannot be read ({reason})"))
        return ""
    return printable(" ".join(text.split()))
