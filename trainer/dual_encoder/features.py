"""What the frozen towers give of figures and their texts, computed once."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from spectra_sum.metrics.rgb_images import open_rgb
from spectra_sum.models.default_dual_encoder import ImageViews
from spectra_sum.models.efficientnet_lite import load_efficientnet_lite0
from spectra_sum.models.text_encoder import load_text_encoder
from trainer.dual_encoder.figures import Figure
from trainer.dual_encoder.shards import computed_once

IMAGES_AT_ONCE = 16


class FigureFeatures(NamedTuple):
    """
    Features of N figures and of their T texts.

    Attributes:
        images (`torch.Tensor` of shape `(N, d)`): Pooled maps.
        texts (`torch.Tensor` of shape `(T, e)`): Sentence embeddings.
        captions, alts (`list[int | None]` of length N): The row of each figure's text; `None` where it has none.
    """

    images: Tensor
    texts: Tensor
    captions: list[int | None]
    alts: list[int | None]

    def of(self, places: Sequence[int]) -> "FigureFeatures":
        """Those of the figures at these places, with all texts."""
        captions, alts = ([rows[place] for place in places] for rows in (self.captions, self.alts))
        return FigureFeatures(self.images[list(places)], self.texts, captions, alts)


def figure_features(figures: Sequence[Figure], views: ImageViews, folder: Path) -> FigureFeatures:
    """
    The features of figures, from `folder` as far as they are there.

    Args:
        figures (`Sequence[Figure]`): N of them.
        views (`ImageViews`): What is read of each image.
        folder (`Path`): Keeps the features.

    Raises:
        ModelError: A tower is needed, and its package is not installed.
    """
    images = image_features([figure.image for figure in figures], views, folder)
    texts = list(dict.fromkeys(text for figure in figures for text in (figure.caption, figure.alt) if text))
    rows = {text: row for row, text in enumerate(texts)}
    return FigureFeatures(
        images,
        text_features(texts, folder),
        [rows.get(figure.caption) for figure in figures],
        [rows.get(figure.alt) for figure in figures],
    )


def image_features(files: Sequence[Path], views: ImageViews, folder: Path) -> Tensor:
    """Pooled maps (N, d) of image files, as [`figure_features`] keeps them."""
    # Loaded when the first image needs it.
    tower = functools.cache(load_efficientnet_lite0)

    def compute(places: Sequence[int]) -> Tensor:
        parts = [places[start : start + IMAGES_AT_ONCE] for start in range(0, len(places), IMAGES_AT_ONCE)]
        return torch.cat([views.features(tower(), [open_rgb(files[place]) for place in part]) for part in parts])

    stamps = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return computed_once(folder, "images", stamps, views._asdict(), compute)


def text_features(texts: Sequence[str], folder: Path) -> Tensor:
    """Sentence embeddings (T, e), as [`figure_features`] keeps them."""
    encoder = functools.cache(load_text_encoder)

    def compute(places: Sequence[int]) -> Tensor:
        return encoder().embed([texts[place] for place in places])

    return computed_once(folder, "texts", texts, "all-MiniLM-L6-v2", compute)
