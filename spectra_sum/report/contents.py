"""What a report shows. Texts are plain text; the page escapes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..evaluation.curves import CalibrationPoint, PrecisionAtK


@dataclass
class ReportImage:
    """
    An image of an article.

    Attributes:
        image (`PIL.Image.Image` or `Path`): The image, or a local file.
        alt (`str`): Alternative text; may be empty.
        probability (`float`, *optional*): The relevance predictor's p̂ in [0, 1]; `None` if it was not scored.
        selected (`bool`, *optional*, defaults to `False`): Whether the image belongs to the summary.
        gold (`bool`, *optional*): Whether the annotators chose it; `None` where there is no annotation.
        name (`str`, *optional*, defaults to `""`): The file's name.
        caption (`str`, *optional*, defaults to `""`): The caption.
        score (`float`, *optional*): What the image was ranked by where that is no probability; `None` if it was not ranked.
        sentence (`str`, *optional*, defaults to `""`): The sentence of the summary that the image belongs to.
    """

    image: Image.Image | Path
    alt: str
    probability: float | None = None
    selected: bool = False
    gold: bool | None = None
    name: str = ""
    caption: str = ""
    score: float | None = None
    sentence: str = ""


@dataclass
class ReportSentence:
    """A sentence of a summary, and whether it is the document's own."""

    text: str
    extracted: bool


@dataclass
class SentenceEvidence:
    """A summary sentence, and the share of the gated cross-attention of its tokens that went to each image of the
    article (`None`: the summarizer did not read that image)."""

    sentence: str
    image_weights: Sequence[float | None]


@dataclass
class ReportArticle:
    """
    An article with its generated summary.

    Attributes:
        id (`str`), title (`str`), body (`str`): The article; paragraphs of the body are parted by an empty line.
        images (`list[ReportImage]`): All images, in the article's order.
        summary (`str`): The generated summary.
        reference (`str`, *optional*): The reference summary.
        evidence (`list[SentenceEvidence]`): One entry per summary sentence; weights in the order of `images`.
        remarks (`list[str]`): What must be known of the summary; it stands right below it.
        notes (`list[str]`): What was left out of the article, and other notes; they stand at its end.
        sentences (`list[ReportSentence]`): The summary's sentences where some of them are to be marked as the document's
            own; where there are none, `summary` is shown as it is.
    """

    id: str
    title: str
    body: str
    images: list[ReportImage]
    summary: str
    reference: str | None = None
    evidence: list[SentenceEvidence] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sentences: list[ReportSentence] = field(default_factory=list)


@dataclass
class TrainingCurve:
    """One loss part (`"loss"`, `"loss_lm"`, `"loss_align"`, `"loss_distill"`) of variant `name` as (step, value)."""

    name: str
    part: str
    points: Sequence[tuple[float, float]]


@dataclass
class GateOpening:
    """The opening of one gate of variant `name`: mean |tanh α| in [0, 1] at the end, and as (step, value) points."""

    name: str
    layer: int
    final: float
    points: Sequence[tuple[float, float]] = ()


@dataclass
class VariantRow:
    """Scores of one variant, all in [0, 1] but `seconds` (training time) and `parameters` (all of the model)."""

    name: str
    rouge1: float
    rouge2: float
    rougeL: float
    text_facts: float | None
    visual_facts: Mapping[str, float]
    seconds: float
    parameters: int


@dataclass
class SelectionRow:
    """Image precision and coverage, both in [0, 1], of one way to select images."""

    name: str
    image_precision: float
    coverage: float | None


@dataclass
class RelevancePoint:
    """Relevance and diversity of the images that one system or way of selection selected, each a mean over articles;
    the page names their units by `relevance_label` and `diversity_label` of [`write_report`]."""

    name: str
    relevance: float
    diversity: float


@dataclass
class PrecisionCurve:
    """Image precision over k of the ranking `name`, in order of k (see [`~spectra_sum.evaluation.curves.precision_over_k`])."""

    name: str
    points: Sequence[PrecisionAtK]


@dataclass
class CalibrationCurve:
    """The bins of the probabilities of `name`, in order, and their error in [0, 1] (see
    [`~spectra_sum.evaluation.curves.calibration`])."""

    name: str
    points: Sequence[CalibrationPoint]
    expected_calibration_error: float


@dataclass
class ScoreTable:
    """
    A table of finished texts, such as scores with their confidence intervals.

    Attributes:
        title (`str`): Heading of the section that holds it.
        columns (`Sequence[str]`): The head of every column; the first column names the rows.
        rows (`Sequence[Sequence[str]]`): Rows with one text per column.
        notes (`Sequence[str]`, *optional*, defaults to `()`): Remarks under the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
