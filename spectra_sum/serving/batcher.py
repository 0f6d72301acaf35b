"""Dynamic batching: requests of equal options that wait are written together, by one thread, the oldest first."""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from ..documents.parts import DocumentError
from ..summaries.document_summary import DocumentSummary
from ..summaries.options import SummaryOptions
from ..summaries.watching.watcher import WritingStopped
from .errors import ApiError
from .jobs import Finished, Job, Timings
from .log import log_error
from .metrics import Metrics
from .settings import Settings

# Of the running mean of a batch's time, the newest batch.
_NEWEST = 0.3
_LONGEST_RETRY = 600


class Batcher:
    """
    The queue and the one thread that writes.

    The options of the request that waits longest are next. With it go those behind it that have equal options, up to
    `max_batch`, and while there are fewer, it waits for `max_wait` seconds after its own arrival in the queue. Sampled
    requests are written alone, and so are extracts: they are made one after the other in a batch, too, and the first would
    wait for the last.

    Args:
        settings (`Settings`): Sizes and times.
        metrics (`Metrics`): Where they are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics):
        self._settings = settings
        self._metrics = metrics
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._reading = 0
        self._changed = asyncio.Event()
        self._batch_seconds: float | None = None
        self._stopped = False

    @contextmanager
    def place(self) -> Iterator[None]:
        """
        Holds a place of the queue while a request is read, so that what is in memory is bounded.

        Raises:
            ApiError: 429, all are taken.
        """
        if self._reading + len(self._waiting) >= self._settings.queue_size:
            raise ApiError(
                429,
                "Too many requests wait; try again later.",
                code="queue_full",
                # Its body is not read, so that the connection ends.
                headers={"Retry-After": str(self.retry_after()), "Connection": "close"},
            )
        self._reading += 1
        self._measure()
        try:
            yield
        finally:
            self._reading -= 1
            self._measure()

    def retry_after(self) -> int:
        """Seconds, at least 1, until those that wait now will have been written, by the time of the last batches."""
        counts = Counter(job.options for job in self._waiting)
        batches = sum(math.ceil(count / self._most(options)) for options, count in counts.items())
        # What those will ask for that are read now is not known yet.
        batches += math.ceil(self._reading / self._settings.max_batch) + bool(self._running)
        return max(1, min(math.ceil(batches * (self._batch_seconds or 1)), _LONGEST_RETRY))

    def submit(self, job: Job) -> None:
        """Puts a job at the queue's end."""
        if self._stopped:
            job.watcher.stop()
        self._waiting.append(job)
        self._measure()
        self._changed.set()

    def leave(self, job: Job, reason: str) -> None:
        """A job that nobody waits for any more leaves the queue, or ends at its next token; `reason` is counted."""
        job.watcher.stop()
        self._metrics.stopped.labels(reason).inc()
        if job in self._waiting:
            self._waiting.remove(job)
            self._measure()

    def stop_all(self) -> None:
        """Ends everything that is written at its next token, and all else before its first."""
        self._stopped = True
        for job in [*self._waiting, *self._running]:
            job.watcher.stop()

    async def work(self) -> None:
        """Writes batch after batch, until it is cancelled."""
        try:
            while True:
                batch = await self._next_batch()
                self._running = batch
                self._measure()
                await self._write(batch)
                self._running = []
                self._measure()
                # Nothing of theirs stays in memory while nobody asks.
                del batch
        finally:
            self._writer.shutdown(wait=False, cancel_futures=True)

    async def _next_batch(self) -> list[Job]:
        while True:
            self._changed.clear()
            if not self._waiting:
                await self._changed.wait()
                continue
            first = self._waiting[0]
            most = self._most(first.options)
            batch = [job for job in self._waiting if job.options == first.options][:most]
            left = first.queued + self._settings.max_wait - time.monotonic()
            if len(batch) == most or left <= 0:
                for job in batch:
                    self._waiting.remove(job)
                return batch
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _write(self, batch: list[Job]) -> None:
        started = time.monotonic()
        results = await self._results(batch)
        ended = time.monotonic()
        seconds = ended - started
        mean = self._batch_seconds
        self._batch_seconds = seconds if mean is None else mean + _NEWEST * (seconds - mean)
        self._metrics.batch_seconds.observe(seconds)
        self._metrics.batch_size.observe(len(batch))
        for job, result in zip(batch, results, strict=True):
            self._metrics.queue_seconds.observe(started - job.queued)
            if isinstance(result, DocumentSummary) and result.tokens is not None:
                self._metrics.tokens.labels("prompt").inc(result.tokens.read)
                self._metrics.tokens.labels("completion").inc(result.tokens.written)
            if not job.finished.done():
                timings = Timings(started - job.queued, seconds, ended - job.arrived)
                job.finished.set_result(Finished(result, timings))

    async def _results(self, batch: list[Job]) -> Sequence[DocumentSummary | Exception]:
        if all(job.watcher.stopped() for job in batch):
            return [WritingStopped("its writing was stopped.") for _ in batch]
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._writer, _summarize, batch)
        except Exception as error:
            if len(batch) == 1:
                return [error]
            # One document may have broken the batch: the others get their summaries without it.
            log_error(error, "a batch, whose requests are now written one by one")
            return [error if job.watcher.delivered else (await self._results([job]))[0] for job in batch]

    def _most(self, options: SummaryOptions) -> int:
        return 1 if options.do_sample or options.mode == "extractive" else self._settings.max_batch

    def _measure(self) -> None:
        self._metrics.reading.set(self._reading)
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.running.set(len(self._running))


def _summarize(batch: list[Job]) -> list[DocumentSummary | DocumentError]:
    documents, watchers = [job.document for job in batch], [job.watcher for job in batch]
    return batch[0].summarizer.summarize_batch(documents, watchers)
