"""`POST /v1/summarize`: JSON or a form in, the summary with its evidence and images out."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import FormData, UploadFile

from ...documents.parts import printable, shortened
from ..answers import summary_answer
from ..errors import ApiError
from ..jobs import Finished, Job, JobWatcher
from ..requests.bodies import FORM, JSON, content_type, read_form
from ..requests.reading import SentArticle, check_image_count
from ..requests.shapes import (
    OPTION_NAMES,
    RequestOptions,
    SummarizeRequest,
    checked,
    inlined,
    options_of_fields,
    parsed,
)
from ..requests.uploads import SentFile, file_name, image_of
from ..service import Service, in_thread
from ..settings import Settings
from .event_stream import EventStream, PieceQueue, event

ROUTE = "/v1/summarize"
_FLAGS = {"true": True, "false": False, "1": True, "0": False}


def add_summarize(app: FastAPI, service: Service) -> None:
    """Adds the address to the app."""

    async def read(request: Request, readers: ThreadPoolExecutor) -> SentArticle:
        if content_type(request, (JSON, FORM)) == FORM:
            form = await read_form(request, service.settings)
            try:
                return await in_thread(readers, article_of_form, form, service.settings)
            finally:
                await form.close()
        body = await request.body()
        return await in_thread(readers, article_of_json, body, service.settings)

    @app.post(ROUTE, summary="Summarize a document with its images", openapi_extra={"requestBody": _request_body()})
    async def summarize(request: Request) -> Response:
        pieces = PieceQueue()
        article, job = await service.accept(
            request, read, lambda article: pieces.watcher if article.stream else JobWatcher()
        )
        events = SummaryEvents(service, f"sum-{request.scope['request_id']}")
        if article.stream:
            return EventStream(service, request, job, pieces, events, ROUTE)
        return JSONResponse(events.answer(job, await service.finished(job, request)))


class SummaryEvents:
    """The events `text`, `summary` and `error`."""

    def __init__(self, service: Service, answer_id: str):
        self._service = service
        self._id = answer_id

    def answer(self, job: Job, finished: Finished) -> dict[str, Any]:
        """The whole answer."""
        return {
            "id": self._id,
            **summary_answer(self._service.model, job.document, finished.result, finished.timings),
        }

    def opening(self) -> Sequence[bytes]:
        """Nothing."""
        return ()

    def piece(self, kind: str, piece: str) -> Sequence[bytes]:
        """The text as the model writes it."""
        return [event({"text": piece}, "text")] if kind == "text" else ()

    def closing(self, job: Job, finished: Finished) -> Sequence[bytes]:
        """The whole answer."""
        return [event(self.answer(job, finished), "summary")]

    def error(self, error: ApiError) -> Sequence[bytes]:
        """The error."""
        return [event(error.body, "error")]


def article_of_json(body: bytes, settings: Settings) -> SentArticle:
    """
    The article of a JSON body.

    Raises:
        ApiError: 400 or 413.
    """
    limits = settings.limits
    sent = checked(SummarizeRequest, parsed(body, limits.text_length + limits.document_size))
    images = sent.images or []
    check_image_count(len(images), limits)
    document = sent.document
    return SentArticle(
        sent.title or "",
        sent.text or "",
        document and SentFile(file_name(document.name, "document"), _encoded(document.content)),
        [image_of(image, f"images[{place}]", place + 1, limits.image_size) for place, image in enumerate(images)],
        sent.options or RequestOptions(),
        bool(sent.stream),
    )


def article_of_form(form: FormData, settings: Settings) -> SentArticle:
    """
    The article of a form's fields and files.

    Raises:
        ApiError: 400 or 413.
    """
    # Browsers send a part without a name and content for a field of files that was left empty.
    entries = [
        (name, value)
        for name, value in form.multi_items()
        if not (isinstance(value, UploadFile) and not value.filename and not value.size)
    ]
    fields: dict[str, str] = {}
    files: dict[str, list[UploadFile]] = {"document": [], "images": []}
    captions: list[str] = []
    for name, value in entries:
        if isinstance(value, UploadFile):
            if name not in files:
                raise ApiError(
                    400, f"{_shown(name)}: no file is read here; send document or images.", param=_shown(name)
                )
            files[name].append(value)
        elif name == "captions":
            captions.append(value)
        elif name in files:
            raise ApiError(400, f"{name}: send a file, with its name.", param=name)
        elif name not in OPTION_NAMES | {"text", "title", "stream"}:
            raise ApiError(400, f"{_shown(name)}: this field is unknown.", param=_shown(name), code="extra_forbidden")
        elif name in fields:
            raise ApiError(400, f"{name}: this field is there twice.", param=name)
        else:
            fields[name] = value
    if len(files["document"]) > 1:
        raise ApiError(400, "document: there are two; send one.", param="document")
    check_image_count(len(files["images"]), settings.limits)
    if captions and len(captions) != len(files["images"]):
        message = (
            f"captions: there are {len(captions)}, and {len(files['images'])} images; send one per image, or none."
        )
        raise ApiError(400, message, param="captions")
    stream = fields.pop("stream", "false").lower()
    if stream not in _FLAGS:
        raise ApiError(400, "stream: this must be true or false.", param="stream")
    texts = {name: fields.pop(name, "") for name in ("title", "text")}
    document = [_file(file, "document") for file in files["document"]]
    images = [
        _file(file, f"image-{number}", caption)
        for number, (file, caption) in enumerate(
            zip(files["images"], captions or [""] * len(files["images"]), strict=True), start=1
        )
    ]
    return SentArticle(
        **texts,
        document=document[0] if document else None,
        images=images,
        options=options_of_fields(fields),
        stream=_FLAGS[stream],
    )


def _file(file: UploadFile, otherwise: str, caption: str = "") -> SentFile:
    return SentFile(file_name(file.filename or "", otherwise), file.file.read(), caption)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _shown(name: str) -> str:
    return shortened(printable(name), 100)


def _request_body() -> dict[str, Any]:
    """For the API's description: JSON as it is checked, and the form."""
    text, file = {"type": "string"}, {"type": "string", "format": "binary"}
    options = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in RequestOptions.model_json_schema()["properties"].items()
    }
    form = {
        "title": text,
        "text": text,
        "document": file,
        "images": {"type": "array", "items": file},
        "captions": {"type": "array", "items": text},
        "stream": {"type": "boolean"},
        **options,
    }
    return {
        "required": True,
        "content": {
            JSON: {"schema": inlined(SummarizeRequest)},
            FORM: {"schema": {"type": "object", "properties": form}},
        },
    }
