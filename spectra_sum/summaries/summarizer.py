"""From a document to its multimodal summary: text, ranked images, and what each sentence attended to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image
from transformers import BatchFeature

from modeling_spectra.summarization import GeneratedSummary, generate_summaries, prepare_articles, sentence_evidence

from ..documents.parts import Document, DocumentError, Problem
from ..models.loading import LoadedModel
from ..report.contents import SentenceEvidence
from .options import SummaryOptions
from .remarks import model_remarks, predictor_is_trained, summary_remarks

if TYPE_CHECKING:
    from ..models.text_encoder import TextEncoder
    from ..selection.after_summary import ImageRanker


@dataclass
class DocumentSummary:
    """
    The multimodal summary of a document; all lists about images are in the document's order.

    Attributes:
        summary (`str`): The generated text.
        selected (`list[int]`): Indices of the selected images, most probable first.
        probabilities (`list[float | None]`): p̂ of each image; `None` for images beyond the model's limit.
        evidence (`list[SentenceEvidence]`): For each sentence the images that its tokens attended to; empty for a
            document without images, and for a model without gates or whose gates are closed.
        problems (`list[Problem]`): What was not read, and other remarks: those of `remarks.py` among them.
    """

    summary: str
    selected: list[int]
    probabilities: list[float | None]
    evidence: list[SentenceEvidence]
    problems: list[Problem]


class Summarizer:
    """
    Summarizes one document at a time.

    Args:
        loaded (`LoadedModel`):
            Model and processor; the model is moved to the GPU if there is one.
        options (`SummaryOptions`, *optional*):
            How it summarizes.
        text_encoder (`TextEncoder`, *optional*):
            Finds the sentences that carry a document.
        ranker (`ImageRanker`, *optional*):
            Selects images by the finished summary.

    Raises:
        OptionsError: The model cannot do what the options ask for.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        options: SummaryOptions | None = None,
        text_encoder: "TextEncoder | None" = None,
        ranker: "ImageRanker | None" = None,
    ):
        ranks = loaded.trained and predictor_is_trained(loaded.model.config)
        options = (options or SummaryOptions()).filled(trained=loaded.trained, ranks=ranks)
        self.model = loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.processor = loaded.processor
        self.trained = loaded.trained
        self.options = options
        self.max_new_tokens = options.max_new_tokens
        self.num_beams = options.num_beams
        self.threshold = options.threshold
        self.text_encoder = text_encoder
        self.ranker = ranker

    @torch.no_grad()
    def summarize(self, document: Document) -> DocumentSummary:
        """
        Summarizes a document and ranks its images.

        Raises:
            DocumentError: The title leaves no room for the body within the model's length.
        """
        problems: list[Problem] = []
        limit = self.model.config.max_candidate_images
        images = [image.image for image in document.images[:limit]]
        beyond = len(document.images) - len(images)
        if beyond:
            problems.append(Problem("image_limit", f"{beyond} images after the first {limit} are not scored"))
        tokenizer = self.processor.tokenizer
        problems += model_remarks(self.model.config, tokenizer, trained=self.trained, with_images=bool(images))

        inputs = self._inputs(document, images, problems)
        summary = self._generate(inputs, problems)
        problems += summary_remarks(summary.text)
        selection = self.model.select_images(**inputs, threshold=self.threshold)
        evidence = sentence_evidence(self.model, tokenizer, inputs, summary, len(document.images))
        return DocumentSummary(
            summary.text.strip(),
            selection.indices[0],
            selection.probabilities[0].tolist() + [None] * beyond,
            [SentenceEvidence(*entry) for entry in evidence],
            problems,
        )

    def _inputs(self, document: Document, images: list[Image.Image], problems: list[Problem]) -> BatchFeature:
        try:
            inputs, [read] = prepare_articles(
                self.model, self.processor, [document.body], [document.title], [images], self.max_new_tokens
            )
        except ValueError as error:
            raise DocumentError(f"{document.source}: {error}") from None
        if read.cut:
            problems.append(Problem("body_cut", f"the last {read.cut} of its {read.whole} text tokens were not read"))
        return inputs

    def _generate(self, inputs: BatchFeature, problems: list[Problem]) -> GeneratedSummary:
        [summary] = generate_summaries(
            self.model, self.processor.tokenizer, inputs, self.max_new_tokens, self.num_beams
        )
        if not summary.ended:
            problems.append(Problem("summary_cut", f"the summary was stopped at {self.max_new_tokens} tokens"))
        return summary
