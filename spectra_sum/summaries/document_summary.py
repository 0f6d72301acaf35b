"""The multimodal summary of a document."""

from dataclasses import dataclass, field
from typing import NamedTuple

from ..documents.parts import Problem
from ..report.contents import SentenceEvidence
from .summary_sentences import SummarySentence


class TokenCounts(NamedTuple):
    """
    What a summary cost; the summaries of a long document's parts, which may be written first, do not count.

    Attributes:
        read (`int`): Tokens of the prompt, its padding not counted.
        written (`int`): Tokens that were generated, the end token included.
    """

    read: int
    written: int


@dataclass
class DocumentSummary:
    """
    The multimodal summary of a document; all lists about images are in the document's order.

    Attributes:
        summary (`str`): The text.
        selected (`list[int]`): Indices of the selected images, best first.
        probabilities (`list[float | None]`): p̂ of each image; `None` for images beyond the model's limit, and for all where
            the model's own predictor does not select.
        evidence (`list[SentenceEvidence]`): For each written sentence the images that its tokens attended to; empty for a
            document without images, and for a model without gates or whose gates are closed.
        problems (`list[Problem]`): What was not read, and other remarks: those of `remarks.py` among them.
        sentences (`list[SummarySentence]`): The summary's sentences, each with its selected images.
        scores (`list[float | None]`): What each image was ranked by: p̂, or the score of the way of selection; `None` for
            an image that was not ranked.
        image_sentences (`list[int | None]`): The place of the sentence that each image belongs to: the one that attended
            to it most where the model's own predictor selects, elsewhere the nearest one.
        tokens (`TokenCounts`, *optional*): What was read and written; `None` of an extract.
    """

    summary: str
    selected: list[int]
    probabilities: list[float | None]
    evidence: list[SentenceEvidence]
    problems: list[Problem]
    sentences: list[SummarySentence] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    image_sentences: list[int | None] = field(default_factory=list)
    tokens: TokenCounts | None = None
