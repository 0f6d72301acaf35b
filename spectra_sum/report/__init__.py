"""The HTML report: articles with their summaries and images, and the numbers of a training run."""

from .contents import (
    GateOpening,
    ReportArticle,
    ReportImage,
    SelectionRow,
    SentenceEvidence,
    TrainingCurve,
    VariantRow,
)
from .page import write_report

__all__ = [
    "GateOpening",
    "ReportArticle",
    "ReportImage",
    "SelectionRow",
    "SentenceEvidence",
    "TrainingCurve",
    "VariantRow",
    "write_report",
]
