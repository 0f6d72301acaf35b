"""Sets of articles to evaluate on, of any kind: each article counts once, in its set's order, in any number of processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch.utils.data import IterableDataset

from modeling_spectra import SpectraSumProcessor
from spectra_sum.errors import SpectraSumError
from spectra_sum.records.article_images import decoded, read_images
from spectra_sum.records.image_texts import captions_for
from trainer.collator import SummarizationCollator

# What the scores read of an article; the others are optional.
SCORED_COLUMNS = ("summary", "gold_images", "facts", "captions")


class Repetition(NamedTuple):
    """An article that fills the last batch of a process up, and does not count."""

    record: Mapping[str, Any]


class EvenShare(IterableDataset):
    """The articles of one process, of a set whose length nobody knows.

    The processes take turns batch by batch. Where the set ends in the middle of a turn, an article is repeated as a
    [`Repetition`], so that all processes have equally many batches of the same size: they gather their results together.

    Args:
        dataset (`IterableDataset`): Of torch or of `datasets`; all processes must read the same articles from it.
        batch_size (`int`): Articles of a process's batch.
        process_index, num_processes (`int`): Of this process, and of all.
    """

    def __init__(self, dataset: IterableDataset, batch_size: int, process_index: int, num_processes: int):
        self.dataset = dataset
        self.batch_size = batch_size
        self.process_index = process_index
        self.num_processes = num_processes

    def __iter__(self) -> Iterator[Mapping[str, Any] | Repetition]:
        records, first = iter(self.dataset), self.process_index * self.batch_size
        while turn := list(islice(records, self.batch_size * self.num_processes)):
            own = turn[first : first + self.batch_size]
            yield from own
            for _ in range(self.batch_size - len(own)):
                yield Repetition(turn[0])


class EvaluationCollator:
    """Batches articles as the training does, with what writing their summaries and scoring them needs beside it.

    Args:
        collate (`Callable`): The training's collator, for the losses of articles that have summaries.
        processor (`SpectraSumProcessor`): Makes the prompts.
        max_length (`int`): Most text tokens of a prompt.
        use_images (`bool`): False withholds all images.
        with_prompts (`bool`): False leaves the prompts out, for the losses alone.
    """

    def __init__(
        self,
        collate: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]],
        processor: SpectraSumProcessor,
        max_length: int,
        use_images: bool,
        with_prompts: bool,
    ):
        self.collate = collate
        self.processor = processor
        self.max_length = max_length
        self.use_images = use_images
        self.with_prompts = with_prompts

    def __call__(self, records: Sequence[Mapping[str, Any] | Repetition]) -> dict[str, Any]:
        """What B records become.

        Returns:
            `dict`: What the training's collator makes of them (without summaries, the prompts' `input_ids`), and beside it
            `prompts` (a dict of the processor's tensors), `places` (per article those of its images that could be read, and
            the fields of the [`BrokenImage`]s), `references` (per article its id and what it is scored against)
            and `repetitions` (`int`, how many articles at the batch's end do not count).

        Raises:
            SpectraSumError: Some articles have a summary and some have none.
        """
        repetitions = sum(isinstance(record, Repetition) for record in records)
        records = [record.record if isinstance(record, Repetition) else record for record in records]
        limit = self.processor.max_candidate_images
        reads_images = self.with_prompts and self.use_images
        if reads_images:
            records = [decoded(record, limit) for record in records]
        without = [record["id"] for record in records if record.get("summary") is None]
        if without and len(without) < len(records):
            raise SpectraSumError(
                f"article {without[0]} has no summary, and others of its set have one: give it one, or leave it out."
            )
        batch = {} if without else dict(self.collate(records))
        if self.with_prompts:
            read = [read_images(record, limit) for record in records] if reads_images else None
            prompts = self.processor(
                text=[record["article"] for record in records],
                title=[record["title"] for record in records],
                images=None if read is None else [article.images for article in read],
                captions=captions_for(self.processor, records, read),
                max_length=self.max_length,
            )
            batch = {"input_ids": prompts["input_ids"], **batch, "prompts": dict(prompts)}
            batch["places"] = [
                ([], []) if read is None else (read[row].indices, list(map(list, read[row].broken)))
                for row in range(len(records))
            ]
        batch["references"] = [
            {name: record[name] for name in ("id", *SCORED_COLUMNS) if record.get(name) is not None}
            for record in records
        ]
        batch["repetitions"] = repetitions
        return batch


def evaluated_columns(collate: Callable, with_images: bool, without_summaries: bool) -> set[str]:
    """What must be known of every article that is evaluated.

    Args:
        collate (`Callable`): The training's collator.
        with_images (`bool`): Summaries are written, and the images are not withheld.
        without_summaries (`bool`): The articles need no summaries.
    """
    columns = {"id", "title", "article", *(("images",) if with_images else ())}
    trained = isinstance(collate, SummarizationCollator)
    if trained and collate.processor.reads_captions:
        columns.add("captions")
    if not without_summaries:
        columns |= {"summary", *(collate.columns if trained else ())}
    return columns


def summary_tokens(labels: torch.Tensor) -> torch.Tensor:
    """The labels (B, T) of prompts with summaries → those of the summaries alone (B, S), −100 behind their ends."""
    counts = (labels != -100).sum(1)
    tokens = labels.new_full((len(labels), int(counts.max())), -100)
    tokens[torch.arange(tokens.shape[1], device=labels.device) < counts[:, None]] = labels[labels != -100]
    return tokens
