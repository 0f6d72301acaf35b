"""Computing what the feature cache holds: the frozen towers and the teacher, article by article."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers.utils import logging

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor
from spectra_sum.records.article_images import UndecodedArticles, read_images
from spectra_sum.records.image_texts import COLUMNS as TEXT_COLUMNS
from spectra_sum.records.image_texts import image_texts as texts_of
from spectra_sum.sentences import reference_sentences
from trainer.checkpoints.graceful_stop import outlive_signals
from trainer.objectives.dpp_teacher import SummaryTeacher

logger = logging.get_logger(__name__)


def read_columns(records: Dataset, image_texts: bool) -> list[str]:
    """The columns that features are made of: id, summary and images, and with `image_texts` those of the images' texts."""
    texts = [name for name in TEXT_COLUMNS if image_texts and name in records.column_names]
    return ["id", "summary", "images", *texts]


class ImageBatches:
    """Collates articles into the pixels of their images, through the processor that training uses.

    Args:
        processor (`SpectraSumProcessor`): The model's own.
        keep_images (`bool`, *optional*, defaults to `False`): Also give the images themselves.
    """

    def __init__(self, processor: SpectraSumProcessor, keep_images: bool = False):
        self.processor = processor
        self.keep_images = keep_images

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Records with the columns id, summary and images → `pixel_values` and `image_mask` of the images that can be read,
        `broken_images` (B lists of [`BrokenImage`]), the summaries' sentences, the images' texts and, where they are kept,
        `images` (B lists of PIL images).
        """
        read = [read_images(record, self.processor.max_candidate_images) for record in records]
        batch = self.processor(text=[""] * len(records), images=[article.images for article in read])
        return {
            "broken_images": [article.broken for article in read],
            "pixel_values": batch.get("pixel_values"),
            "image_mask": batch.get("image_mask", torch.zeros(len(records), 0, dtype=torch.bool)),
            "summaries": [reference_sentences(record["summary"]) for record in records],
            "image_texts": [texts_of(record, article.indices) for record, article in zip(records, read, strict=True)],
            **({"images": [article.images for article in read]} if self.keep_images else {}),
        }


class FeatureExtractor:
    """Runs the frozen towers and the teacher as training would. Within a `with` block the towers are on `device`; the teacher
    is loaded when the first article asks for it, and both are let go at the end of the block.

    Args:
        model (`SpectraSumForConditionalGeneration`): Its towers are used, nothing else.
        processor (`SpectraSumProcessor`): The model's own.
        build_teacher (`Callable`, *optional*): Loads the teacher; without it there are neither sentence embeddings nor
            marginals.
        patches (`bool`): Also give the patches.
        device (`torch.device`): Where the towers run.
        autocast (`torch.dtype`, *optional*): Of the training's mixed precision, so that the features are the same.
        batch_size (`int`, *optional*, defaults to `8`): Articles at a time.
        num_workers (`int`, *optional*, defaults to `0`): Processes that decode images.
        image_texts (`bool`, *optional*, defaults to `False`): The teacher reads the images' texts.
        teacher_reads_images (`bool`, *optional*, defaults to `False`): It reads the images themselves.
    """

    def __init__(
        self,
        model: SpectraSumForConditionalGeneration,
        processor: SpectraSumProcessor,
        build_teacher: Callable[[], SummaryTeacher] | None,
        *,
        patches: bool,
        device: torch.device,
        autocast: torch.dtype | None = None,
        batch_size: int = 8,
        num_workers: int = 0,
        image_texts: bool = False,
        teacher_reads_images: bool = False,
    ):
        self.model = model
        self.collate = ImageBatches(processor, keep_images=teacher_reads_images)
        self.build_teacher = build_teacher
        self.patches = patches
        self.device = device
        self.autocast = autocast
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.image_texts = image_texts
        self.teacher: SummaryTeacher | None = None
        self.truncated_texts = 0
        self._before: list[tuple[torch.device, bool]] = []

    @property
    def towers(self) -> list[torch.nn.Module]:
        """The model's towers: one, or the vision tower and the embedding tower."""
        return [tower for tower in (self.model.vision_tower, self.model.embedding_tower) if tower is not None]

    def __enter__(self) -> "FeatureExtractor":
        self._before = [(next(tower.parameters()).device, tower.training) for tower in self.towers]
        for tower in self.towers:
            tower.to(self.device).eval()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for tower, (home, training) in zip(self.towers, self._before, strict=True):
            tower.to(home).train(training)
        if self.teacher is not None:
            self.truncated_texts = self.teacher.truncated_texts
        self.teacher = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.no_grad()
    def extract(self, records: Dataset) -> Iterator[list[dict[str, torch.Tensor]]]:
        """Per batch of articles a list of their features, on the CPU.

        Args:
            records (`Dataset`): With the columns of [`read_columns`].

        Yields:
            Per article `image_embeds` (n, d) and with a teacher `marginals` (n,), float64, and `sentence_embeds` (s, d); with
            `patches` also `patches` (n, P, d_v). n counts its images that can be read, s the sentences of its summary.
            `broken_indices` (x,) are the places of the others, which a warning names.
        """
        loader = DataLoader(
            UndecodedArticles(records.select_columns(read_columns(records, self.image_texts))),
            batch_size=self.batch_size,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            worker_init_fn=partial(outlive_signals, None),
        )
        enabled = self.autocast is not None
        for batch in loader:
            broken = batch["broken_images"]
            for image in (image for article in broken for image in article):
                logger.warning(str(image))
            with torch.autocast(self.device.type, dtype=self.autocast, enabled=enabled):
                features = self._extract_batch(batch)
            counts = batch["image_mask"].sum(1).tolist()
            sentences = features.pop("sentence_mask", torch.zeros(len(counts), 0)).sum(1).int().tolist()
            # Rows are real at their beginning, both of images and of sentences.
            yield [
                {
                    **{
                        name: values[row, : sentences[row] if name == "sentence_embeds" else count].cpu()
                        for name, values in features.items()
                    },
                    "broken_indices": torch.tensor([image.index for image in broken[row]], dtype=torch.int64),
                }
                for row, count in enumerate(counts)
            ]

    def _extract_batch(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        mask = batch["image_mask"].to(self.device)
        config, model = self.model.config, self.model
        if batch["pixel_values"] is None:
            features = {"image_embeds": torch.zeros(*mask.shape, config.image_embedding_size, device=self.device)}
            if self.patches:
                shape = (*mask.shape, config.num_patches, config.tower_grid.width)
                features["patches"] = torch.zeros(shape, dtype=model.vision_tower.dtype, device=self.device)
        else:
            pixel_values = batch["pixel_values"].to(self.device)
            if self.patches:
                patches, embeds = model.embed_images(pixel_values, mask)
                features = {"image_embeds": embeds, "patches": patches}
            else:
                features = {"image_embeds": model.pool_images(pixel_values, mask)}
        if self.build_teacher is not None:
            if self.teacher is None:
                self.teacher = self.build_teacher()
            image_embeds = features["image_embeds"]
            if self.teacher.reads_images:
                image_embeds = self.teacher.embed_images(batch["images"], mask)
            labels = self.teacher.label(image_embeds, mask, batch["summaries"], batch["image_texts"])
            features |= labels._asdict()
        return features
