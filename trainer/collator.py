"""Collator: records of an MSMO-like dataset → a training batch, with what the teacher and the negatives need."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from modeling_spectra import SpectraSumProcessor
from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo.closed_world import negative_key
from spectra_sum.records.article_images import BrokenImage, ReadImages, read_images
from spectra_sum.records.image_texts import captions_for, image_texts
from spectra_sum.sentences import reference_sentences
from trainer.features.cache import CachedFeatures
from trainer.features.shards import PER_IMAGE, id_key


def record_key(record: dict[str, Any]) -> int:
    """The int64 key under which an article's negatives are excluded: its visual facts, or else its id (§6)."""
    return negative_key(record["facts"]) if record.get("facts") else id_key(record["id"])


class SummarizationCollator:
    """Batches records with the columns id, title, article, summary (lines), images, and optionally facts.

    A processor that reads captions is given each image's caption, or else its alternative text: the columns captions and,
    optionally, alt_texts.

    Images may come undecoded, as [`UndecodedArticles`] gives them. A broken one is left out, also from the cached features.

    Args:
        processor (`SpectraSumProcessor`): Makes the model's inputs and labels.
        max_length (`int`): Most text tokens of prompt and summary; the body is cut to fit.
        use_images (`bool`, *optional*, defaults to `True`): False withholds all images.
        features (`CachedFeatures`, *optional*): Adds the cached features of the articles. With patches no image is decoded,
            and records need no images. With embeddings alone, all candidates are: which of them the summarizer sees is known
            only when the relevance predictor has ranked them.
        teacher_reads_texts (`bool`, *optional*, defaults to `False`): Adds the images' texts for a teacher with a `text_scale`.
        teacher_reads_images (`bool`, *optional*, defaults to `False`): Adds the images themselves for a teacher that
            `reads_images`, which features with patches do not go with.

    Raises:
        SpectraSumError: The teacher reads images, and none are decoded.
    """

    def __init__(
        self,
        processor: SpectraSumProcessor,
        max_length: int,
        use_images: bool = True,
        features: CachedFeatures | None = None,
        teacher_reads_texts: bool = False,
        teacher_reads_images: bool = False,
    ):
        if teacher_reads_images and (not use_images or (features is not None and features.patch_shape is not None)):
            raise SpectraSumError(
                "teacher_reads_images: no image is decoded without use_images or with cached patches; take the teacher's "
                "labels from the cache, too."
            )
        self.processor = processor
        self.max_length = max_length
        self.use_images = use_images
        self.features = features
        self.teacher_reads_texts = teacher_reads_texts
        self.teacher_reads_images = teacher_reads_images

    @property
    def columns(self) -> tuple[str, ...]:
        """What a record must have."""
        without = not self.use_images or (self.features is not None and self.features.patch_shape is not None)
        texts = ("captions",) if self.processor.reads_captions or self.teacher_reads_texts else ()
        return ("id", "title", "article", "summary", *(() if without else ("images",)), *texts)

    def __call__(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Records → the processor's tensors with labels, `summary_sentences` (lists of str, of [`reference_sentences`]),
        `negative_keys` (B,), `article_ids` (list of str) and `broken_images` (B lists of the fields of a [`BrokenImage`]);
        with cached features those of [`CachedFeatures.batch`], too, and where the teacher reads them `image_texts` (per article
        a list of str, one per image) and `teacher_images` (per article a list of PIL images).

        A batch without any image gets a blank one per article, masked: it changes no output, and the visual path runs in
        every process, which data-parallel training needs.

        Raises:
            SpectraSumError: A summary is no list of sentences.
            SpectraSumError: An article has other images than when its features were cached.
        """
        if texts := [record["id"] for record in records if isinstance(record["summary"], str)]:
            raise SpectraSumError(
                f"article {texts[0]}: its summary is one text, where the list of its sentences is needed."
            )
        cached, images, read = None, None, None
        broken: list[list[BrokenImage]] = [[] for _ in records]
        if self.features is not None:
            cached = [self.features.read(record["id"]) for record in records]
        if self.features is not None and self.features.patch_shape is not None:
            read = [_cached_places(article) for article in cached]
            images = self._placeholders([len(article["image_embeds"]) for article in cached])
        elif self.use_images:
            limit = self.processor.max_candidate_images
            read = [read_images(record, limit) for record in records]
            if cached is not None:
                pairs = [_common(record, *pair) for record, *pair in zip(records, read, cached, strict=True)]
                read, cached = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            images, broken = [article.images for article in read], [article.broken for article in read]
        captions = captions_for(self.processor, records, read)
        seen = captions
        if captions is not None and self.features is not None and self.features.patch_shape is not None:
            # The prompt has no images or as many as the summarizer sees; the texts of the others are the predictor's alone.
            seen = [texts[: self.processor.max_images] for texts in captions]
        batch = self.processor(
            text=[record["article"] for record in records],
            title=[record["title"] for record in records],
            images=images,
            summary=[" ".join(record["summary"]) for record in records],
            captions=seen,
            max_length=self.max_length,
        )
        if self.use_images and "pixel_values" not in batch:
            blank = self.processor.image_processor([Image.new("RGB", (1, 1))], return_tensors="pt")["pixel_values"]
            batch["pixel_values"] = blank.new_zeros(len(records), 1, *blank.shape[1:])
            batch["image_mask"] = torch.zeros(len(records), 1, dtype=torch.bool)
        if cached is not None:
            features = self.features.batch(cached)
            if "patches" in features:
                del batch["pixel_values"]
                if captions is not None:
                    batch.update(self.processor.image_texts(captions, features["image_mask"].shape[1]))
            batch.update(features)
        if self.teacher_reads_texts and read is not None:
            batch["image_texts"] = [
                image_texts(record, article.indices) for record, article in zip(records, read, strict=True)
            ]
        if self.teacher_reads_images:
            batch["teacher_images"] = images
        return {
            **batch,
            "summary_sentences": [reference_sentences(record["summary"]) for record in records],
            "negative_keys": torch.tensor([record_key(record) for record in records]),
            "article_ids": [record["id"] for record in records],
            # Not as named tuples, of which the Trainer would make others of a single field.
            "broken_images": [list(map(list, images)) for images in broken],
        }

    def _placeholders(self, counts: Sequence[int]) -> list[list[Image.Image]] | None:
        """Blank images, for the visual tokens in the prompt of `fusion="concat"`; the gated variants have none."""
        if not self.processor.num_image_tokens:
            return None
        blank = Image.new("RGB", (1, 1))
        return [[blank] * min(count, self.processor.max_images) for count in counts]


def _cached_places(article: dict[str, torch.Tensor]) -> ReadImages:
    """Which images of an article the cache has features of; takes `broken_indices` out of it."""
    lacking = set(article.pop("broken_indices", torch.zeros(0)).tolist())
    count = len(article["image_embeds"]) + len(lacking)
    return ReadImages([], [index for index in range(count) if index not in lacking], [])


def _common(
    record: dict[str, Any], read: ReadImages, cached: dict[str, torch.Tensor]
) -> tuple[ReadImages, dict[str, torch.Tensor]]:
    """An article's images and its cached features, both without the images that the other lacks."""
    lacking = set(cached.pop("broken_indices", torch.zeros(0)).tolist())
    count = len(cached["image_embeds"]) + len(lacking)
    if count != len(read.images) + len(read.broken):
        raise SpectraSumError(
            f"the article {record['id']} has other images than when the features were cached; start again, and the cache "
            "is mended."
        )
    if not read.broken and not lacking:
        return read, cached
    places = [index for index in range(count) if index not in lacking]
    kept = [index for index in read.indices if index not in lacking]
    rows = [places.index(index) for index in kept]
    cached = {name: values[:][rows] if name in PER_IMAGE else values for name, values in cached.items()}
    return ReadImages([read.images[read.indices.index(index)] for index in kept], kept, read.broken), cached
