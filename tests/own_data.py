"""A researcher's small collection of articles in every kind of data that is read, under column names of their own."""

import csv
import json
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

# The record's name → that of the data; each kind has others.
NAMES: dict[str, dict[str, str]] = {
    "jsonl": {
        "id": "nr",
        "title": "headline",
        "article": "story",
        "summary": "highlights",
        "images": "figures",
        "captions": "legends",
        "gold_images": "chosen",
    },
    "json": {"id": "uid", "article": "text", "summary": "abstract", "images": "img_list", "captions": "caption"},
    "csv": {"id": "doc_id", "title": "Title", "article": "Document", "summary": "Highlights", "images": "image_paths"},
    "parquet": {"id": "key", "article": "body", "summary": "tldr", "images": "pictures", "alt_texts": "alts"},
    "saved": {"id": "hash", "article": "content", "summary": "reference_summary", "images": "photos"},
    "imagefolder": {
        "id": "id",
        "article": "text",
        "summary": "summary",
        "images": "file_names",
        "captions": "captions",
    },
}
# Those of the names above that are no usual ones.
COLUMNS: dict[str, list[str]] = {
    "jsonl": ["id=nr", "text=story", "captions=legends", "gold_images=chosen"],
    "parquet": ["id=key"],
}
KINDS = list(NAMES)


def colour(article: int, image: int) -> tuple[int, int, int]:
    """The one colour of an image, by which tests know it again."""
    return 20 + 10 * article, 200 - 20 * image, 7 * article


def make_articles(count: int = 8) -> list[dict[str, Any]]:
    """Articles as records should hold them, but `images`: names of files. Article i has i % 3 images."""
    articles = []
    for number in range(count):
        images = [f"pictures/{number}_{image}.png" for image in range(number % 3)]
        articles.append(
            {
                # A table of numbers would lose the zeros.
                "id": f"00{number}",
                "title": f"Harbour {number} opens",
                "article": f"The harbour {number} opened again, said the town.\n\nIts {number + 2} ships left on Monday.",
                "summary": [f"Harbour {number} opened.", f"It has {number + 2} ships."],
                "images": images,
                "captions": [f"Ship {image}, in port; quay {number}" for image in range(len(images))],
                "alt_texts": [f"A ship number {image}" for image in range(len(images))],
                "gold_images": [len(images) - 1] if images else [],
            }
        )
    return articles


def write_images(folder: Path, articles: list[dict[str, Any]]) -> None:
    """The image files that the articles name."""
    for number, article in enumerate(articles):
        for image, name in enumerate(article["images"]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 10), colour(number, image)).save(folder / name)


def with_names(kind: str, articles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The articles under the column names of a kind, summaries as one text."""
    rows = [{**article, "summary": " ".join(article["summary"])} for article in articles]
    return [{theirs: row[ours] for ours, theirs in NAMES[kind].items()} for row in rows]


def write_data(kind: str, folder: Path, articles: list[dict[str, Any]], split: str = "") -> str:
    """
    Writes the articles as data of a kind.

    Args:
        kind (`str`): One of `KINDS`.
        folder (`Path`): Made if it is missing.
        articles (`list[dict]`): Of [`make_articles`].
        split (`str`, *optional*): The file's name tells it.

    Returns:
        What `--dataset` and `--data` take: the file, or the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_images(folder, articles)
    rows = with_names(kind, articles)
    file = folder / f"{split or 'stories'}.{kind}"
    if kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif kind == "json":
        file.write_text(json.dumps(rows), encoding="utf-8")
    elif kind == "csv":
        with open(file, "w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, list(NAMES[kind].values()))
            table.writeheader()
            table.writerows({**row, NAMES[kind]["images"]: ";".join(row[NAMES[kind]["images"]])} for row in rows)
    elif kind == "imagefolder":
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(folder)
    else:
        records = with_images(folder, rows, NAMES[kind]["images"])
        if kind == "saved":
            records.save_to_disk(folder / "saved")
            return str(folder / "saved")
        embedded = records.with_format("arrow").map(datasets.table.embed_table_storage, batched=True)
        embedded.with_format(None).to_parquet(file)
    return str(file)


def with_images(folder: Path, rows: list[dict[str, Any]], column: str) -> datasets.Dataset:
    """A dataset whose column of names has become one of images."""
    rows = [{**row, column: [str(folder / name) for name in row[column]]} for row in rows]
    return datasets.Dataset.from_list(rows).cast_column(column, datasets.List(datasets.Image()))
