"""Runs the app with uvicorn, on a socket of our own, until a signal ends it."""

import logging.config
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from .log import log_settings

# Of a request's line and headers, all in all.
_HEADER_BYTES = 32_768


class _Server(uvicorn.Server):
    """Tells when it listens, and ends with exit code 0: uvicorn would raise the signal again."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, listening: Callable[[], None]):
        super().__init__(config)
        self._service = app.state.service
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.draining = True
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def serve(app: FastAPI, place: socket.socket, listening: Callable[[], None]) -> None:
    """
    Answers requests until SIGTERM or Ctrl-C; then no connection is taken any more, and what was accepted is answered. A
    second Ctrl-C ends that as well.

    Args:
        app (`FastAPI`): Of [`create_app`].
        place (`socket.socket`): A bound socket.
        listening (`Callable[[], None]`): Called when it listens.
    """
    logging.config.dictConfig(log_settings())
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        # The app has a log of its own, without what addresses hold after their question mark.
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_HEADER_BYTES,
    )
    try:
        _Server(config, app, listening).run(sockets=[place])
    finally:
        # After a second Ctrl-C, the interpreter waits for the thread that writes.
        app.state.service.batcher.stop_all()
        app.state.service.close()
