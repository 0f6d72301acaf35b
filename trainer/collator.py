"""Collator: records of an MSMO-like dataset → a training batch, with what the teacher and the negatives need."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from modeling_spectra import SpectraSumProcessor
from spectra_sum.msmo.closed_world import negative_key


def record_key(record: dict[str, Any]) -> int:
    """The int64 key under which an article's negatives are excluded: its visual facts, or else its id (§6)."""
    if record.get("facts"):
        return negative_key(record["facts"])
    return int.from_bytes(hashlib.sha256(record["id"].encode()).digest()[:8], "big", signed=True)


class SummarizationCollator:
    """Batches records with the columns id, title, article, summary (sentences), images, and optionally facts.

    Args:
        processor (`SpectraSumProcessor`): Makes the model's inputs and labels.
        max_length (`int`): Most text tokens of prompt and summary; the body is cut to fit.
        use_images (`bool`, *optional*, defaults to `True`): False withholds all images.
    """

    def __init__(self, processor: SpectraSumProcessor, max_length: int, use_images: bool = True):
        self.processor = processor
        self.max_length = max_length
        self.use_images = use_images

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Records → the processor's tensors with labels, `summary_sentences` (lists of str), `negative_keys` (B,) and
        `article_ids` (list of str).

        A batch without any image gets a blank one per article, masked: it changes no output, and the visual path runs in
        every process, which data-parallel training needs.
        """
        batch = self.processor(
            text=[record["article"] for record in records],
            title=[record["title"] for record in records],
            images=[record["images"] for record in records] if self.use_images else None,
            summary=[" ".join(record["summary"]) for record in records],
            max_length=self.max_length,
        )
        if self.use_images and "pixel_values" not in batch:
            blank = self.processor.image_processor([Image.new("RGB", (1, 1))], return_tensors="pt")["pixel_values"]
            batch["pixel_values"] = blank.new_zeros(len(records), 1, *blank.shape[1:])
            batch["image_mask"] = torch.zeros(len(records), 1, dtype=torch.bool)
        return {
            **batch,
            "summary_sentences": [list(record["summary"]) for record in records],
            "negative_keys": torch.tensor([record_key(record) for record in records]),
            "article_ids": [record["id"] for record in records],
        }
