"""Instructions about images in the layouts that tasks read: SAM's annotations.json, and stories as VIST has them."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

QUESTION = "What do these two pictures share?"


def write_image(path: Path, colour: tuple[int, int, int]) -> None:
    """An image of one colour, by which tests know it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), colour).save(path)


def sam_records(count: int = 6) -> list[dict[str, Any]]:
    """Records as SAM's `annotations.json` has them; the instruction of every third one is empty."""
    return [
        {
            "id": 100 + number,
            "img_list": [f"{number}_b.png", f"{number}_a.png"],
            "instruction": QUESTION if number % 3 else "",
            "output": f"Both pictures show a red boat, number {number}.",
        }
        for number in range(count)
    ]


def write_sam(folder: Path, records: list[dict[str, Any]], images: str = "photos") -> Path:
    """`annotations.json`, and its images in the folder `images` beside it: (record, place, 9) is the colour of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(records):
        for place, name in enumerate(record.get("img_list", ())):
            write_image(folder / images / name, (number, place, 9))
    (folder / "annotations.json").write_text(json.dumps(records), encoding="utf-8")
    return folder / "annotations.json"


def annotation(story: object, place: object, **fields: object) -> list[dict[str, Any]]:
    """An annotation of VIST: its photo is `STORY PLACE` as one number."""
    photo = f"{story}{place}"
    return [
        {
            "story_id": story,
            "photo_flickr_id": photo,
            "worker_arranged_photo_order": place,
            "original_text": f"In picture {place} of story {story} we walk on.",
            "text": "in picture we walk on .",
            **fields,
        }
    ]


def write_vist(file: Path, annotations: list[Any], photos: dict[str, tuple[int, int, int]]) -> Path:
    """A file in the layout of VIST, and files of the named photos, given as paths from its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for name, colour in photos.items():
        write_image(file.parent / name, colour)
    content = {"images": [{"id": "1", "album_id": "2"}], "annotations": annotations, "albums": []}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file
