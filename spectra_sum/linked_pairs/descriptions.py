"""What an object is called in an answer: by `captions.json`, its `description.txt`, or the name of its folder."""

import json
from pathlib import Path

from spectra_sum.documents.parts import printable
from spectra_sum.linked_pairs.image_files import LinkedPairsError
from spectra_sum.msmo.layout import is_inside

CAPTIONS_FILE = "captions.json"
DESCRIPTION_FILE = "description.txt"
MAX_CHARACTERS = 1000
_ARTICLES = ("a", "an", "the", "some", "two", "three", "several")


def read_captions(root: Path) -> dict[str, str]:
    """
    The descriptions in a folder's `captions.json`, by group; empty where there is no such file.

    Args:
        root (`Path`): The resolved folder of the groups.

    Raises:
        LinkedPairsError: It is no JSON object of texts, or names a group that is not there.
    """
    path = root / CAPTIONS_FILE
    content = _text(path, root)
    if content is None:
        return {}
    place = f"{printable(root.name)}/{CAPTIONS_FILE}"
    try:
        captions = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise LinkedPairsError(f"{place}: it is no JSON ({error}); write one object of names and texts.") from None
    if not isinstance(captions, dict) or not all(isinstance(text, str) for text in captions.values()):
        raise LinkedPairsError(f'{place}: write one object of names and texts, as in {{"red_boat": "a red boat"}}.')
    missing = sorted(name for name in captions if "/" in name or "\0" in name or not (root / name).is_dir())
    if missing:
        raise LinkedPairsError(f"{place}: it names {printable(missing[0])}, of which there is no folder; remove it.")
    return {name: _line(text, f"{place}: {printable(name)}") for name, text in captions.items()}


def describe(folder: Path, root: Path, captions: dict[str, str]) -> str:
    """
    What the object of a group's folder is called.

    Args:
        folder (`Path`): The group's folder in `root`.
        root (`Path`): The resolved folder of the groups.
        captions (`dict[str, str]`): As [`read_captions`] gives them.

    Raises:
        LinkedPairsError: The description is empty or too long, or cannot be read.
    """
    if folder.name in captions:
        return captions[folder.name]
    content = _text(folder / DESCRIPTION_FILE, root)
    place = f"{printable(folder.name)}/{DESCRIPTION_FILE}"
    return named(folder.name) if content is None else _line(content, place)


def named(name: str) -> str:
    """A folder's name as a description: `red_boat` is `a red boat`."""
    words = printable(name).replace("_", " ").replace("-", " ").split()
    if not words or words[0].lower() in _ARTICLES:
        return " ".join(words) or printable(name)
    article = "an" if words[0][0].lower() in "aeiou" else "a"
    return " ".join([article, *words])


def _text(path: Path, root: Path) -> str | None:
    place = f"{printable(path.relative_to(root.parent).as_posix())}"
    if not is_inside(path, root):
        raise LinkedPairsError(f"{place}: this link leads out of the folder; put the file itself there.")
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LinkedPairsError(f"{place}: it is not in UTF-8 (byte {error.start}); save it as UTF-8.") from None


def _line(text: str, place: str) -> str:
    line = printable(" ".join(text.split())).removesuffix(".")
    if not line or len(line) > MAX_CHARACTERS:
        raise LinkedPairsError(
            f"{place}: a description has 1 to {MAX_CHARACTERS:,} characters, this one {len(line):,}."
        )
    return line
