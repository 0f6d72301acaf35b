"""A stand-in for the default dual encoder: every text and every picture has a unit vector of its own."""

import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

# No tower of the tests has so wide an image embedding.
WIDTH = 7
# Words that it reads of a text.
LENGTH = 12


class StandInEncoder:
    """As a [`DefaultDualEncoder`] is called; `images` counts those that it embedded."""

    def __init__(self):
        self.images = 0

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return _unit_rows([text.encode() for text in texts])

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        self.images += len(images)
        return _unit_rows([image.tobytes() for image in images])

    def count_cut(self, texts: Sequence[str]) -> int:
        return sum(len(text.split()) > LENGTH for text in texts)


def _unit_rows(contents: Sequence[bytes]) -> np.ndarray:
    rows = [np.random.default_rng(zlib.crc32(content)).normal(size=WIDTH) for content in contents]
    return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32).reshape(-1, WIDTH)
