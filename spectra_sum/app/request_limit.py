"""A bound on what a single request may send: Gradio bounds each uploaded file, but takes a thousand of them at once."""

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
        """Passes the request on, and counts its body as it is read."""
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.size:
                raise HTTPException(413, f"The request is longer than {self.size} bytes.")
            return message

        await self.app(scope, counted if scope["type"] == "http" else receive, send)
