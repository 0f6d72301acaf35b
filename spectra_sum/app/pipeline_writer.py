"""Summaries of the app by a `multimodal-summarization` pipeline, such as a Space loads from the Hub."""

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedTokenizerBase, TextStreamer

from spectra_sum.documents.parts import Document
from spectra_sum.summaries.remarks import model_remarks, summary_remarks

from .settings import DEFAULT_LENGTH, RequestSettings, SettingChoices, lengths_within
from .writer import Pieces, Writer, Written


class PipelineWriter(Writer):
    """
    Writes with a pipeline, of this version or, from a model's repository, an earlier one.

    Args:
        pipeline (`Callable`): The pipeline.
        options: Of its call, such as `max_new_tokens`; a request's settings take their place.
    """

    def __init__(self, pipeline: Callable[..., Mapping[str, Any]], **options: Any):
        self.pipeline = pipeline
        self._options = options
        # An earlier version knows no streamer, and its processor no captions.
        parameters = inspect.signature(getattr(pipeline, "_sanitize_parameters", pipeline)).parameters.values()
        self._streams = any(each.name == "streamer" or each.kind == each.VAR_KEYWORD for each in parameters)
        reads_captions = getattr(pipeline.processor, "reads_captions", False)
        self.choices = SettingChoices(
            lengths_within(pipeline.model.config.text_config.max_position_embeddings),
            ("prompt", "none") if reads_captions else ("none",),
            options.get("max_new_tokens"),
            options.get("num_beams", 1),
        )

    def write(self, article: Document, settings: RequestSettings, pieces: Pieces | None = None) -> Written:
        """Summarizes an article; the pipeline's own warnings are among the remarks."""
        given = {"text": article.body, "title": article.title, "images": [image.image for image in article.images]}
        if settings.captions == "prompt":
            given["captions"] = [image.caption or image.alt for image in article.images]
        options = {**self._options, "num_beams": settings.num_beams, "return_evidence": True}
        if settings.length != DEFAULT_LENGTH:
            options["max_new_tokens"] = self.choices.lengths[settings.length]
        tokenizer = self.pipeline.processor.tokenizer
        if pieces is not None and settings.num_beams == 1 and self._streams:
            options["streamer"] = _PiecesStreamer(tokenizer, pieces)
        with _warnings_of(self.pipeline) as warnings:
            result = self.pipeline(given, **options)
        known = model_remarks(self.pipeline.model.config, tokenizer, with_images=bool(article.images))
        known += summary_remarks(result["summary_text"])
        return Written(result, [*warnings, *map(str, known)])


class _Unwanted(Exception):
    """Ends the writing of a summary that nobody waits for."""


class _PiecesStreamer(TextStreamer):
    def __init__(self, tokenizer: PreTrainedTokenizerBase, pieces: Pieces):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._pieces = pieces

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if self._pieces.unwanted:
            raise _Unwanted
        if text:
            self._pieces.put(text)


@contextmanager
def _warnings_of(pipeline: Callable[..., Any]) -> Iterator[Sequence[str]]:
    """What the pipeline's module warns of meanwhile, such as text that was cut."""
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())
    logger = logging.getLogger(type(pipeline).__module__)
    logger.addHandler(handler)
    try:
        yield warnings
    finally:
        logger.removeHandler(handler)
