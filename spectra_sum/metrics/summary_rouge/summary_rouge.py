"""ROUGE of summaries, with bootstrap intervals, as an `evaluate` module."""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from rouge_score import rouge_scorer
from scipy.stats import bootstrap

from .unicode_tokenizer import UnicodeTokenizer, in_another_script

_DESCRIPTION = """
ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum F1 (Lin, 2004) by the `rouge_score` package, with Porter stemming:
F1 = 2PR / (P + R), P and R the shares of the summary's and of the reference's unigrams, bigrams or longest common
subsequence that the other one has as well. ROUGE-L takes the whole text as one sentence; ROUGE-Lsum compares sentences,
which are separated by newlines. A summary that has no text scores 0 and is counted; an article whose reference has no
text is left out and counted. `rouge_score` sees the letters a to z and digits only: an article whose reference is in another
script (fewer than half of its letters are a to z) is left out and counted, unless the tokenizer is "unicode", which takes
words of all scripts, and single letters where a script has no spaces between words (the rule: unicode_tokenizer.py).
A reported interval is the percentile bootstrap of the mean over articles.
"""
_CITATION = """
@inproceedings{lin-2004-rouge,
    title = "{ROUGE}: A Package for Automatic Evaluation of Summaries", author = "Lin, Chin-Yew", year = "2004",
    booktitle = "Text Summarization Branches Out", publisher = "Association for Computational Linguistics"}
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str]`): The summaries, their sentences separated by newlines; `""` where empty.
    references (`list[str]`): One reference per summary, its sentences separated by newlines; `""` where there is none.
    confidence (`float`, *optional*, defaults to `0.95`): Confidence level of the intervals, between 0 and 1.
    resamples (`int`, *optional*, defaults to `1000`): Resamples of the bootstrap over articles; 0 for no intervals.
    seed (`int`, *optional*, defaults to `0`): Seed of the bootstrap.
    tokenizer (`str`, *optional*, defaults to `"default"`): `"default"`, that of `rouge_score`, or `"unicode"`. Their scores
        agree on plain English.
    per_example (`bool`, *optional*, defaults to `False`): Whether to return each article's scores as well.

Returns:
    `rouge1`, `rouge2`, `rougeL`, `rougeLsum`: mean F1 over the articles, in [0, 1]; `articles`: how many were averaged;
    `articles_without_reference`: how many were left out, as their reference has no text; `references_in_another_script`:
    how many more, as the tokenizer does not know it; `empty_predictions`, `predictions_in_another_script`: how many of the
    averaged ones have no text, or none that the tokenizer knows, and so score 0 or little;
    `confidence_intervals` (unless `resamples` is 0): per score its `[low, high]`, both the mean itself where one article
    is averaged; `per_example` (on demand): per score one value per article, None where it was left out.

Raises:
    ValueError: when a summary or reference is None; when no article has a reference that the tokenizer knows, so that there
        is nothing to average; for an unknown tokenizer, a confidence outside (0, 1) or negative resamples.
"""

TOKENIZERS = ("default", "unicode")
KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
# Resamples drawn at once: a test set of 10,000 articles then takes 16 MB, not 320. The draws are the same.
RESAMPLES_AT_ONCE = 50


def confidence_intervals(scores: np.ndarray, confidence: float, resamples: int, seed: int) -> dict[str, list[float]]:
    """Percentile bootstrap of the means of `scores` (articles, kinds) over the articles: per kind `[low, high]`."""
    if len(scores) == 1:
        return {kind: [float(value), float(value)] for kind, value in zip(KINDS, scores[0], strict=True)}
    interval = bootstrap(
        (scores,),
        np.mean,
        axis=0,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=RESAMPLES_AT_ONCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {
        kind: [float(low), float(high)] for kind, low, high in zip(KINDS, interval.low, interval.high, strict=True)
    }


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class SummaryRouge(evaluate.Metric):
    """ROUGE F1 with Porter stemming, averaged over the articles."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def add_batch(self, *, predictions: Sequence[str], references: Sequence[str]) -> None:
        """Add a batch of predictions and references."""
        for argument, values in (("predictions", predictions), ("references", references)):
            for index, value in enumerate(values):
                if value is None:
                    raise ValueError(
                        f"summary_rouge: {argument} of article {index} is None; give an empty text if it is empty."
                    )
        super().add_batch(predictions=predictions, references=references)

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        confidence: float = 0.95,
        resamples: int = 1000,
        seed: int = 0,
        tokenizer: str = "default",
        per_example: bool = False,
    ) -> dict[str, object]:
        if not 0 < confidence < 1:
            raise ValueError(f"summary_rouge: confidence lies between 0 and 1, not at {confidence}.")
        if resamples < 0:
            raise ValueError(f"summary_rouge: resamples is 0 (no intervals) or more, not {resamples}.")
        if tokenizer not in TOKENIZERS:
            raise ValueError(f"summary_rouge: tokenizer is one of {', '.join(TOKENIZERS)}, not {tokenizer!r}.")
        own = tokenizer == "default"
        with_text = [index for index, reference in enumerate(references) if reference.strip()]
        averaged = [index for index in with_text if not (own and in_another_script(references[index]))]
        if not averaged:
            where, fix = (" in the letters a to z", ' (tokenizer="unicode" knows all)') if with_text else ("", "")
            raise ValueError(
                f"summary_rouge: none of the {len(references)} articles has a reference with text{where}; there is "
                f"nothing to average over{fix}."
            )
        scorer = rouge_scorer.RougeScorer(KINDS, use_stemmer=True, tokenizer=None if own else UnicodeTokenizer())
        pairs = [scorer.score(references[index], predictions[index]) for index in averaged]
        scores = np.array([[pair[kind].fmeasure for kind in KINDS] for pair in pairs])
        result: dict[str, object] = dict(zip(KINDS, scores.mean(axis=0).tolist(), strict=True))
        result["articles"] = len(averaged)
        result["articles_without_reference"] = len(references) - len(with_text)
        result["references_in_another_script"] = len(with_text) - len(averaged)
        result["empty_predictions"] = sum(not predictions[index].strip() for index in averaged)
        result["predictions_in_another_script"] = sum(own and in_another_script(predictions[i]) for i in averaged)
        if resamples:
            result["confidence_intervals"] = confidence_intervals(scores, confidence, resamples, seed)
        if per_example:
            rows = dict(zip(averaged, scores.tolist(), strict=True))
            result["per_example"] = {
                kind: [rows[index][column] if index in rows else None for index in range(len(references))]
                for column, kind in enumerate(KINDS)
            }
        return result
