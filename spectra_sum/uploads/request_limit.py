"""A bound on what a single request may send, whatever it says of its length; Gradio bounds each uploaded file alone."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RequestLimit:
    """
    Middleware that refuses a request with status 413 as soon as its body is too long.

    Args:
        app (`ASGIApp`): What it protects.
        size (`int`): Most bytes of a body.
    """

    def __init__(self, app: ASGIApp, size: int):
        self.app = app
        self.size = size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and counts its body as it is read; one that declares a greater length is not read."""
        read = 0
        lengths = [value for name, value in scope.get("headers", ()) if name == b"content-length"]
        declared = max((int(value) for value in lengths if value.isdigit()), default=0)

        async def counted() -> Message:
            nonlocal read
            if declared > self.size:
                raise self._refusal()
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.size:
                raise self._refusal()
            return message

        await self.app(scope, counted if scope["type"] == "http" else receive, send)

    def _refusal(self) -> HTTPException:
        # What is left of the body is not read, so that the connection ends.
        return HTTPException(413, f"The request is longer than {self.size:,} bytes.", {"Connection": "close"})
