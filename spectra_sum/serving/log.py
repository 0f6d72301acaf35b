"""The log on standard error: a line per answer, and where an unexpected error came from. Never what a request holds."""

import logging
import time
import traceback
import uuid
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..documents.parts import printable, shortened
from .errors import ApiError
from .metrics import Metrics

LOGGER = logging.getLogger("spectra_sum.serving")
# As nginx counts a client that went before its answer.
CLIENT_GONE = 499


class AnswerLog:
    """
    The outermost middleware: gives each request an id, logs and counts its answer, and turns an unexpected error into the
    status 500, whose id stands with the error's origin in the log.

    Args:
        app (`ASGIApp`): The app.
        metrics (`Metrics`): Where answers are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["request_id"] = request_id = uuid.uuid4().hex
        started = time.monotonic()
        status = 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:
            log_error(error, f"request {request_id}")
            if not status:
                await internal_error(request_id).response()(scope, receive, sent)
        finally:
            seconds = time.monotonic() - started
            # Addresses of an app are few; those of scanners are not.
            route = getattr(scope.get("route"), "path", "other")
            status = status or CLIENT_GONE
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            path = shortened(printable(scope["path"]), 200)
            LOGGER.info("%s %s %s %.3f s %s", scope["method"], path, status, seconds, request_id)


def internal_error(request_id: str) -> ApiError:
    """The answer to what nobody expected."""
    return ApiError(500, f"The server failed; its log tells why, under request {request_id}.", code="internal_error")


def log_error(error: BaseException, where: str) -> None:
    """Logs the type of an error and the lines of code that it came through. Its message may hold what a client sent."""
    lines = []
    cause: BaseException | None = error
    while cause is not None:
        frames = "".join(traceback.format_tb(cause.__traceback__))
        lines.append(f"{type(cause).__name__} from\n{frames}")
        cause = cause.__cause__ or cause.__context__
    LOGGER.error("unexpected error in %s: %s", where, "caused by ".join(lines))


def log_settings() -> dict[str, Any]:
    """For `logging.config.dictConfig`: this log and uvicorn's warnings, on standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {
            LOGGER.name: {"handlers": ["stderr"], "level": "INFO", "propagate": False},
            "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        },
    }
