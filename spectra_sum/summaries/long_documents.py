"""What a model reads of a document: all of it, or of a longer one the sentences that carry it, summaries of its parts, or its
beginning."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from PIL import Image

from modeling_spectra import SpectraSumProcessor
from modeling_spectra.summarization import text_length_limit

from ..documents.parts import Document, DocumentError, Problem
from ..extraction.body_sentences import body_sentences
from ..extraction.extract import Encoder, extract
from ..models.kinds import CAUSAL, SPECTRA_SUM
from ..models.loaded import LoadedModel
from .options import SummaryOptions
from .sections import summarized_by_sections


class Reading(NamedTuple):
    """
    What a model is given of a document.

    Attributes:
        body (`str`): The text.
        sentences (`list[str]`): The document's sentences, those of an extract where there is one.
        images (`list[PIL.Image.Image]`): Its first images, as many as the model takes; none for a text model.
        captions (`list[str]`): Their captions, or else their alternative texts; of a text model those of all images. None
            where the model reads none.
        problems (`list[Problem]`): What it is not given.
    """

    body: str
    sentences: list[str]
    images: list[Image.Image]
    captions: list[str]
    problems: list[Problem]


def count_tokens(processor: SpectraSumProcessor, text: str) -> int:
    """Tokens of a text within an article."""
    return len(processor.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def read_for(
    loaded: LoadedModel,
    document: Document,
    options: SummaryOptions,
    encoder: Encoder,
    summarize_parts: Callable[[Sequence[Document]], list[str]] | None = None,
) -> Reading:
    """
    Lays out what a model reads of a document.

    Args:
        loaded (`LoadedModel`): The model.
        document (`Document`): The document.
        options (`SummaryOptions`): Filled for the model.
        encoder (`TextEncoder`): Embeds the sentences of a document that does not fit, unless `options.long` is `"cut"`.
        summarize_parts (`Callable`, *optional*): Summaries of a document's parts; needed where `options.long` is
            `"sections"`.

    Raises:
        DocumentError: The title leaves no room for the body within the model's length.
    """
    images, problems = _images(loaded, document, options)
    processor = loaded.processor
    captions = _captions(processor, document, len(images))
    limit = text_length_limit(loaded.model, processor, len(images), options.max_new_tokens)
    room = processor.room_for_body(document.title, max_length=limit)
    if room < 1:
        raise DocumentError(
            f"{document.source}: the title leaves no room for the body within the model's {limit} tokens; shorten it."
        )
    body, sentences = document.body, [sentence.text for sentence in body_sentences(document.body)]
    if options.long != "cut":
        # Captions are read beside the sentences, but not in the place of most of them.
        lines = processor.num_text_tokens("a", document.title, len(images), captions)
        lines -= processor.num_text_tokens("a", document.title, len(images))
        budget, size = max(room - lines, room // 2), lambda text: count_tokens(processor, text)
        summary_size = options.max_new_tokens
        if loaded.extract_words is not None and len(body.split()) > loaded.extract_words:
            budget, size = loaded.extract_words, lambda text: len(text.split())
            summary_size = options.extract_words
        if size(body) > budget and options.long == "sections":
            body, count = summarized_by_sections(document, budget, size, summary_size, summarize_parts)
            problems.append(Problem("long_document", f"the model read summaries of its {count} parts"))
        if size(body) > budget:
            chosen = extract(body, encoder, budget, size, repetition=True)
            body = chosen.text
            if options.long == "select":
                sentences = chosen.sentences
            detail = f"{len(chosen.sentences)} of its {chosen.total} sentences were read, chosen by centroid"
            problems.append(Problem("long_document", detail))
    return Reading(body, sentences, images, captions, problems)


def _captions(processor: SpectraSumProcessor, document: Document, num_images: int) -> list[str]:
    if not processor.reads_captions:
        return []
    shown = document.images[:num_images] if num_images else document.images
    return [image.caption or image.alt for image in shown]


def _images(
    loaded: LoadedModel, document: Document, options: SummaryOptions
) -> tuple[list[Image.Image], list[Problem]]:
    if loaded.kind == CAUSAL:
        return [], []
    trained = loaded.kind == SPECTRA_SUM
    # A trained predictor chooses which ones are read; another model reads the first.
    limit = loaded.model.config.max_candidate_images if trained else loaded.processor.max_images
    images = [image.image for image in document.images[:limit]]
    beyond = len(document.images) - len(images)
    if not beyond:
        return images, []
    verb = "scored" if options.select == "vrp" else "shown to the model"
    return images, [Problem("image_limit", f"{beyond} images after the first {limit} are not {verb}")]
