"""Bodies of requests: how long they may take to arrive, and of which types they are."""

import asyncio
import time
from collections.abc import Callable

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ApiError
from ..settings import Settings

JSON, FORM = "application/json", "multipart/form-data"
# Captions are one per image; the other fields are few.
_OTHER_FIELDS = 40
_DRAIN_SECONDS = 2


class BodyTimeout:
    """
    Middleware that answers 408 to a request whose body does not arrive in time.

    Args:
        app (`ASGIApp`): What it protects.
        seconds (`float`): The time for the whole body.
    """

    def __init__(self, app: ASGIApp, seconds: float):
        self.app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and its body as long as there is time."""
        due = time.monotonic() + self._seconds
        whole = False

        async def timely() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout(max(due - time.monotonic(), 0)):
                    message = await receive()
            except TimeoutError:
                message = f"The request's body did not arrive within {self._seconds:g} seconds."
                raise HTTPException(408, message, {"Connection": "close"}) from None
            whole = not message.get("more_body", False)
            return message

        await self.app(scope, timely if scope["type"] == "http" else receive, send)


class OneLength:
    """
    Middleware that refuses a request with a length and in chunks, too: a proxy that goes by the other one would take the body's
    rest for the next request, of somebody else.

    Args:
        app (`ASGIApp`): What it protects.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or refuses it and ends the connection."""
        names = {name for name, _ in scope.get("headers", ())}
        if {b"content-length", b"transfer-encoding"} <= names:
            message = "There are both Content-Length and Transfer-Encoding; send one of them."
            refusal = ApiError(400, message, code="ambiguous_length", headers={"Connection": "close"})
            await refusal.response()(scope, receive, send)
            return
        await self.app(scope, receive, send)


class ReadBeforeRefusal:
    """
    Middleware that reads what is still to come of a request's body before an answer that did not wait for it, and forgets it:
    where a connection ends with unread data, a client that is still sending gets no answer at all.

    Args:
        app (`ASGIApp`): What it wraps.
        size (`int`): Most bytes that are read; no more seconds than `_DRAIN_SECONDS`.
    """

    def __init__(self, app: ASGIApp, size: int):
        self.app = app
        self._size = size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        whole = False

        async def noted() -> Message:
            nonlocal whole
            message = await receive()
            whole = not message.get("more_body", False)
            return message

        async def sent(message: Message) -> None:
            # Of a slow body there is no more to come soon.
            if message["type"] == "http.response.start" and not whole and message["status"] not in (200, 408):
                await self._drain(noted, lambda: whole)
            await send(message)

        http = scope["type"] == "http"
        await self.app(scope, noted if http else receive, sent if http else send)

    async def _drain(self, receive: Receive, whole: Callable[[], bool]) -> None:
        read = 0
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not whole() and read <= self._size:
                    read += len((await receive()).get("body", b""))
        except TimeoutError:
            pass


def content_type(request: Request, allowed: tuple[str, ...]) -> str:
    """
    A request's type, without its parameters.

    Raises:
        ApiError: 415, it is another one, or its content is compressed.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in allowed:
        raise ApiError(415, f"The content type must be {' or '.join(allowed)}.", code="unsupported_type")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ApiError(415, "Compressed bodies are not read; send it as it is.", code="unsupported_type")
    return kind


async def read_form(request: Request, settings: Settings) -> FormData:
    """
    The fields and files of a multipart body; larger files lie on disk until the form is closed.

    Raises:
        ApiError: 400, it is damaged, or has more or larger parts than any request; 415, it is not in UTF-8.
    """
    _, parameters = parse_options_header(request.headers["content-type"])
    # Some of Python's codecs fail with errors of their own, and one takes the square of a text's length.
    if parameters.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise ApiError(415, "A form must be in UTF-8; leave its charset out.", code="unsupported_type")
    limits = settings.limits
    longest = 4 * max(limits.text_length, limits.title_length, limits.caption_length)
    parser = _WholeForm(
        request.headers,
        request.stream(),
        max_files=limits.images + 1,
        max_fields=limits.images + _OTHER_FIELDS,
        max_part_size=longest + 1,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ApiError(400, error.message) from None
    if not parser.whole:
        await form.close()
        raise ApiError(400, "The form ends before its last boundary; send it whole.", code="incomplete_form")
    return form


class _WholeForm(MultiPartParser):
    """Knows whether the last boundary came; a part that it should have ended is not among the form's."""

    whole = False

    def on_end(self) -> None:
        self.whole = True
