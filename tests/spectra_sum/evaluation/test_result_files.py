"""Means with intervals, MMAE among them, and the files that hold them."""

import json

import numpy as np
import pytest

from spectra_sum.evaluation.result_files import interval_scores, write_results
from spectra_sum.evaluation.scores import ArticleScores

ROUGE_L, MAX_SIM, PRECISION = [0.2, 0.4, 0.3, 0.1], [0.1, None, 0.3, 0.2], [1.0, 0.5, None, 0.0]


def test_mean_interval_and_count():
    scores = ArticleScores(values={"rougeL": ROUGE_L, "max_sim": MAX_SIM, "recall": [None, 0.5, None, None]})
    results = interval_scores(scores, seed=1)
    assert results["rougeL"]["value"] == pytest.approx(0.25)
    assert results["rougeL"]["articles"] == 4
    assert results["max_sim"]["value"] == pytest.approx(0.2)
    assert results["max_sim"]["articles"] == 3
    for name in ("rougeL", "max_sim"):
        assert results[name]["low"] < results[name]["value"] < results[name]["high"]
    assert results["recall"] == {"value": 0.5, "low": 0.5, "high": 0.5, "articles": 1}
    assert "mmae" not in results


def test_interval_is_about_two_standard_errors_wide():
    values = np.random.default_rng(0).random(400).tolist()
    scores = ArticleScores(values={"rouge1": values})
    assert interval_scores(scores, seed=0) == interval_scores(scores, seed=0) != interval_scores(scores, seed=1)
    result = interval_scores(scores, seed=0)["rouge1"]
    error = np.std(values) / np.sqrt(len(values))
    assert result["high"] - result["value"] == pytest.approx(1.96 * error, rel=0.15)
    assert result["value"] - result["low"] == pytest.approx(1.96 * error, rel=0.15)


def test_score_without_any_article_is_left_out_with_its_reason():
    scores = ArticleScores(values={"recall": [None, None]})
    assert interval_scores(scores, seed=0) == {}
    assert scores.not_computed == {"recall": "it is undefined for every article"}


def test_mmae_is_the_formula_on_the_means():
    values = {"rougeL": ROUGE_L, "max_sim": MAX_SIM, "image_precision": PRECISION}
    result = interval_scores(ArticleScores(values=values), seed=0)["mmae"]
    # Zhu et al. (2018): the published weights, on the mean of each part over the articles that have it.
    assert result["value"] == pytest.approx(1.978 + 1.641 * 0.25 + 0.854 * 0.2 + 0.806 * 0.5)
    assert result["low"] < result["value"] < result["high"]
    # The first and the last article have all parts.
    assert result["articles"] == 2


def test_mmae_of_equal_articles_has_no_width():
    values = {"rougeL": [0.3] * 5, "max_sim": [0.1] * 4 + [None], "image_precision": [0.5] * 5}
    result = interval_scores(ArticleScores(values=values), seed=0)["mmae"]
    expected = 1.978 + 1.641 * 0.3 + 0.854 * 0.1 + 0.806 * 0.5
    assert (result["low"], result["value"], result["high"]) == pytest.approx((expected,) * 3)


def test_files(tmp_path):
    write_results(tmp_path, {"system": "é"}, ["a", "b\u2028"], {"rouge1": [0.5, None]})
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == {"system": "é"}
    lines = (tmp_path / "scores.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [
        {"id": "a", "rouge1": 0.5},
        {"id": "b\u2028", "rouge1": None},
    ]
    assert lines[-1] == ""
