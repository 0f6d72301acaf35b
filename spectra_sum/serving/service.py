"""What both ways of asking for a summary share: a place in the queue, reading, waiting, and giving up."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from ..documents.parts import DocumentError
from ..summaries.document_summary import DocumentSummary
from ..summaries.watching.watcher import WritingStopped
from .answers import ServedModel
from .batcher import Batcher
from .errors import ApiError
from .jobs import Finished, Job, JobWatcher
from .log import internal_error, log_error
from .metrics import Metrics
from .requests.options import Summarizers
from .requests.reading import SentArticle, read_sent
from .requests.remote_images import fetch_images
from .settings import Settings

Result = TypeVar("Result")


class Service:
    """
    The server's parts, of one app.

    Args:
        summarizers (`Summarizers`): Write the summaries.
        settings (`Settings`): Limits and times.
        model (`ServedModel`): The model's name for answers.

    Attributes:
        draining (`bool`): Set when the server is to end: it takes no connections any more, and is not ready; the requests
            that it has are answered.
    """

    def __init__(self, summarizers: Summarizers, settings: Settings, model: ServedModel):
        self.summarizers = summarizers
        self.settings = settings
        self.model = model
        self.metrics = Metrics()
        self.batcher = Batcher(settings, self.metrics)
        self.draining = False
        self._readers = ThreadPoolExecutor(settings.readers, thread_name_prefix="reader")

    async def accept(
        self,
        request: Request,
        read: Callable[[Request, ThreadPoolExecutor], Awaitable[SentArticle]],
        watcher_of: Callable[[SentArticle], JobWatcher],
    ) -> tuple[SentArticle, Job]:
        """
        Reads a request, and puts it into the queue.

        Args:
            request (`Request`): Nothing of its body has been read.
            read (`Callable`): Its article; may use the threads that decode.
            watcher_of (`Callable`): Who follows its writing.

        Raises:
            ApiError: It is refused: 400, 408, 413, 415, 429, or 504 where the time went while it was read.
        """
        arrived = time.monotonic()
        with self.batcher.place():
            try:
                async with asyncio.timeout(self.settings.timeout):
                    article = await read(request, self._readers)
                    images = await fetch_images(article.images, self.settings)
                    summarizer = await in_thread(self._readers, self.summarizers.find, article.options)
                    document = await in_thread(self._readers, read_sent, article, images, self.settings.limits)
            except TimeoutError:
                raise self.out_of_time() from None
            job = Job(document, summarizer, watcher_of(article), arrived)
            self.batcher.submit(job)
        return article, job

    async def finished(self, job: Job, request: Request) -> Finished:
        """
        Waits for a job, as long as there is time and its client is there; else the job leaves the queue or stops.

        Raises:
            ApiError: There is no summary.
            ClientDisconnect: The client has gone.
        """
        gone = asyncio.create_task(client_gone(request))
        try:
            await asyncio.wait({job.finished, gone}, timeout=self.time_left(job), return_when=asyncio.FIRST_COMPLETED)
            if not job.finished.done():
                if gone.done():
                    self.batcher.leave(job, "client")
                    raise ClientDisconnect
                self.batcher.leave(job, "timeout")
                raise self.out_of_time()
        except asyncio.CancelledError:
            self.batcher.leave(job, "shutdown")
            raise
        finally:
            gone.cancel()
        error = self.error_of(job.finished.result(), request.scope["request_id"])
        if error is not None:
            raise error
        return job.finished.result()

    def error_of(self, finished: Finished, request_id: str) -> ApiError | None:
        """The answer to a job without a summary; an error that is the server's is logged."""
        if isinstance(finished.result, DocumentSummary):
            return None
        if isinstance(finished.result, WritingStopped):
            return ApiError(503, "The writing was stopped, as the server ends.", code="stopped")
        if isinstance(finished.result, DocumentError):
            return ApiError(400, str(finished.result), code="invalid_article")
        log_error(finished.result, f"request {request_id}")
        return internal_error(request_id)

    def time_left(self, job: Job) -> float:
        """Seconds, at least 0, until a job's time is over."""
        return max(job.arrived + self.settings.timeout - time.monotonic(), 0)

    def out_of_time(self) -> ApiError:
        """The answer to a job whose time is over."""
        message = (
            f"There was no summary within {self.settings.timeout:g} seconds; try later, or ask for a shorter one."
        )
        return ApiError(504, message, code="timeout")

    def close(self) -> None:
        """Ends the threads that decode."""
        self._readers.shutdown(wait=False, cancel_futures=True)


async def client_gone(request: Request) -> None:
    """Returns when the client of a request, whose body was read, has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def in_thread(threads: ThreadPoolExecutor, function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function returns, called in one of the threads."""
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)
