"""CIDEr-D against the code that papers use, by hand, and its properties; more cases are in cases/cider.json."""

import logging
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra_sum.metrics import load_metric
from spectra_sum.metrics.cider.cider import words
from spectra_sum.metrics.cider.cider_d import cider_d

VOCABULARY = "the cat cats sat running ran dog one two blue a of in on red car old ship".split()

text = st.lists(st.sampled_from(VOCABULARY[:8]), max_size=7)
articles = st.lists(st.tuples(text, st.lists(text, min_size=1, max_size=3)), min_size=1, max_size=5)


def random_articles(rng: np.random.Generator) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Candidates, often made of a reference's words, and one to five references for each."""
    vocabulary = VOCABULARY[: rng.integers(2, len(VOCABULARY) + 1)]

    def draw(fewest: int = 0) -> list[str]:
        return rng.choice(vocabulary, rng.integers(fewest, 16)).tolist()

    # Where no reference at all has a word, pycocoevalcap fails.
    references = [[draw(1), *(draw() for _ in range(rng.integers(0, 5)))] for _ in range(rng.integers(1, 9))]
    candidates = [draw() for _ in references]
    for index, own in enumerate(references):
        if rng.random() < 0.6:
            start = rng.integers(0, 4)
            candidates[index] = (own[0] + candidates[index][:3])[start:]
    return candidates, references


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_pycocoevalcap(seed):
    scorers = pytest.importorskip("pycocoevalcap.cider.cider_scorer", reason="pycocoevalcap is not installed")
    rng = np.random.default_rng(seed)
    scored = []
    for case in range(50):
        candidates, references = random_articles(rng)
        # Its code works for n-grams up to 4 only. Every fifth case has another sigma.
        sigma = 6.0 if case % 5 else float(rng.uniform(0.5, 10))
        theirs = scorers.CiderScorer(n=4, sigma=sigma)
        for candidate, own in zip(candidates, references, strict=True):
            theirs += (" ".join(candidate), [" ".join(reference) for reference in own])
        mean, expected = theirs.compute_score()
        found = cider_d(candidates, references, sigma=sigma)
        assert found == pytest.approx(expected.tolist(), abs=1e-12)
        assert np.mean(found) == pytest.approx(mean, abs=1e-12)
        scored += found
    # The cases tell something: from nothing in common to nearly the same.
    assert min(scored) == 0 and max(scored) > 5 and np.mean(np.array(scored) > 0) > 0.5


def test_two_articles_by_hand():
    candidates = [["red", "red", "car"], ["old", "boat"]]
    references = [[["red", "car"], ["the", "red", "bus"]], [["the", "old", "boat"]]]
    # Two articles. IDF of what stands in one of them: L = log 2, and of "the", which stands in both: 0. L cancels out, so that
    # 1 stands for it below.
    #
    # Article 0. Candidate: red 2, car 1, ‖g¹‖ = √5; "red red" 1, "red car" 1, ‖g²‖ = √2; "red red car" 1; 3 words.
    # Reference 0, 2 words: red 1, car 1, √2; "red car" 1.
    #   n = 1: (min(2, 1) · 1 + 1 · 1) / (√5 √2) = 2 / √10;  n = 2: 1 · 1 / (√2 · 1) = 1 / √2;  n = 3 and 4: 0
    #   penalty exp(-(3 - 2)² / 72)
    # Reference 1, 3 words: the 0, red 1, bus 1, √2; "the red" 1, "red bus" 1; "the red bus" 1.
    #   n = 1: min(2, 1) · 1 / (√5 √2) = 1 / √10;  n = 2, 3 and 4: 0
    #   penalty 1
    # 10 · mean over n = 1 … 4 and over two references = 10 / 8 · sum.
    first = 10 / 8 * (math.exp(-1 / 72) * (2 / math.sqrt(10) + 1 / math.sqrt(2)) + 1 / math.sqrt(10))
    # Article 1. Candidate: old 1, boat 1, √2; "old boat" 1; 2 words. Reference, 3 words: the 0, old 1, boat 1, √2;
    # "the old" 1, "old boat" 1, √2; "the old boat" 1.
    #   n = 1: 2 / (√2 √2) = 1;  n = 2: 1 / (1 · √2);  n = 3 and 4: 0;  penalty exp(-1 / 72)
    second = 10 / 4 * math.exp(-1 / 72) * (1 + 1 / math.sqrt(2))
    assert cider_d(candidates, references) == pytest.approx([first, second], abs=1e-12)
    result = load_metric("cider").compute(
        predictions=["Red, red car!", "old boat"], references=[["red car", "The red bus."], ["the old boat"]]
    )
    assert result["cider"] == pytest.approx((first + second) / 2, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(rows=articles)
def test_scores_lie_in_their_bounds_and_follow_the_articles(rows):
    candidates, references = [row[0] for row in rows], [row[1] for row in rows]
    scores = cider_d(candidates, references)
    assert all(0 <= score <= 10 + 1e-12 for score in scores)
    turned = cider_d(candidates[::-1], [own[::-1] for own in references[::-1]])
    assert turned[::-1] == pytest.approx(scores, abs=1e-12)
    # Each reference twice is the same average.
    assert cider_d(candidates, [own * 2 for own in references]) == pytest.approx(scores, abs=1e-12)
    # Twice the articles, twice each frequency, where references have all of the n-grams.
    candidates = [own[0] for own in references]
    expected = cider_d(candidates, references) * 2
    assert cider_d(candidates * 2, references * 2) == pytest.approx(expected, abs=1e-12)


def test_each_article_needs_a_reference_and_a_candidate():
    with pytest.raises(ValueError, match="article 1 has no reference"):
        cider_d([["a"], ["b"]], [[["a"]], []])
    with pytest.raises(ValueError):
        cider_d([["a"]], [[["a"]], [["b"]]])


def test_one_article_scores_0_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        assert load_metric("cider").compute(predictions=["red car"], references=[["red car"]])["cider"] == 0
    assert [record.message for record in caplog.records if "log(1/1)" in record.message]
    caplog.clear()
    load_metric("cider").compute(predictions=["red car", "a ship"], references=[["red car"], ["a boat"]])
    assert not caplog.records


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("The harbour's re-opening, at 9:30 a.m.!", "the harbour s re opening at 9 30 a m"),
        ("ÉTÉ e\u0301te\u0301", "été été"),
        ("a_b\n$5\t“x”", "a b 5 x"),
        ("हिन्दी में।", "हिन्दी में"),
        ("Don't", "don t"),
        ("… — !", ""),
    ],
)
def test_words(line, expected):
    assert words(line) == expected.split()


def test_one_by_one_is_as_at_once():
    predictions, references = ["red car", "old ship"], [["red car", "red bus"], "blue ship"]
    metric = load_metric("cider")
    for prediction, reference in zip(predictions, references, strict=True):
        metric.add(prediction=prediction, reference=reference)
    result = metric.compute(per_example=True)
    assert result["cider"] > 0
    assert result == load_metric("cider").compute(predictions=predictions, references=references, per_example=True)
