"""`POST /v1/chat/completions`, `GET /v1/models` and the one of a name: the same summaries for any client of OpenAI's API."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from ..answers import summary_answer
from ..errors import ApiError
from ..jobs import Finished, Job, JobWatcher
from ..requests.bodies import JSON, content_type
from ..requests.reading import SentArticle, check_image_count
from ..requests.shapes import ImageObject, inlined, parsed
from ..requests.uploads import image_of
from ..service import Service, in_thread
from ..settings import Settings
from .chat_shapes import ChatRequest, TextPart, chat_options, check_model, checked_chat, user_turn
from .event_stream import EventStream, PieceQueue, event

ROUTE = "/v1/chat/completions"


def add_chat(app: FastAPI, service: Service) -> None:
    """Adds these addresses to the app."""
    served = {"id": service.model.name, "object": "model", "created": int(time.time()), "owned_by": "spectra-sum"}

    @app.get("/v1/models", summary="The model that is served")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [served]})

    # A name on the Hub has a slash.
    @app.get("/v1/models/{name:path}", summary="The model of this name")
    async def model(name: str) -> JSONResponse:
        check_model(name, service.model.name)
        return JSONResponse(served)

    description = {"required": True, "content": {JSON: {"schema": inlined(ChatRequest)}}}

    @app.post(ROUTE, summary="The same by OpenAI's API", openapi_extra={"requestBody": description})
    async def complete(request: Request) -> Response:
        pieces = PieceQueue()
        sent: list[ChatRequest] = []

        async def read(request: Request, readers: ThreadPoolExecutor) -> SentArticle:
            content_type(request, (JSON,))
            body = await request.body()
            sent.append(await in_thread(readers, chat_of_json, body, service))
            return await in_thread(readers, article_of_chat, sent[0], service.settings)

        article, job = await service.accept(
            request, read, lambda article: pieces.watcher if article.stream else JobWatcher()
        )
        events = ChatEvents(service, f"chatcmpl-{request.scope['request_id']}", sent[0])
        if article.stream:
            return EventStream(service, request, job, pieces, events, ROUTE)
        return JSONResponse(events.answer(job, await service.finished(job, request)))


class ChatEvents:
    """
    The answer in OpenAI's shape, whole or in chunks.

    Args:
        service (`Service`): Knows the model.
        answer_id (`str`): The answer's id.
        chat (`ChatRequest`): The request.
    """

    def __init__(self, service: Service, answer_id: str, chat: ChatRequest):
        self._service = service
        self._frame = {"id": answer_id, "created": int(time.time()), "model": service.model.name}
        self._with_usage = bool(chat.stream_options and chat.stream_options.include_usage)
        self._released = ""

    def answer(self, job: Job, finished: Finished) -> dict[str, Any]:
        """The whole answer."""
        summary = self._summary(job, finished)
        message = {"role": "assistant", "content": summary["summary"], "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(finished)}
        return {
            **self._frame,
            "object": "chat.completion",
            "choices": [choice],
            "usage": summary["usage"],
            "spectra_sum": summary,
        }

    def opening(self) -> Sequence[bytes]:
        """Who speaks."""
        return [self._chunk({"role": "assistant", "content": ""})]

    def piece(self, kind: str, piece: str) -> Sequence[bytes]:
        """Text that the summary has for certain: what was sent cannot be taken back."""
        if kind != "standing":
            return ()
        self._released += piece
        return [self._chunk({"content": piece})]

    def closing(self, job: Job, finished: Finished) -> Sequence[bytes]:
        """How it ended, with the whole answer; the usage where it was asked for; and OpenAI's mark of the end."""
        summary = self._summary(job, finished)
        stands = summary["summary"].startswith(self._released)
        left = summary["summary"][len(self._released) :] if stands else ""
        events = [self._chunk({"content": left})] if left else []
        reason = _reason(finished) if stands else "content_filter"
        events.append(self._chunk({}, reason, spectra_sum=summary))
        if self._with_usage:
            chunk = {**self._frame, "object": "chat.completion.chunk", "choices": [], "usage": summary["usage"]}
            events.append(event(chunk))
        return [*events, b"data: [DONE]\n\n"]

    def error(self, error: ApiError) -> Sequence[bytes]:
        """The error; OpenAI's clients raise it."""
        return [event(error.body)]

    def _summary(self, job: Job, finished: Finished) -> dict[str, Any]:
        return summary_answer(self._service.model, job.document, finished.result, finished.timings)

    def _chunk(self, delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self._with_usage else {}
        return event({**self._frame, "object": "chat.completion.chunk", "choices": [choice], **usage, **more})


def chat_of_json(body: bytes, service: Service) -> ChatRequest:
    """
    A body as a request.

    Raises:
        ApiError: 400, 404 or 413.
    """
    return checked_chat(parsed(body, service.settings.limits.text_length), service.model.name)


def article_of_chat(chat: ChatRequest, settings: Settings) -> SentArticle:
    """
    The text and the images of the user's turn.

    Raises:
        ApiError: 400 or 413.
    """
    place, turn = user_turn(chat.messages)
    parts = [TextPart(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content or []
    texts, images = [], []
    for number, part in enumerate(parts):
        if isinstance(part, TextPart):
            texts.append(part.text)
        else:
            images.append((f"messages[{place}].content[{number}].image_url.url", part.image_url))
    check_image_count(len(images), settings.limits)
    decoded = [
        image_of(
            ImageObject(url=image.url, name=image.name, caption=image.caption, alt=image.alt),
            param,
            number,
            settings.limits.image_size,
        )
        for number, (param, image) in enumerate(images, start=1)
    ]
    return SentArticle(text="\n\n".join(texts), images=decoded, options=chat_options(chat), stream=bool(chat.stream))


def _reason(finished: Finished) -> str:
    cut = any(problem.kind == "summary_cut" for problem in finished.result.problems)
    return "length" if cut else "stop"
