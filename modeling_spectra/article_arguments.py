"""What a call of the processor is given of each article, checked: texts, images and captions."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from .image_texts import one_line


def texts_of(name: str, values: Any, count: int | None, optional: bool = False) -> list[str | None]:
    """The checked entries of an argument, of which there are `count`, if that is known yet."""
    values = [values] if isinstance(values, str) and count in (None, 1) else values
    if isinstance(values, str) or not isinstance(values, Sequence) or count not in (None, len(values)):
        length = f" with one entry per article ({count})" if count is not None else ""
        raise ValueError(f"{name} must be a string, or a list of strings{length}.")
    if not len(values):
        raise ValueError(f"{name} is an empty list; pass at least one article.")
    for index, value in enumerate(values):
        if not (isinstance(value, str) or (optional and value is None)):
            raise ValueError(f"article {index}: its {name} must be a string, not {type(value).__name__}.")
    return list(values)


def image_rows(images: Any, count: int, single: bool) -> list[list[Any]]:
    """Each article's images."""
    if images is None:
        return [[] for _ in range(count)]
    if single and not (_is_list(images) and len(images) == 1 and _is_list(images[0])):
        images = [images]
    if not _is_list(images) or len(images) != count:
        given = f" of {len(images)}" if _is_list(images) else ""
        raise ValueError(
            f"images must be a list with one entry per article ({count}), each a list of images, an image or None, not "
            f"{type(images).__name__}{given}."
        )
    rows = []
    for index, row in enumerate(images):
        if isinstance(row, str | os.PathLike | Image.Image | np.ndarray | torch.Tensor):
            stacked = isinstance(row, np.ndarray | torch.Tensor) and row.ndim == 4
            row = list(row) if stacked else [row]
        elif row is None:
            row = []
        elif not _is_list(row):
            raise ValueError(
                f"article {index}: its images must be a list, an image or None, not {type(row).__name__}."
            )
        rows.append(list(row))
    return rows


def caption_rows(captions: Any, counts: Sequence[int], single: bool) -> list[list[str]]:
    """The captions of each article, checked: a row has one entry per image, or none at all.

    Args:
        captions: As [`SpectraSumProcessor.__call__`] takes them.
        counts (`Sequence[int]`): Images of each article; an article without images may have any number of captions.
        single (`bool`): It is one article, whose captions may stand alone.

    Raises:
        ValueError: for captions of another kind or number; the message names the article.
    """
    if captions is None:
        return [[] for _ in counts]
    if single and isinstance(captions, str):
        captions = [captions]
    if single and _is_list(captions) and not (len(captions) == 1 and _is_list(captions[0])):
        captions = [captions]
    if not _is_list(captions) or len(captions) != len(counts):
        raise ValueError(
            f"captions must be a list with one entry per article ({len(counts)}), each a list of strings, one per image, or "
            "None."
        )
    rows = []
    for index, (row, count) in enumerate(zip(captions, counts, strict=True)):
        row = () if row is None else row
        if not _is_list(row) or not all(isinstance(entry, str | None) for entry in row):
            raise ValueError(f'article {index}: its captions must be a list of strings, one per image, "" for none.')
        if row and count and len(row) != count:
            raise ValueError(
                f'article {index} has {count} images and {len(row)} captions: give one per image, "" for none.'
            )
        rows.append([one_line(entry or "") for entry in row])
    return rows


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


__all__ = ["caption_rows", "image_rows", "texts_of"]
