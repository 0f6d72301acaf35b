"""The app: its addresses, and the middleware around them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware import Middleware

from ..summaries.options import SummaryOptions
from ..uploads.request_limit import RequestLimit
from .answers import ServedModel
from .api.chat import add_chat
from .api.summarize import add_summarize
from .errors import ApiError, answer_errors
from .jobs import SummarizesWatched
from .keys import KeyCheck
from .log import AnswerLog
from .requests.bodies import BodyTimeout, OneLength, ReadBeforeRefusal
from .requests.options import Summarizers
from .service import Service
from .settings import Settings


def create_app(
    make_summarizer: Callable[[SummaryOptions], SummarizesWatched],
    defaults: SummaryOptions,
    settings: Settings,
    model: ServedModel,
    *,
    version: str = "0",
) -> FastAPI:
    """
    The server as an ASGI app; `app.state.service` is its [`Service`]. It writes while its lifespan runs.

    Args:
        make_summarizer (`Callable`): A summarizer of these options; quick, as the model is loaded.
        defaults (`SummaryOptions`): Of requests that name none.
        settings (`Settings`): Limits, batches and keys.
        model (`ServedModel`): What clients know the model by.
        version (`str`, *optional*, defaults to `"0"`): Of the program, for the API's description.
    """
    service = Service(Summarizers(make_summarizer, defaults, settings), settings, model)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        writing = asyncio.create_task(service.batcher.work())
        try:
            yield
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
            service.close()

    app = FastAPI(
        title="SPeCTrA-Sum",
        version=version,
        description="A document and its images go in; a summary and the images that belong to it come out.",
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=[
            Middleware(AnswerLog, metrics=service.metrics),
            Middleware(ReadBeforeRefusal, size=2 * settings.request_size),
            Middleware(OneLength),
            Middleware(KeyCheck, keys=settings.keys),
            Middleware(RequestLimit, size=settings.request_size),
            Middleware(BodyTimeout, seconds=settings.body_timeout),
        ],
    )
    app.state.service = service
    answer_errors(app)
    add_summarize(app, service)
    add_chat(app, service)
    _add_states(app, service)
    return app


def _add_states(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Whether the server runs")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/ready", summary="Whether it takes requests")
    async def ready() -> JSONResponse:
        if service.draining:
            raise ApiError(503, "The server is ending.", code="draining")
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", summary="Measurements, as Prometheus reads them")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
