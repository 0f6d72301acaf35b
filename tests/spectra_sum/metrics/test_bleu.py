"""BLEU-4 against NLTK's, and what its signature says; the cases are in cases/bleu.json."""

import warnings

import numpy as np
import pytest
import sacrebleu
from nltk.translate.bleu_score import corpus_bleu

from spectra_sum.metrics import load_metric

WORDS = "the cat sat ran dog one two blue".split()


def random_articles(seed: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    rng = np.random.default_rng(seed)
    # NLTK counts a candidate under n words as one n-gram that does not match; here each has four words or more.
    references = [
        [rng.choice(WORDS, rng.integers(5, 14)).tolist() for _ in range(rng.integers(1, 4))]
        for _ in range(rng.integers(1, 7))
    ]
    candidates = [(own[0] + own[-1][:2])[rng.integers(0, 4) :] for own in references]
    return candidates, references


@pytest.mark.parametrize("seed", range(10))
def test_bleu_without_smoothing_is_nltks(seed):
    candidates, references = random_articles(seed)
    result = load_metric("bleu").compute(
        predictions=[" ".join(candidate) for candidate in candidates],
        references=[[" ".join(reference) for reference in own] for own in references],
        tokenize="none",
        smooth_method="none",
    )
    with warnings.catch_warnings():
        # It warns where a precision is 0.
        warnings.simplefilter("ignore")
        assert result["bleu"] == pytest.approx(corpus_bleu(references, candidates), abs=1e-12)


def test_the_signature_states_what_was_compared():
    metric = load_metric("bleu")
    inputs = {"predictions": ["A cat sat here."], "references": [["A cat sat there."]]}
    version = f"version:{sacrebleu.__version__}"
    assert metric.compute(**inputs)["signature"] == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|{version}"
    options = {"tokenize": "intl", "lowercase": True, "smooth_method": "floor"}
    assert (
        metric.compute(**inputs, **options)["signature"]
        == f"nrefs:1|case:lc|eff:no|tok:intl|smooth:floor[0.10]|{version}"
    )
    several = {"predictions": ["A cat.", "A dog."], "references": [["A cat.", "The cat."], ["A dog.", ""]]}
    assert metric.compute(**several)["signature"].startswith("nrefs:var|")


@pytest.mark.parametrize("tokenize", ["13a", "intl", "zh", "char", "none"])
def test_sentences_on_lines_of_their_own_are_one_text(tokenize):
    lines = {"predictions": ["One cat sat.\nTwo dogs ran."], "references": [["One cat sat.\nTwo blue dogs ran."]]}
    line = {"predictions": ["One cat sat. Two dogs ran."], "references": [["One cat sat. Two blue dogs ran."]]}
    metric = load_metric("bleu")
    expected = metric.compute(**line, tokenize=tokenize)
    assert metric.compute(**lines, tokenize=tokenize) == expected and 0 < expected["bleu"] < 1


def test_one_by_one_is_as_at_once():
    predictions, references = ["a b c d", "e f g"], [["a b c d", "a b"], "e f g h"]
    metric = load_metric("bleu")
    for prediction, reference in zip(predictions, references, strict=True):
        metric.add(prediction=prediction, reference=reference)
    result = metric.compute(per_example=True)
    assert 0 < result["bleu"] < 1
    assert result == load_metric("bleu").compute(predictions=predictions, references=references, per_example=True)
