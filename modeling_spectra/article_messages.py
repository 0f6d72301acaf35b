"""A chat of one user message, in the shapes that transformers uses → an article's text and images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .image_inputs import DATA_URI

IMAGE_KEYS = ("image", "path", "url", "base64")


class MessageArticle(NamedTuple):
    """The text of a user message, its images in order, and their captions, `""` for none."""

    text: str
    images: list[Any]
    captions: list[str]


def articles_of(conversation: Any) -> tuple[list[MessageArticle], bool]:
    """A conversation, or a list of them → their articles, and whether it was a list.

    Raises:
        ValueError: for other turns than one user message, and for parts of another kind; the message names the
            conversation by its index in the list.
    """
    if not isinstance(conversation, Sequence) or isinstance(conversation, str) or not conversation:
        raise ValueError('a conversation is a list of one message: [{"role": "user", "content": […]}].')
    if isinstance(conversation[0], Mapping):
        return [_article(conversation, "the conversation")], False
    return [_article(turns, f"conversation {index}") for index, turns in enumerate(conversation)], True


def _article(turns: Any, name: str) -> MessageArticle:
    if not isinstance(turns, Sequence) or not all(isinstance(turn, Mapping) for turn in turns):
        raise ValueError(f'{name} must be a list of one message: [{{"role": "user", "content": […]}}].')
    roles = [str(turn.get("role")) for turn in turns]
    if roles != ["user"]:
        raise ValueError(
            f"{name} has the turns {roles}: the model was trained on one user message, which is the article, and its "
            "prompt has no place for others; leave out the rest, instructions too."
        )
    content = turns[0].get("content")
    if isinstance(content, str):
        return MessageArticle(content, [], [])
    if not isinstance(content, Sequence) or not content or not all(isinstance(part, Mapping) for part in content):
        raise ValueError(f"{name}: the content of its message must be a string or a list of text and image parts.")
    texts, images, captions = [], [], []
    for index, part in enumerate(content):
        # Data sets fill in the keys of the other parts with None.
        part = {key: value for key, value in part.items() if value is not None}
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif part.get("type") in ("image", "image_url"):
            images.append(_image(part, f"{name}: part {index}"))
            captions.append(part.get("caption", ""))
            if not isinstance(captions[-1], str):
                raise ValueError(f"{name}: part {index}: its caption must be a string.")
        else:
            raise ValueError(
                f'{name}: part {index} is of type {part.get("type")!r}; an article has {{"type": "text", "text": …}} and '
                '{"type": "image", …} parts.'
            )
    return MessageArticle("\n\n".join(texts), images, captions)


def _image(part: Mapping[str, Any], name: str) -> Any:
    """The image of a part, in a form that [`open_image`] reads."""
    if part["type"] == "image_url":
        # As OpenAI's clients write it.
        address = part.get("image_url")
        part = {"url": address.get("url") if isinstance(address, Mapping) else address}
    given = [key for key in IMAGE_KEYS if part.get(key) is not None]
    if len(given) != 1:
        raise ValueError(f"{name} is an image, and needs exactly one of {', '.join(IMAGE_KEYS)}; it has {given}.")
    [key] = given
    value = part[key]
    if key != "image" and not isinstance(value, str | Path):
        raise ValueError(f"{name}: {key!r} must be a string, not {type(value).__name__}.")
    # What is said to be a path, or to be base64, is read as nothing else.
    if key == "path":
        return Path(value)
    if key == "base64" and not str(value).startswith(DATA_URI):
        return f"{DATA_URI};base64,{value}"
    return value


__all__ = ["MessageArticle", "articles_of"]
