"""The HTML report: articles with their summaries and images, and the numbers of a training run or an evaluation."""

from .contents import (
    CalibrationCurve,
    GateOpening,
    PrecisionCurve,
    RelevancePoint,
    ReportArticle,
    ReportImage,
    ReportSentence,
    ScoreTable,
    SelectionRow,
    SentenceEvidence,
    TrainingCurve,
    VariantRow,
)
from .page import write_report

__all__ = [
    "CalibrationCurve",
    "GateOpening",
    "PrecisionCurve",
    "RelevancePoint",
    "ReportArticle",
    "ReportImage",
    "ReportSentence",
    "ScoreTable",
    "SelectionRow",
    "SentenceEvidence",
    "TrainingCurve",
    "VariantRow",
    "write_report",
]
