"""Stories over photos in the layout of VIST (Huang et al., NAACL 2016): a JSON file of sentences, and photos in files beside it.

{"images": [{"id", …}], "annotations": [[{"story_id", "photo_flickr_id", "worker_arranged_photo_order", "original_text"}], …]}

Each annotation is one sentence of a story, about one photo; `original_text` may be missing where there is a `text`, its words in
lower case. A photo is a file ID.jpg (or .png, …) in the file's folder or up to two folders below.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from .formats import OwnDataError
from .image_folders import ImageFolders

STORY, PHOTO, PLACE, TEXTS = "story_id", "photo_flickr_id", "worker_arranged_photo_order", ("original_text", "text")
COLUMNS = {"id": STORY, "summary": TEXTS[0], "images": PHOTO}
"""The record's columns of the rows that [`read_stories`] gives."""


class Stories(NamedTuple):
    """Stories as rows of the columns in `COLUMNS`, and remarks on what was left out."""

    rows: datasets.Dataset
    notes: tuple[str, ...]


class _Sentence(NamedTuple):
    place: int
    photo: str
    text: str


def story_content(file: Path) -> dict[str, Any] | None:
    """The content of a JSON file in the layout of VIST; None for any other file, which is read as what it is."""
    try:
        with open(file, encoding="utf-8-sig") as lines:
            if not lines.read(4096).lstrip().startswith("{"):
                return None
            lines.seek(0)
            content = json.loads(lines.read().lstrip("\ufeff"))
    except (ValueError, RecursionError):
        # JSON lines, or damaged: whoever reads it says what is wrong.
        return None
    wanted = ("images", "annotations")
    return content if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in wanted) else None


def read_stories(file: Path, content: Mapping[str, Any], folders: ImageFolders) -> Stories:
    """
    The stories of a file, each with its photos and sentences in order. One that lacks a photo's file, or has two photos at one
    place, is left out and counted.

    Args:
        file (`Path`): The file, for messages.
        content (`dict`): Of [`story_content`].
        folders (`ImageFolders`): What lies in its folder.

    Raises:
        OwnDataError: An annotation lacks something, or no story is left.
    """
    stories: dict[str, list[_Sentence]] = defaultdict(list)
    for number, annotation in enumerate(content["annotations"], start=1):
        for entry in annotation if isinstance(annotation, list) else [annotation]:
            story, sentence = _sentence(entry, f"{file}: annotation {number}")
            stories[story].append(sentence)
    if not stories:
        raise OwnDataError(f"{file}: it holds no stories; its annotations are empty.")
    files = folders.by_stem()
    rows, lacking, doubled = [], [], []
    for story, sentences in stories.items():
        sentences.sort(key=lambda sentence: sentence.place)
        missing = [sentence.photo for sentence in sentences if sentence.photo not in files]
        if missing:
            lacking.append((story, missing[0]))
        elif len({sentence.place for sentence in sentences}) < len(sentences):
            doubled.append(story)
        else:
            photos = [files[sentence.photo] for sentence in sentences]
            rows.append({STORY: story, PHOTO: photos, TEXTS[0]: [sentence.text for sentence in sentences]})
    notes = []
    if lacking:
        story, photo = lacking[0]
        notes.append(
            f"{file}: {len(lacking)} of {len(stories)} stories lack a photo and are left out: there is no {photo}.jpg (or .png, "
            f"…) of story {story} in its folder or in the folders there"
        )
    if doubled:
        notes.append(
            f"{file}: {len(doubled)} of {len(stories)} stories have two photos at one place and are left out, {doubled[0]} "
            "among them"
        )
    if not rows:
        raise OwnDataError(f"{'; '.join(notes)}: no story is left; put the photos there.")
    text = datasets.Value("string")
    features = datasets.Features({STORY: text, PHOTO: datasets.List(text), TEXTS[0]: datasets.List(text)})
    return Stories(datasets.Dataset.from_list(rows, features), tuple(notes))


def _sentence(entry: Any, where: str) -> tuple[str, _Sentence]:
    if not isinstance(entry, Mapping):
        raise OwnDataError(f"{where} is a {type(entry).__name__}; it must be an object, or a list of one.")
    named = {}
    for key in (STORY, PHOTO):
        value = entry.get(key)
        if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
            raise OwnDataError(f"{where} has no {key!r} (a text or number); pass a file of stories in VIST's layout.")
        named[key] = str(value).strip()
    place = entry.get(PLACE)
    if isinstance(place, bool) or not (
        isinstance(place, int) or (isinstance(place, str) and place.strip().isdecimal())
    ):
        raise OwnDataError(
            f"{where}: {PLACE!r} is {place!r}; it must be the photo's place in the story, a whole number."
        )
    text = next((entry[key] for key in TEXTS if isinstance(entry.get(key), str) and entry[key].strip()), None)
    if text is None:
        raise OwnDataError(f"{where} has no {TEXTS[0]!r} and no {TEXTS[1]!r}; give the sentence.")
    return named[STORY], _Sentence(int(place), named[PHOTO], " ".join(text.split()))
