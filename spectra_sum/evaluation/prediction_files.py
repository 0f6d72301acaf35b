"""Predictions as JSON lines: the format in which systems, ours or not, are compared."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.msmo.sources import image_counts


def write_predictions(path: Path, predictions: Sequence[dict[str, Any]], *, notes: Sequence[str] = ()) -> None:
    """Writes one JSON line per prediction; the file is replaced as a whole.

    Args:
        path (`Path`): The file.
        predictions: What is written.
        notes (`Sequence[str]`, *optional*): Remarks on all of them, which each line gets as `notes`: whoever reads
            the selections of a predictor that was not trained is to know it.
    """
    remarks = {"notes": list(notes)} if notes else {}
    lines = [json.dumps({**prediction, **remarks}, ensure_ascii=False) for prediction in predictions]
    write_text_atomically(path, "\n".join([*lines, ""]))


def read_predictions(path: Path, records: datasets.Dataset, *, selects: bool = True) -> list[dict[str, Any]]:
    """
    Reads predictions and checks them against the articles they belong to.

    A line is ``{"id": str, "summary": str, "selected": [int, …], "probabilities": [float, …]}``: the indices of the
    selected images, best first, and, if the system has them, a probability for each of the article's first images (null
    for one that it did not score). Lines may stand in any order; `notes`, a list of remarks, is kept, other keys are left
    out.

    Args:
        path (`Path`): The file.
        records (`Dataset`): The articles.
        selects (`bool`, *optional*, defaults to `True`): False: a line without `selected` selects no image.

    Returns:
        `list[dict]`: one prediction per record, in the records' order; `probabilities` is empty where there are none.

    Raises:
        ValueError: the first thing that is wrong, with file, line and fix.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: this is no UTF-8 text; write one JSON object per line.") from None
    images = dict(zip(records["id"], image_counts(records), strict=True))
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            prediction = _checked(line, place, images, selects)
            if prediction["id"] in found:
                raise ValueError(
                    f"{place}: the id {prediction['id']!r} stands in the file twice; keep one line per id."
                )
            found[prediction["id"]] = prediction
    if not found:
        raise ValueError(f"{path}: the file holds no predictions; write one JSON line per article.")
    missing = [name for name in images if name not in found]
    if missing:
        raise ValueError(
            f"{path}: {len(missing)} of {len(images)} articles have no prediction, {missing[0]!r} among them; add a "
            "line for each."
        )
    return [found[name] for name in images]


def _checked(line: str, place: str, images: dict[str, int], selects: bool) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: this is no JSON ({error}); write one JSON object per line.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{place}: this is no JSON object; write {{'id', 'summary', 'selected'}}.")
    if not selects:
        content.setdefault("selected", [])
    lacking = [name for name in ("id", "summary", "selected") if name not in content]
    if lacking:
        raise ValueError(f"{place}: the prediction has no {' and no '.join(map(repr, lacking))}; add it.")
    name, selected, probabilities = content["id"], content["selected"], content.get("probabilities")
    if not isinstance(name, str) or name not in images:
        raise ValueError(f"{place}: no article has the id {name!r}; are these predictions of another split?")
    if not isinstance(content["summary"], str):
        raise ValueError(f"{place}: the summary of {name!r} is no text.")
    if any("\ud800" <= character <= "\udfff" for character in content["summary"]):
        raise ValueError(f"{place}: the summary of {name!r} holds half a character (a lone surrogate); remove it.")
    count = images[name]
    if not isinstance(selected, list) or not all(type(index) is int for index in selected):
        raise ValueError(f"{place}: 'selected' of {name!r} is no list of image indices (whole numbers from 0).")
    outside = [index for index in selected if not 0 <= index < count]
    if outside:
        raise ValueError(
            f"{place}: image index {outside[0]} of {name!r} is out of range; the article has {count} images, counted "
            "from 0."
        )
    if len(set(selected)) < len(selected):
        raise ValueError(f"{place}: 'selected' of {name!r} names an image twice: {selected}.")
    if probabilities is None:
        probabilities = []
    if not isinstance(probabilities, list) or len(probabilities) > count:
        raise ValueError(f"{place}: 'probabilities' of {name!r} is no list of at most {count} numbers, one per image.")
    for value in probabilities:
        if value is not None and (type(value) not in (int, float) or not 0 <= value <= 1):
            raise ValueError(f"{place}: a probability of {name!r} is {value!r}; it must lie in [0, 1].")
    notes = content.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError(f"{place}: 'notes' of {name!r} is no list of texts.")
    found = {"id": name, "summary": content["summary"], "selected": selected, "probabilities": probabilities}
    return {**found, "notes": notes} if notes else found
