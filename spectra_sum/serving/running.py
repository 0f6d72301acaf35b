"""Runs the app with uvicorn, on a socket of our own, until a signal ends it."""

import logging.config
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from .log import log_settings

# Of a request's line and headers, all in all.
_HEADER_BYTES = 32_768


class Server(uvicorn.Server):
    """Tells when it listens, and ends with exit code 0: uvicorn would raise the signal again."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, listening: Callable[[], None]):
        super().__init__(config)
        self._service = app.state.service
        self._listening = listening
        self._given_up = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            self._service.draining = self.should_exit = True
        elif not self._given_up:
            self._given_up = True
            self._service.batcher.stop_all()
        else:
            self.force_exit = True


def configuration(app: FastAPI) -> uvicorn.Config:
    """How uvicorn runs the app: HTTP/1.1 alone, and no log but the app's own, without what addresses hold after a question
    mark."""
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_HEADER_BYTES,
    )


def serve(app: FastAPI, place: socket.socket, listening: Callable[[], None]) -> None:
    """
    Answers requests until SIGTERM or Ctrl-C; then no connection is taken any more, and what was accepted is answered. At a
    second signal what is not finished is answered 503, and a third ends that as well.

    Args:
        app (`FastAPI`): Of [`create_app`].
        place (`socket.socket`): A bound socket.
        listening (`Callable[[], None]`): Called when it listens.
    """
    logging.config.dictConfig(log_settings())
    try:
        Server(configuration(app), app, listening).run(sockets=[place])
    finally:
        # After a third signal, the interpreter waits for the thread that writes.
        app.state.service.batcher.stop_all()
        app.state.service.close()
