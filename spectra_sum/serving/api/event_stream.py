"""Server-sent events: a summary's text while it is written, and the whole answer at the end."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any, Protocol

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import ApiError
from ..jobs import Finished, Job, JobWatcher
from ..service import Service, client_gone

# Of a client that takes no more of its stream.
_SEND_SECONDS = 30
_COMMENT = b": waiting\n\n"
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    # nginx would keep the events back until its buffer is full.
    "X-Accel-Buffering": "no",
}


class Events(Protocol):
    """The events of a way of asking."""

    def opening(self) -> Sequence[bytes]:
        """What comes before the first text."""

    def piece(self, kind: str, piece: str) -> Sequence[bytes]:
        """Of `"text"` as it is written, or of text that is `"standing"`."""

    def closing(self, job: Job, finished: Finished) -> Sequence[bytes]:
        """Of the finished summary."""

    def error(self, error: ApiError) -> Sequence[bytes]:
        """Of an error after the first event."""


class PieceQueue:
    """Pieces of text from the thread that writes to the loop that answers."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._entries: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.watcher = JobWatcher(lambda *entry: self._loop.call_soon_threadsafe(self._entries.put_nowait, entry))

    def put(self, kind: str, value: Any = None) -> None:
        """Adds an entry, in the loop."""
        self._entries.put_nowait((kind, value))

    async def get(self, seconds: float) -> tuple[str, Any]:
        """The next entry, or `("nothing", None)` where none comes in time."""
        try:
            async with asyncio.timeout(seconds):
                return await self._entries.get()
        except TimeoutError:
            return "nothing", None


class EventStream(Response):
    """
    Answers a request by events. An error before the first of them has its own status, as in other answers.

    Args:
        service (`Service`): Waits, and gives up.
        request (`Request`): The request, whose body was read.
        job (`Job`): Its job.
        pieces (`PieceQueue`): Whose watcher follows the job.
        events (`Events`): What is sent.
        route (`str`): The address, for the measurements.
    """

    def __init__(self, service: Service, request: Request, job: Job, pieces: PieceQueue, events: Events, route: str):
        super().__init__(headers=_HEADERS)
        # Its length is not known before.
        del self.headers["content-length"]
        self._service = service
        self._request = request
        self._job = job
        self._pieces = pieces
        self._events = events
        self._route = route
        self._begun = self._measured = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events; a client that goes, or that takes none for half a minute, ends its job."""
        job, service = self._job, self._service
        gone = asyncio.create_task(client_gone(self._request))
        gone.add_done_callback(lambda task: task.cancelled() or self._pieces.put("gone"))
        job.finished.add_done_callback(lambda future: future.cancelled() or self._pieces.put("finished"))
        given_up = "client"
        try:
            while True:
                kind, value = await self._pieces.get(min(service.settings.silence, service.time_left(job)))
                if kind == "gone":
                    raise ClientDisconnect
                if kind == "finished":
                    await self._finish(scope, receive, send)
                    return
                if kind == "nothing" and not service.time_left(job):
                    service.batcher.leave(job, "timeout")
                    await self._fail(service.out_of_time(), scope, receive, send)
                    return
                await self._send(send, [_COMMENT] if kind == "nothing" else self._events.piece(kind, value))
        except asyncio.CancelledError:
            given_up = "shutdown"
            raise
        except (TimeoutError, OSError):
            raise ClientDisconnect from None
        finally:
            gone.cancel()
            if not job.finished.done() and not job.watcher.stopped():
                service.batcher.leave(job, given_up)

    async def _finish(self, scope: Scope, receive: Receive, send: Send) -> None:
        finished = self._job.finished.result()
        error = self._service.error_of(finished, scope["request_id"])
        if error is not None:
            await self._fail(error, scope, receive, send)
            return
        await self._send(send, self._events.closing(self._job, finished))
        await self._send(send, [b""], more=False)

    async def _fail(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._begun:
            await error.response()(scope, receive, send)
            return
        await self._send(send, self._events.error(error))
        await self._send(send, [b""], more=False)

    async def _send(self, send: Send, events: Sequence[bytes], *, more: bool = True) -> None:
        if not events:
            return
        if not self._measured and events[0] != _COMMENT:
            self._measured = True
            seconds = time.monotonic() - self._job.arrived
            self._service.metrics.first_text_seconds.labels(self._route).observe(seconds)
        if not self._begun:
            self._begun = True
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            events = [*self._events.opening(), *events]
        async with asyncio.timeout(_SEND_SECONDS):
            await send({"type": "http.response.body", "body": b"".join(events), "more_body": more})


def event(data: Any, name: str | None = None) -> bytes:
    """
    An event with JSON as its data.

    Args:
        data (`Any`): What `json` takes.
        name (`str`, *optional*): The event's type.
    """
    head = "" if name is None else f"event: {name}\n"
    return f"{head}data: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n".encode()
