"""The JSON of `POST /v1/summarize`, and what is wrong with one that has another shape."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import from_json

from ...documents.parts import printable, shortened
from ..errors import ApiError

# Objects, lists and members of a request without text; each costs memory when it is parsed.
_MOST_VALUES = 10_000
_MESSAGES = {
    "extra_forbidden": "this field is unknown",
    "missing": "this field is missing",
    "model_type": "this must be an object",
    "model_attributes_type": "this must be an object",
}

# Tags of a union of a text and something else.
TEXT, OBJECT = "<text>", "<object>"

Request = TypeVar("Request", bound=BaseModel)


class Shape(BaseModel):
    """An object with these fields alone, of exactly these types; null is as if a field were not there."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class RequestOptions(Shape):
    """The options of a request, as those of `spectra-sum summarize`; what is not there is as the server was started."""

    length: Literal["short", "medium", "long"] | None = None
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    num_beams: Annotated[int, Field(ge=1)] | None = None
    do_sample: bool | None = None
    temperature: Annotated[float, Field(ge=0.01, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=1000)] | None = None
    long: Literal["select", "sections", "cut"] | None = None
    captions: Literal["none", "prompt"] | None = None
    select: Literal["dpp-map", "mmr", "relevance", "vrp"] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None


OPTION_NAMES = frozenset(RequestOptions.model_fields)


class SentDocument(Shape):
    """A Markdown, HTML or text file; its images are looked for among `images` by their names."""

    name: str = Field(description="Its ending tells its type: .md, .html or .txt.")
    content: str


class ImageObject(Shape):
    """An image by its content or, where the server allows the host, by its address."""

    data: str | None = Field(None, description="Base64 or a data URI.")
    url: str | None = Field(None, description="Address at a host that the server allows.")
    name: str | None = None
    caption: str | None = None
    alt: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "ImageObject":
        if (self.data is None) == (self.url is None):
            raise ValueError("an image has either data or url")
        return self


def _kind_of_image(value: Any) -> str | None:
    return {str: TEXT, dict: OBJECT, ImageObject: OBJECT}.get(type(value))


SentImage = Annotated[
    Annotated[str, Tag(TEXT)] | Annotated[ImageObject, Tag(OBJECT)],
    Discriminator(
        _kind_of_image,
        custom_error_type="image_type",
        custom_error_message="an image is base64, a data URI, or an object with data or url",
    ),
]


class SummarizeRequest(Shape):
    """A text or a document, with its images."""

    text: str | None = None
    title: str | None = None
    images: Annotated[list[SentImage], Field(fail_fast=True)] | None = None
    document: SentDocument | None = None
    options: RequestOptions | None = None
    stream: bool | None = None


def parsed(body: bytes, most_text: int) -> Any:
    """
    The JSON of a body.

    Args:
        body (`bytes`): In UTF-8.
        most_text (`int`): Characters of its texts, each of which may be a comma.

    Raises:
        ApiError: 400, it is no JSON, or has more values than any request.
    """
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > _MOST_VALUES + most_text:
        raise ApiError(413, "The JSON has more values than any request needs; shorten it.", code="too_large")
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise ApiError(
            400, f"The body is no JSON: {shortened(printable(str(error)), 200)}.", code="invalid_json"
        ) from None


def checked(shape: type[Request], value: Any) -> Request:
    """
    JSON as an object of a shape.

    Raises:
        ApiError: 400, it has another shape; the first field that is wrong is named.
    """
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        raise shape_error(error) from None


def options_of_fields(fields: Mapping[str, str]) -> RequestOptions:
    """
    The options of a form, whose numbers are texts.

    Raises:
        ApiError: 400, one is unknown or has a wrong value.
    """
    try:
        return RequestOptions.model_validate_strings(dict(fields))
    except ValidationError as error:
        raise shape_error(error) from None


def shape_error(error: ValidationError) -> ApiError:
    """The first thing that is wrong."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # A union's tag says which of its shapes was tried; those of parts of a message follow their place in the list.
    places = [
        place
        for before, place in zip((None, *first["loc"]), first["loc"], strict=False)
        if place not in (TEXT, OBJECT) and not (isinstance(before, int) and place in ("text", "image_url"))
    ]
    name = "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places).lstrip(".")
    name = shortened(printable(name), 100)
    message = _MESSAGES.get(first["type"], first["msg"].removeprefix("Value error, "))
    message = shortened(printable(message[:1].lower() + message[1:]), 300)
    shown = f"{name}: {message}." if name else f"The body is no object: {message}."
    return ApiError(400, shown, param=name or None, code=first["type"])


def inlined(shape: type[BaseModel]) -> dict[str, Any]:
    """A shape's JSON schema in one piece, for the API's description, which has definitions of its own."""
    schema = shape.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            value = {**definitions[value["$ref"].rpartition("/")[2]], **value}
            del value["$ref"]
        return {name: resolved(entry) for name, entry in value.items() if name != "discriminator"}

    return resolved(schema)
