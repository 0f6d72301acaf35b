"""CIDEr-D of texts with one or several references, as an `evaluate` module."""

import logging
import unicodedata
from collections.abc import Sequence
from statistics import fmean

import datasets
import evaluate

from .cider_d import cider_d
from .reference_texts import as_lists, leave_out_empty

_DESCRIPTION = """
CIDEr-D (Vedantam et al., 2015): 10 times the cosine between the TF-IDF vectors of a text's and a reference's n-grams, where
no n-gram counts more often than the reference has it, times exp(-(difference of their lengths in words)² / (2 · 6²));
averaged over the article's references, n = 1 … 4 and the articles. In [0, 10]; it is the value of `pycocoevalcap`, which
papers print times 100 (0.85 is their 85). The IDF of an n-gram is log(articles / articles in whose references it stands), so
that a score depends on the whole set of references and compares only where this set is the same.

The words: the text in lower case, composed (NFC), cut at whatever is no letter, mark or number, so that "don't" is "don" and
"t". The tokenizer of `pycocoevalcap`, in Java, cuts a few words otherwise ("do", "n't"); given the same words, the scores are
equal. Chinese, Japanese, Thai and other scripts that put no spaces between words need them put there before.

A text without words scores 0 and is counted; an article whose references have no words is left out and counted, and so is a
reference without words beside others, which `pycocoevalcap` would count as one that nothing resembles. An n-gram that
stands in the references of all articles weighs nothing: with one article alone the score is 0, whatever the text, and a
warning says so.
"""
_CITATION = """
@inproceedings{vedantam2015cider,
    title = {{CIDEr}: Consensus-based Image Description Evaluation},
    author = {Vedantam, Ramakrishna and Zitnick, C. Lawrence and Parikh, Devi},
    booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition}, year = {2015}}
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str]`): The texts; `""` where empty.
    references (`list[list[str]]` or `list[str]`): Per text its references, at least one, or the only one; `""` where there
        is none.
    per_example (`bool`, *optional*, defaults to `False`): Whether to return each article's score as well.

Returns:
    `cider`: mean over the articles, in [0, 10]; `articles`: how many were averaged; `articles_without_reference`: how many
    were left out, as none of their references has a word; `empty_references`: how many references of the averaged ones were
    left out, as they have no word; `empty_predictions`: how many of the averaged ones have no word, and so score 0;
    `per_example` (on demand): under `cider` one value per article, None where it was left out.

Raises:
    ValueError: when a text or a reference is None, an article's list of references is empty, or no article has a reference
        with a word, so that there is nothing to average.
"""

logger = logging.getLogger(__name__)


def words(text: str) -> list[str]:
    """The words of a text, by the rule in the metric's description."""
    text = unicodedata.normalize("NFC", text.lower())
    return "".join(letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in text).split()


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Cider(evaluate.Metric):
    """CIDEr-D, averaged over the articles."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": text, "references": datasets.List(text)}),
        )

    def add(self, *, prediction: str, reference: str | Sequence[str]) -> None:
        """Add one prediction and its references."""
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> None:
        """Add a batch of predictions and references."""
        super().add_batch(predictions=predictions, references=as_lists("cider", predictions, references))

    def _compute(
        self, predictions: list[str], references: list[list[str]], per_example: bool = False
    ) -> dict[str, object]:
        averaged = leave_out_empty("cider", [[words(text) for text in texts] for texts in references])
        candidates = [words(predictions[index]) for index in averaged.indices]
        if len(candidates) == 1:
            logger.warning("cider: with one article the IDF of every n-gram is log(1/1), so that its score is 0.")
        scores = cider_d(candidates, averaged.references)
        result: dict[str, object] = {
            "cider": fmean(scores),
            "articles": len(scores),
            "articles_without_reference": len(references) - len(scores),
            "empty_references": averaged.empty_references,
            "empty_predictions": sum(not candidate for candidate in candidates),
        }
        if per_example:
            rows = dict(zip(averaged.indices, scores, strict=True))
            result["per_example"] = {"cider": [rows.get(index) for index in range(len(references))]}
        return result
