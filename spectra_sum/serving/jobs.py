"""A request on its way through the queue and the writing thread."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..documents.parts import Document, DocumentError
from ..summaries.document_summary import DocumentSummary
from ..summaries.options import SummaryOptions
from ..summaries.watching.watcher import Watcher


class SummarizesWatched(Protocol):
    """What is needed of a [`~spectra_sum.summaries.summarizer.Summarizer`]."""

    options: SummaryOptions

    def summarize_batch(
        self, documents: list[Document], watchers: list[Watcher]
    ) -> list[DocumentSummary | DocumentError]: ...


class Timings(NamedTuple):
    """Seconds that a request waited in the queue, that its batch took, and from its arrival to its summary."""

    queued: float
    summarized: float
    total: float


@dataclass
class Finished:
    """
    What became of a job.

    Attributes:
        result (`DocumentSummary` or `Exception`): The summary, or why there is none; errors other than `DocumentError` are
            the server's fault.
        timings (`Timings`): How long it took.
    """

    result: DocumentSummary | Exception
    timings: Timings


class JobWatcher(Watcher):
    """
    Stops a row from another thread, and hands the row's text on.

    Args:
        deliver (`Callable[[str, str], None]`, *optional*): Takes `"text"` or `"standing"` and the piece, in the writing
            thread; without it no text is followed.
    """

    def __init__(self, deliver: Callable[[str, str], None] | None = None):
        self.follows_text = deliver is not None
        self.delivered = False
        self._deliver = deliver
        self._stop = threading.Event()

    def text(self, piece: str) -> None:
        """Hands it on."""
        self._hand_on("text", piece)

    def standing(self, piece: str) -> None:
        """Hands it on."""
        self._hand_on("standing", piece)

    def stop(self) -> None:
        """Ends the writing at its next token."""
        self._stop.set()

    def stopped(self) -> bool:
        """Whether [`stop`] was called."""
        return self._stop.is_set()

    def _hand_on(self, kind: str, piece: str) -> None:
        if self._deliver is not None and not self._stop.is_set():
            self.delivered = True
            self._deliver(kind, piece)


@dataclass(eq=False)
class Job:
    """
    A document that is to be summarized for a request.

    Args:
        document (`Document`): The document.
        summarizer (`SummarizesWatched`): Of the request's options.
        watcher (`JobWatcher`): Stops its writing.
        arrived (`float`): When the request came, by `time.monotonic`.
        finished (`asyncio.Future[Finished]`): Set when it is done; of the running loop by default.
    """

    document: Document
    summarizer: SummarizesWatched
    watcher: JobWatcher
    arrived: float
    finished: "asyncio.Future[Finished]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    queued: float = field(default_factory=time.monotonic)

    @property
    def options(self) -> SummaryOptions:
        """The options, with the model's defaults filled in: jobs of equal ones can share a batch."""
        return self.summarizer.options
