"""A contact sheet: pairs with their answers in one picture, to be looked at."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from spectra_sum.documents.parts import printable
from spectra_sum.linked_pairs.image_files import LinkedPairsError

PAIRS = 12
COLUMNS = 3
THUMBNAIL = 240
_MARGIN, _GAP, _LINE = 16, 4, 24
_FONT_SIZE = 14


def check_sheet(path: Path, *, overwrite: bool) -> None:
    """
    Checks, before any work, that the sheet can be written.

    Raises:
        LinkedPairsError: It is no `.png`, its folder is missing, or it is there and not to be replaced.
    """
    shown = printable(path)
    if path.suffix.lower() != ".png":
        raise LinkedPairsError(f"--sheet {shown}: the sheet is a PNG; name a file that ends with .png.")
    if not path.absolute().parent.is_dir():
        raise LinkedPairsError(f"--sheet {shown}: there is no folder {printable(path.parent)}; make it first.")
    if path.is_dir() or (path.exists() and not overwrite):
        raise LinkedPairsError(f"--sheet {shown}: it is there; name another file, or replace it with --overwrite.")


def spread(total: int) -> list[int]:
    """The places of at most `PAIRS` of `total` pairs, from the first to the last at equal distances."""
    count = min(PAIRS, total)
    return [number * (total - 1) // max(1, count - 1) for number in range(count)]


def draw_sheet(folder: Path, records: Sequence[dict[str, Any]]) -> Image.Image:
    """
    Pairs of a result beside each other, `COLUMNS` in a row, each over its answer.

    Args:
        folder (`Path`): The folder of the result.
        records (`Sequence[dict[str, Any]]`): The pairs, as `pairs.jsonl` has them.
    """
    rows = -(-len(records) // COLUMNS)
    width, height = 2 * THUMBNAIL + _GAP + _MARGIN, THUMBNAIL + _LINE + _MARGIN
    sheet = Image.new("RGB", (_MARGIN + COLUMNS * width, _MARGIN + rows * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for place, record in enumerate(records):
        x, y = _MARGIN + place % COLUMNS * width, _MARGIN + place // COLUMNS * height
        for number, image in enumerate(record["images"]):
            with Image.open(folder / image["file"]) as picture:
                small = picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
            sheet.paste(small, (x + number * (THUMBNAIL + _GAP), y))
        text = _fitting(f"{record['id']}: {record['answer']}", font, width - _MARGIN)
        draw.text((x, y + THUMBNAIL + _GAP), text, fill="black", font=font)
    return sheet


def write_sheet(path: Path, sheet: Image.Image) -> None:
    """Writes the sheet as PNG, the whole file or none."""
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
