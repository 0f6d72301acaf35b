"""BLEU-4 of texts with one or several references by the `sacrebleu` library, as an `evaluate` module."""

from collections.abc import Sequence
from itertools import zip_longest

import datasets
import evaluate
from sacrebleu.metrics import BLEU

from .reference_texts import as_lists, leave_out_empty

_DESCRIPTION = """
BLEU-4 (Papineni et al., 2002) of the whole set of texts by the `sacrebleu` library (Post, 2018): the geometric mean of the
precisions of n-grams, n = 1 … 4, each counted over all texts and at most as often as one of the article's references has
it, times the brevity penalty min(1, exp(1 - r / c)), c the tokens of all texts and r those of the references nearest in
length. In [0, 1]; `sacrebleu` and papers print it times 100. It is no mean over articles.

Tokens are those of `tokenize`, by default "13a", the one of WMT: punctuation marks are tokens of their own and letter case
counts. The result's `signature` states tokenizer, case, smoothing and the library's version; BLEU compares only between
equal ones. The BLEU-4 of `pycocoevalcap` drops case, punctuation and smoothing, and so is another number.

Where all texts are shorter than four tokens BLEU is 0, even if they are equal to their references.

A text without tokens matches nothing, but its reference counts for the brevity penalty, and it is counted. An article whose
references have no text is left out and counted, and so is a reference without text beside others.
"""
_CITATION = """
@inproceedings{papineni-etal-2002-bleu,
    title = "{B}leu: a Method for Automatic Evaluation of Machine Translation",
    author = "Papineni, Kishore and Roukos, Salim and Ward, Todd and Zhu, Wei-Jing",
    booktitle = "Proceedings of the 40th Annual Meeting of the Association for Computational Linguistics", year = "2002"}
@inproceedings{post-2018-call,
    title = "A Call for Clarity in Reporting {BLEU} Scores", author = "Post, Matt",
    booktitle = "Proceedings of the Third Conference on Machine Translation", year = "2018"}
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str]`): The texts, as they are to be read (not tokenized); `""` where empty.
    references (`list[list[str]]` or `list[str]`): Per text its references, at least one, or the only one; `""` where there
        is none.
    tokenize (`str`, *optional*, defaults to `"13a"`): The library's tokenizer: `"13a"`, `"intl"` (by Unicode categories),
        `"zh"` (Chinese characters apart), `"char"` or `"none"` (at spaces). Those that fetch a model or need other
        packages are refused.
    lowercase (`bool`, *optional*, defaults to `False`): Whether to put all texts into lower case.
    smooth_method (`str`, *optional*, defaults to `"exp"`): How a precision of 0 is replaced: `"exp"` (by 1/2, 1/4, … of one
        match), `"floor"` (by 0.1 matches), `"add-k"` (one match more for n > 1) or `"none"`, where BLEU then is 0.
    per_example (`bool`, *optional*, defaults to `False`): Whether to return each article's BLEU as well.
    statistics (`bool`, *optional*, defaults to `False`): Whether to return each article's counts as well, from whose sums over
        any articles their BLEU follows.

Returns:
    `bleu`: in [0, 1]; `precisions`: of n-grams, n = 1 … 4, in [0, 1], smoothed; 0 where no text has n tokens, and all 0
    where nothing matches; `brevity_penalty`: in [0, 1]; `prediction_tokens`, `reference_tokens`: c and r; `signature`: the
    library's description of the setting; `articles`: how many were read; `articles_without_reference`: how many were left
    out, as none of their references has text; `empty_references`: how many references of the articles read were left out,
    as they have no text; `empty_predictions`: how many of the articles read have no text; `per_example` (on demand): under
    `bleu` one value per article, in [0, 1], None where it was left out. These are over the n-grams up to the longest that
    the text has (the library's effective order); their mean is not `bleu`. `statistics` (on demand): one list per article of c,
    r, the n-grams of the text that the references have, n = 1 … 4, and all of its n-grams, n = 1 … 4; None where it was left out.

Raises:
    ValueError: when a text or a reference is None, an article's list of references is empty, or no article has a reference
        with text; for an unknown tokenizer or smoothing.
"""

TOKENIZERS = ("13a", "intl", "zh", "char", "none")
SMOOTHING = ("exp", "floor", "add-k", "none")


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Bleu(evaluate.Metric):
    """BLEU-4 of a whole set of texts."""

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
        super().add_batch(predictions=predictions, references=as_lists("bleu", predictions, references))

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        tokenize: str = "13a",
        lowercase: bool = False,
        smooth_method: str = "exp",
        per_example: bool = False,
        statistics: bool = False,
    ) -> dict[str, object]:
        for argument, value, known in (
            ("tokenize", tokenize, TOKENIZERS),
            ("smooth_method", smooth_method, SMOOTHING),
        ):
            if value not in known:
                raise ValueError(f"bleu: {argument} is one of {', '.join(known)}, not {value!r}.")
        read = leave_out_empty("bleu", [[text.strip() for text in texts] for texts in references])
        texts = [predictions[index].strip() for index in read.indices]
        options = {"tokenize": tokenize, "lowercase": lowercase, "smooth_method": smooth_method}
        scorer = BLEU(**options)
        # Its lists hold the first reference of each text, the second ones, …: None where a text has fewer.
        score = scorer.corpus_score(texts, list(zip_longest(*read.references)))
        result: dict[str, object] = {
            "bleu": score.score / 100,
            "precisions": [precision / 100 for precision in score.precisions],
            "brevity_penalty": score.bp,
            "prediction_tokens": score.sys_len,
            "reference_tokens": score.ref_len,
            "signature": str(scorer.get_signature()),
            "articles": len(texts),
            "articles_without_reference": len(references) - len(texts),
            "empty_references": read.empty_references,
            "empty_predictions": sum(not text for text in texts),
        }
        if per_example or statistics:
            single = BLEU(**options, effective_order=True)
            scores = [single.sentence_score(text, own) for text, own in zip(texts, read.references, strict=True)]
            rows = dict(zip(read.indices, scores, strict=True))
            placed = [rows.get(index) for index in range(len(references))]
            if per_example:
                result["per_example"] = {"bleu": [row and row.score / 100 for row in placed]}
            if statistics:
                result["statistics"] = [row and [row.sys_len, row.ref_len, *row.counts, *row.totals] for row in placed]
        return result
