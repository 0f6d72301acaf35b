"""Writes a batch: the form for raters, the table for a crowd platform, and the key that stays with the researcher."""

import base64
import csv
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..atomic_write import write_text_atomically
from .items import Batch, Item
from .questions import ANSWER_COLUMNS, QUESTIONS, RATING_LABELS

FORM_FILE, ITEMS_FILE, KEY_FILE, IMAGE_FOLDER = "form.html", "items.csv", "key.json", "images"
_FOLDER = Path(__file__).parent


def write_batch(folder: Path, batch: Batch, settings: Mapping[str, Any]) -> int:
    """
    Writes `form.html`, `items.csv`, `images/` and `key.json` into a folder.

    Args:
        folder (`Path`): An existing folder; files of the same names are replaced.
        batch (`Batch`): The items.
        settings (`Mapping[str, Any]`): How the batch was made; stored in the key.

    Returns:
        The number of cells of `items.csv` that got an apostrophe in front; see [`items_csv`].
    """
    (folder / IMAGE_FOLDER).mkdir(exist_ok=True)
    for item in batch.items:
        for name, image in zip(_image_names(item), item.images, strict=True):
            (folder / name).write_bytes(image.content)
    table, guarded = items_csv(batch)
    write_text_atomically(folder / ITEMS_FILE, table)
    write_text_atomically(folder / KEY_FILE, json.dumps(key(batch, settings), ensure_ascii=False, indent=1) + "\n")
    write_text_atomically(folder / FORM_FILE, form(batch))
    return guarded


def form(batch: Batch) -> str:
    """The self-contained page on which a rater answers; it names no system, no article id and no attention check."""
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("form.css", "form.js"))
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("form.html.j2").render(
        batch=batch.id,
        items=batch.items,
        questions=QUESTIONS,
        ratings=RATING_LABELS,
        columns=ANSWER_COLUMNS,
        style=style,
        style_hash=_policy_hash(style),
        script=script,
        script_hash=_policy_hash(script),
    )


def items_csv(batch: Batch) -> tuple[str, int]:
    """
    The items as CSV for a crowd platform: item_id, title, article, summary, image_1, … (file names relative to the
    table's folder; empty where an item has fewer images).

    A spreadsheet would run a text that begins with `=`, `+`, `-` or `@` (or their full-width forms) as a formula: such a
    cell gets an apostrophe in front, as OWASP advises. The apostrophe is part of the cell, and a platform shows it.

    Returns:
        The table (CRLF line ends, RFC 4180) and the number of cells with an apostrophe.
    """
    guarded = 0

    def safe(text: str) -> str:
        nonlocal guarded
        if text.lstrip()[:1] in tuple("=+-@＝＋－＠"):
            guarded += 1
            return f"'{text}"
        return text

    columns = max((len(item.images) for item in batch.items), default=0)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(["item_id", "title", "article", "summary", *(f"image_{n}" for n in range(1, columns + 1))])
    for item in batch.items:
        names = _image_names(item)
        texts = [safe(text) for text in (item.title, item.article, item.summary)]
        writer.writerow([item.id, *texts, *names, *[""] * (columns - len(names))])
    return buffer.getvalue(), guarded


def key(batch: Batch, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `analyse` needs to know about each item; raters must not see it."""
    return {
        "batch": batch.id,
        "settings": dict(settings),
        "items": {
            item.id: {
                "system": item.system,
                "article_id": item.article_id,
                "attention_check": item.expected is not None,
                "expected": item.expected,
            }
            for item in batch.items
        },
    }


def _image_names(item: Item) -> list[str]:
    return [f"{IMAGE_FOLDER}/{item.id}-{n}{image.suffix}" for n, image in enumerate(item.images, start=1)]


def _policy_hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
