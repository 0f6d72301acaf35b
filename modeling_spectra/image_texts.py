"""What is written about an article's images: caption lines of the prompt, and token ids for the relevance predictor."""

import re
from collections.abc import Callable, Sequence

import torch

# "Figure 3:", "Fig. 3.", "FIGURE 1.2", "Figure 2a –" at the beginning of a caption. Without a sign after it only a capital
# tells a label from a sentence ("Figure 3 shows the harbour").
_LABEL = re.compile(
    r"(?i:figure|fig\.?)\s*\d+(?:[.-]\d+)*[a-z]?(?:\s*[:.|)\u2013\u2014](?:\s+|$)|\s+-\s+|\s+(?=[^\W\d_a-z])|$)"
)


def caption_lines(captions: Sequence[str | None]) -> list[str]:
    """`"Figure N: caption"` for each image that has a caption; N is its place from 1, and a label of the caption's own goes."""
    numbered = enumerate((_without_label(one_line(caption or "")) for caption in captions), start=1)
    return [f"Figure {number}: {caption}" for number, caption in numbered if caption]


def image_text_tensors(
    texts: Sequence[Sequence[str]], encode: Callable[[str], list[int]], length: int, padding: int
) -> dict[str, torch.Tensor]:
    """The texts of B articles with N images at most → `image_text_ids` and `image_text_mask` (B, N, T); none without any text.

    Args:
        texts (`list[list[str]]`): Of each article one per image; an article may have none.
        encode (`Callable`): A text's token ids.
        length (`int`): Of a longer text the first tokens are taken, so many.
        padding (`int`): Token id of the rest.
    """
    ids = [[encode(text)[:length] if text else [] for text in row] for row in texts]
    images, width = max(map(len, ids), default=0), max((len(entry) for row in ids for entry in row), default=0)
    if not width:
        return {}
    values = torch.full((len(ids), images, width), padding)
    mask = torch.zeros(values.shape, dtype=torch.bool)
    for index, row in enumerate(ids):
        for image, entry in enumerate(row):
            values[index, image, : len(entry)] = torch.tensor(entry, dtype=values.dtype)
            mask[index, image, : len(entry)] = True
    return {"image_text_ids": values, "image_text_mask": mask}


def _without_label(caption: str) -> str:
    label = _LABEL.match(caption)
    return caption[label.end() :] if label else caption


def one_line(text: str) -> str:
    """The text with single spaces for all white space."""
    return " ".join(text.split())


__all__ = ["caption_lines", "image_text_tensors", "one_line"]
