"""The JSON of `POST /v1/chat/completions`: OpenAI's, as far as a summary can be asked for by it."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from ..errors import ApiError
from ..requests.shapes import OBJECT, TEXT, RequestOptions, Shape, checked

# Fields of OpenAI's that would change the answer, and what stands for not asking for them.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "stop": ([], ""),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "web_search_options": (),
    "store": (False,),
    "service_tier": ("auto", "default"),
}


class TextPart(Shape):
    """A piece of the text; pieces are parted by an empty line."""

    type: Literal["text"]
    text: str


class ImageAddress(Shape):
    """An image as a data URI; caption and alternative text are additions to OpenAI's shape."""

    url: str
    detail: Literal["auto"] | None = None
    caption: str | None = None
    alt: str | None = None
    name: str | None = None


class ImagePart(Shape):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageAddress


def _kind_of_content(value: Any) -> str | None:
    return {str: TEXT, list: OBJECT}.get(type(value))


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]
Content = Annotated[
    Annotated[str, Tag(TEXT)] | Annotated[list[Part], Field(fail_fast=True), Tag(OBJECT)],
    Discriminator(
        _kind_of_content,
        custom_error_type="content_type",
        custom_error_message="this must be a text or a list of parts",
    ),
]


class Message(Shape):
    """A turn; `name` changes nothing."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: str | None = None


class StreamOptions(Shape):
    """What is streamed beside the text."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class ChatRequest(Shape):
    """One user turn with a text and its images; `user`, `metadata` and the like change nothing."""

    model: str
    messages: Annotated[list[Message], Field(fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


def checked_chat(value: Any, model: str) -> ChatRequest:
    """
    JSON as a request for a summary.

    Args:
        value (`Any`): The JSON.
        model (`str`): The name of the model that is served.

    Raises:
        ApiError: 400, it has another shape, or asks for what a summary has not; 404, for another model.
    """
    if isinstance(value, dict):
        for name in value.keys() & _REFUSED.keys():
            sent = value[name]
            if sent is not None and not any(type(sent) is type(other) and sent == other for other in _REFUSED[name]):
                raise ApiError(
                    400, f"{name}: a summary has none of this; leave it out.", param=name, code="unsupported_parameter"
                )
        value = {name: entry for name, entry in value.items() if name not in _REFUSED}
    request = checked(ChatRequest, value)
    check_model(request.model, model)
    if request.stream_options is not None and not request.stream:
        raise ApiError(400, "stream_options: only with stream.", param="stream_options")
    if request.max_tokens and request.max_completion_tokens and request.max_tokens != request.max_completion_tokens:
        raise ApiError(400, "max_tokens: it differs from max_completion_tokens; leave it out.", param="max_tokens")
    return request


def check_model(name: str, served: str) -> None:
    """
    Holds a request to the model that is served.

    Raises:
        ApiError: 404, it names another one.
    """
    if name != served:
        raise ApiError(
            404,
            "There is no model of this name; GET /v1/models names the one that is served.",
            param="model",
            code="model_not_found",
        )


def user_turn(messages: list[Message]) -> tuple[int, Message]:
    """
    The one user turn, and its place.

    Raises:
        ApiError: 400, there is another number of them, another role, or an instruction.
    """
    turns = list(enumerate(messages))
    if turns and turns[0][1].role in ("system", "developer"):
        first = turns.pop(0)[1]
        if first.content:
            message = f"messages[0]: the model takes no instructions; leave the {first.role} message out."
            raise ApiError(400, message, param="messages[0]", code="unsupported_value")
    if len(turns) != 1 or turns[0][1].role != "user":
        message = "messages: a summary is asked for by one user message; leave the others out."
        raise ApiError(400, message, param="messages", code="unsupported_value")
    return turns[0]


def chat_options(request: ChatRequest) -> RequestOptions:
    """
    The options of a request: greedy without a temperature or with 0, where `top_p` and `seed` have nothing to change.

    Raises:
        ApiError: 400, a value is out of its range.
    """
    values: dict[str, Any] = {"max_new_tokens": request.max_completion_tokens or request.max_tokens}
    if request.temperature:
        values |= {"do_sample": True, "temperature": float(request.temperature)}
        values |= {"top_p": request.top_p, "seed": request.seed}
    elif request.temperature == 0:
        values["do_sample"] = False
    return checked(RequestOptions, values)
