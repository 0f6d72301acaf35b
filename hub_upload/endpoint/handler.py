"""Inference Endpoints of the Hugging Face Hub: articles with their images in, summaries and the selected images out.

A request is JSON, `inputs` and, if it has any, `parameters`:

    {"inputs": {"title": "…", "text": "The article …", "images": ["/9j/4AAQ…", "data:image/png;base64,iVBOR…"]},
     "parameters": {"max_new_tokens": 128}}

This file runs beside the model's own code, on transformers and torch alone. An image is part of the request: no address is
fetched, and no path is read.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import torch
from transformers import pipeline

# Of a request: it is refused, and nothing of it is summarized, if it has more.
MOST_ARTICLES = 16
MOST_IMAGES = 20
MOST_CHARACTERS = 200_000
# Of an image's file. The pixels of the image have Pillow's own limit: a small file can be a huge image.
MOST_BYTES = 10_000_000
MOST_PARAMETERS = {"max_new_tokens": 1_024, "num_beams": 8}
PARAMETERS = (*MOST_PARAMETERS, "threshold", "max_length", "return_evidence")
FIELDS = ("text", "title", "images", "captions")


class EndpointHandler:
    """
    What an endpoint makes once, and calls for each request.

    Args:
        path (`str`, *optional*, defaults to `""`): The folder of the repository.
    """

    def __init__(self, path: str = ""):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.summarize = pipeline("multimodal-summarization", model=path, trust_remote_code=True, device=device)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
        """
        Answers a request.

        Args:
            data (`Mapping[str, Any]`):
                `"inputs"`, an article or a list of at most 16, which are written together. An article is its text, or an
                object with `"text"`, and if it has them `"title"`, `"images"` (at most 20, each the content of a JPEG,
                PNG, GIF, WebP, BMP or TIFF file in base64, also as a `data:image/` URI) and `"captions"` (one per image);
                `"parameters"` (*optional*), an object with `max_new_tokens` (128 by default, at most 1,024), `num_beams`
                (1, at most 8), `threshold`, `max_length` or `return_evidence`, as of the model's pipeline.

        Returns:
            `dict`, or a list of them for a list: `"summary_text"`; `"selected_images"`, each `{"index", "probability"}`, best
            first; `"image_probabilities"`; with `return_evidence` also `"evidence"`.

        Raises:
            ValueError: The request cannot be answered; the message says why, for the client.
        """
        unknown = sorted(set(data) - {"inputs", "parameters"})
        if unknown or "inputs" not in data:
            raise ValueError('a request has "inputs" and, if it has any, "parameters"' + _given(unknown) + ".")
        parameters = _checked_parameters(data.get("parameters"))
        inputs = data["inputs"]
        if not isinstance(inputs, list):
            return self.summarize(_article(inputs, "the article"), **parameters)
        if len(inputs) > MOST_ARTICLES:
            raise ValueError(f'"inputs": {len(inputs)} articles are too many; {MOST_ARTICLES} go at a time.')
        articles = [_article(article, f"article {index}") for index, article in enumerate(inputs)]
        return self.summarize(articles, batch_size=max(len(articles), 1), **parameters)


def _checked_parameters(parameters: Any) -> dict[str, Any]:
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise ValueError('"parameters" must be an object, such as {"max_new_tokens": 128}.')
    unknown = sorted(set(parameters) - set(PARAMETERS))
    if unknown:
        raise ValueError(f'"parameters": {", ".join(unknown)} is unknown; there are {", ".join(PARAMETERS)}.')
    for name, most in MOST_PARAMETERS.items():
        value = parameters.get(name)
        if isinstance(value, int) and value > most:
            raise ValueError(f'"parameters": {name} must be at most {most}, not {value}.')
    return {name: value for name, value in parameters.items() if value is not None}


def _article(article: Any, name: str) -> dict[str, Any]:
    """An article of a request → one of the pipeline, whose images can be nothing but content."""
    if isinstance(article, str):
        article = {"text": article}
    if not isinstance(article, Mapping):
        raise ValueError(f'{name} must be a text, or an object with "text".')
    unknown = sorted(set(article) - set(FIELDS))
    if unknown or not isinstance(article.get("text"), str) or not article["text"].strip():
        raise ValueError(f'{name} has a "text", and "title", "images" and "captions" if it has them{_given(unknown)}.')
    title = article.get("title")
    if not isinstance(title, str | None):
        raise ValueError(f'{name}: "title" must be a string.')
    if len(article["text"]) + len(title or "") > MOST_CHARACTERS:
        raise ValueError(f"{name} has more than {MOST_CHARACTERS:,} characters; shorten it.")
    images = article.get("images") or []
    if not isinstance(images, list) or len(images) > MOST_IMAGES:
        raise ValueError(f'{name}: "images" must be a list of at most {MOST_IMAGES}.')
    contents = [_data_uri(image, f"{name}: image {index}") for index, image in enumerate(images)]
    return {**article, "images": contents}


def _data_uri(image: Any, name: str) -> str:
    """A file's content in base64, checked → a URI, which the pipeline takes for no path and no address."""
    if not isinstance(image, str):
        raise ValueError(f"{name} must be a string: the file's content in base64.")
    content = image.partition(",")[2] if image.startswith("data:") else image
    if len(content) > MOST_BYTES * 4 / 3 + 4:
        raise ValueError(f"{name} has more than {MOST_BYTES / 1e6:.0f} MB; make it smaller.")
    try:
        base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} must be the file's content in base64; addresses and paths are not read.") from None
    return f"data:image/*;base64,{content}"


def _given(names: list[str]) -> str:
    return f", not {', '.join(map(repr, names))}" if names else ""
