"""ROUGE of summaries, as an `evaluate` module."""

import datasets
import evaluate
from rouge_score import rouge_scorer

_DESCRIPTION = """
ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum F1 (Lin, 2004) by the `rouge_score` package, with Porter stemming. ROUGE-L
takes the whole text as one sentence; ROUGE-Lsum compares sentences, which are separated by newlines.
"""
_CITATION = """
@inproceedings{lin-2004-rouge,
    title = "{ROUGE}: A Package for Automatic Evaluation of Summaries", author = "Lin, Chin-Yew", year = "2004",
    booktitle = "Text Summarization Branches Out", publisher = "Association for Computational Linguistics"}
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str]`): The summaries. An empty one scores 0.
    references (`list[str]`): One reference per summary.

Returns:
    `rouge1`, `rouge2`, `rougeL`, `rougeLsum`: mean F1 over the summaries, in [0, 1].

Raises:
    ValueError: when there is nothing to average.
"""

KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class SummaryRouge(evaluate.Metric):
    """ROUGE F1 with Porter stemming, averaged over the summaries."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        if not predictions:
            raise ValueError("summary_rouge: there are no predictions to average over.")
        scorer = rouge_scorer.RougeScorer(KINDS, use_stemmer=True)
        scores = [scorer.score(reference, text) for reference, text in zip(references, predictions, strict=True)]
        return {kind: sum(score[kind].fmeasure for score in scores) / len(scores) for kind in KINDS}
