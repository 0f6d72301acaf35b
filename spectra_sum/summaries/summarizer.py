"""From a document to its multimodal summary: text, ranked images, and what each sentence attended to."""

from dataclasses import dataclass

import torch
from PIL import Image
from transformers import BatchFeature

from modeling_spectra.summarization import GeneratedSummary, generate_summaries, prepare_articles, sentence_evidence

from ..documents.parts import Document, DocumentError, Problem
from ..models.loading import LoadedModel
from ..report.contents import SentenceEvidence
from .remarks import model_remarks, summary_remarks


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
        max_new_tokens (`int`, *optional*, defaults to `128`):
            Most tokens of a summary.
        num_beams (`int`, *optional*, defaults to `1`):
            Beams of the search; 1 is greedy.
        threshold (`float`, *optional*):
            Least probability of a selected image.
    """

    def __init__(
        self, loaded: LoadedModel, max_new_tokens: int = 128, num_beams: int = 1, threshold: float | None = None
    ):
        self.model = loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.processor = loaded.processor
        self.trained = loaded.trained
        self.max_new_tokens = max_new_tokens
        self.num_beams = num_beams
        self.threshold = threshold

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
