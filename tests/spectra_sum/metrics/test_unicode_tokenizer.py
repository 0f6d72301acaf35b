"""ROUGE's words of all scripts, and what the default tokenizer does not know."""

import os
from pathlib import Path

import pytest
from rouge_score.tokenizers import DefaultTokenizer

from spectra_sum.evaluation.scores import score_articles
from spectra_sum.metrics.summary_rouge.unicode_tokenizer import UnicodeTokenizer, in_another_script
from spectra_sum.msmo.closed_world import closed_world_dataset


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Šárka's café, naïve", ["šárka", "s", "café", "naïve"]),
        ("Straße STRASSE running", ["strass", "strass", "run"]),
        ("ﬁne ①", ["fine", "1"]),
        ("東京でiPhone15を", ["東", "京", "で", "iphone15", "を"]),
        ("ไม่มี", ["ไ", "ม่", "มี"]),
        ("한국어 시험", ["한국어", "시험"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("… — !", []),
    ],
)
def test_tokens(text, tokens):
    assert UnicodeTokenizer().tokenize(text) == tokens


@pytest.mark.skipif("SPECTRA_DATA" not in os.environ, reason="SPECTRA_DATA names no folder of real articles")
def test_plain_english_has_the_tokens_of_rouge_score():
    files = sorted(Path(os.environ["SPECTRA_DATA"], "msmo_18f", "test_data", "article").glob("*.txt"))
    assert len(files) == 32
    for file in files:
        text = file.read_text(encoding="utf-8")
        plain = text.encode("ascii", "replace").decode()
        assert UnicodeTokenizer().tokenize(plain) == DefaultTokenizer(use_stemmer=True).tokenize(plain)
        assert not in_another_script(text)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("Il a été élevé à l'étranger", False),
        ("Москва", True),
        ("2026年 iOS 发布了新的系统", True),
        ("The Moscow river (Москва)", False),
        ("123 …", False),
        ("", False),
    ],
)
def test_what_is_in_another_script(text, other):
    assert in_another_script(text) is other


def test_scores_in_another_script_are_not_computed_or_computed_by_unicode():
    records = closed_world_dataset({"test": 2}, seed=0)["test"].remove_columns("summary")
    records = records.add_column("summary", [["Кошка сидит дома."], ["Собака спит."]])
    predictions = [{"summary": text, "selected": [], "probabilities": []} for text in ("Кошка сидит.", "Собака спит.")]
    scores = score_articles(predictions, records)
    assert "rouge1" not in scores.values
    assert "letters a to z" in scores.not_computed["rougeLsum"] and "unicode" in scores.not_computed["rougeLsum"]
    scores = score_articles(predictions, records, rouge_tokenizer="unicode")
    # Two words of two, of three: 2 · 1 · (2 / 3) / (5 / 3) = 0.8.
    assert scores.values["rouge1"] == pytest.approx([0.8, 1.0])
