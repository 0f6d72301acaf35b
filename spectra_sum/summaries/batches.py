"""Many documents in batches of a like length, with their summaries in the order in which the documents came."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from ..documents.parts import Document, DocumentError
from .document_summary import DocumentSummary

# Batches whose documents, images included, are in memory at a time.
WINDOW = 4


class SummarizesBatches(Protocol):
    """What is needed of a [`~spectra_sum.summaries.summarizer.Summarizer`]."""

    def summarize_batch(self, documents: list[Document]) -> list[DocumentSummary | DocumentError]: ...


@dataclass
class Entry:
    """
    A document on its way.

    Attributes:
        path (`Path`): Its file.
        document (`Document`, *optional*): The document; `None` where it could not be read.
        result (`DocumentSummary` or `DocumentError`, *optional*): Its summary, or why there is none; `None`: not yet made.
        known (`bool`): Whether the result was there before this run.
    """

    path: Path
    document: Document | None
    result: DocumentSummary | DocumentError | None = None
    known: bool = False


def summarize_in_batches(
    entries: Iterable[Entry], summarizer: SummarizesBatches, batch_size: int = 1
) -> Iterator[Entry]:
    """
    Makes the results of entries that have none. The documents of a window of four batches are sorted by length, the longest
    first, so that little is padded.

    Args:
        entries (`Iterable[Entry]`): Read as they are needed.
        summarizer (`Summarizer`): Writes the summaries.
        batch_size (`int`, *optional*, defaults to `1`): Documents that are written at once.

    Yields:
        The entries with their results, in order, each as soon as those before it are done. When a batch is interrupted
        (`KeyboardInterrupt`), those that are done already, and then the interrupt.
    """
    source = iter(entries)
    # One by one there is nothing to sort.
    size = batch_size if batch_size == 1 else WINDOW * batch_size
    while window := deque(islice(source, size)):
        left = [entry for entry in window if entry.result is None]
        if batch_size > 1:
            left.sort(key=lambda entry: -len(entry.document.body))
        for start in range(0, len(left), batch_size):
            batch = left[start : start + batch_size]
            try:
                results = summarizer.summarize_batch([entry.document for entry in batch])
            except KeyboardInterrupt:
                yield from (entry for entry in window if entry.result is not None)
                raise
            for entry, result in zip(batch, results, strict=True):
                entry.result = result
            while window and window[0].result is not None:
                yield window.popleft()
        yield from window
