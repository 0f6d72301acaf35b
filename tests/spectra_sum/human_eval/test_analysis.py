"""The analysis against hand-computed answers; alpha against Krippendorff's published example and a case worked by hand."""

import json

import pytest

from spectra_sum.human_eval.analysis import analyse, ordinal_alpha, score_question
from spectra_sum.human_eval.answers import Answer, KeyEntry, filter_answers
from spectra_sum.human_eval.questions import QUESTIONS
from spectra_sum.human_eval.result_table import markdown, published_human_evaluation


def answer(item: str, worker: str, *ratings: int) -> Answer:
    return Answer(item, worker, dict(zip([question.name for question in QUESTIONS], ratings, strict=True)))


def test_alpha_of_krippendorffs_example():
    # "Computing Krippendorff's Alpha-Reliability" (2011), section C: 12 units, 4 observers; ordinal alpha is .815 there.
    observers = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    units = {str(n): [int(row[n]) for row in observers if row[n] != "."] for n in range(12)}
    assert [len(unit) for unit in units.values()] == [3, 4, 4, 4, 4, 4, 4, 4, 4, 3, 2, 1]
    assert ordinal_alpha(units) == pytest.approx(0.815, abs=5e-4)


def test_alpha_by_hand():
    # n = 6 values: n1 = n2 = n5 = 1, n4 = 3. Ordinal differences (sum of n between, ends by half) squared: 1-2: 1, 1-4: 9,
    # 1-5: 25, 2-4: 4, 2-5: 16, 4-5: 4. Observed: 2 (1 * 1 + 1 * 4) = 10. Expected: 2 (1*1 + 3*9 + 1*25 + 3*4 + 1*16 + 3*4)
    # / (6 - 1) = 186 / 5. The single rating of the last item does not count.
    ratings = {"a": [1, 2], "b": [4, 4], "c": [5, 4], "d": [3]}
    assert ordinal_alpha(ratings) == pytest.approx(1 - 10 / (186 / 5), abs=1e-12)


@pytest.mark.parametrize(
    "ratings", [{"a": [3]}, {"a": [3], "b": [4]}, {"a": [3, 3], "b": [3, 3]}, {"a": [3, 3], "b": [4]}]
)
def test_alpha_is_undefined_without_two_different_pairable_ratings(ratings):
    assert ordinal_alpha(ratings) is None


def test_scores_by_hand():
    # 8 ratings, sum 25, squares 89: SD² = (89 - 25²/8) / 7. Pairs: a 5-4, 5-2, 4-2; b 3-3; c 4-3; differences
    # 1 3 2 0 1: 1 of 5 equal, 3 of 5 within one.
    scores = score_question({"a": [5, 4, 2], "b": [3, 3], "c": [4, 3], "d": [1]})
    assert (scores.ratings, scores.items, scores.pairs) == (8, 4, 5)
    assert scores.mean == pytest.approx(25 / 8)
    assert scores.sd == pytest.approx(((89 - 25**2 / 8) / 7) ** 0.5)
    assert scores.share_good == pytest.approx(3 / 8)
    assert scores.exact_agreement == pytest.approx(1 / 5)
    assert scores.within_one_agreement == pytest.approx(3 / 5)


def test_a_single_rating_has_neither_deviation_nor_agreement():
    scores = score_question({"a": [4]})
    assert (scores.mean, scores.share_good, scores.ratings, scores.pairs) == (4, 1, 1, 0)
    assert scores.sd is scores.exact_agreement is scores.within_one_agreement is scores.alpha is None


@pytest.fixture
def analysis():
    key = {
        "i1": KeyEntry("ours|new", "x", None),
        "i2": KeyEntry("ours|new", "y", None),
        "i3": KeyEntry("theirs", "x", None),
        "i4": KeyEntry("theirs", "y", None),
        "c": KeyEntry("ours|new", "z", 2),
    }
    answers = [
        answer("c", "w1", 2, 2, 2, 2),
        answer("i1", "w1", 5, 4, 3, 4),
        answer("i2", "w1", 3, 4, 5, 4),
        answer("i3", "w1", 1, 1, 1, 1),
        answer("c", "w2", 2, 2, 2, 2),
        answer("i1", "w2", 4, 4, 1, 4),
        answer("i3", "w2", 2, 1, 4, 1),
        answer("c", "w3", 2, 2, 2, 4),
        answer("i1", "w3", 1, 1, 1, 1),
        answer("i4", "w4", 1, 1, 1, 1),
    ]
    return analyse(filter_answers(answers, key), key)


def test_analysis_by_system_and_question(analysis):
    ours, theirs = analysis["systems"]["ours|new"], analysis["systems"]["theirs"]
    assert ours["text_quality"]["mean"] == 4
    assert ours["text_quality"]["sd"] == 1
    assert ours["text_quality"]["share_good"] == pytest.approx(2 / 3)
    assert (ours["text_quality"]["exact_agreement"], ours["text_quality"]["within_one_agreement"]) == (0, 1)
    assert (ours["image_diversity"]["mean"], ours["image_diversity"]["within_one_agreement"]) == (3, 0)
    assert (ours["overall"]["mean"], ours["overall"]["sd"], ours["overall"]["alpha"]) == (4, 0, None)
    assert (theirs["text_quality"]["mean"], theirs["image_diversity"]["mean"]) == (1.5, 2.5)
    assert theirs["image_relevance"]["exact_agreement"] == 1
    both = analysis["all_systems"]
    assert (both["text_quality"]["mean"], both["text_quality"]["ratings"], both["text_quality"]["pairs"]) == (3, 5, 2)
    # Perfect agreement on different values.
    assert both["overall"]["alpha"] == 1
    assert both["image_relevance"]["exact_agreement"] == 1
    assert analysis["dropped"] == {
        "workers_failing_checks": 1,
        "workers_without_check": 1,
        "answers_of_dropped_workers": 2,
        "answers_to_attention_checks": 3,
        "items_without_answers": 1,
    }
    json.dumps(analysis, allow_nan=False)


def test_markdown_stands_beside_the_published_numbers(analysis):
    published = published_human_evaluation()
    table = markdown(analysis, published)
    lines = table.splitlines()
    assert "| ours\\|new | Text quality | 4.00 (1.00) | 66.7 | 3 | 0.000 | 1.000 | " in table
    assert "| theirs | Image relevance | 1.00 (0.00) | 0.0 | 2 | 1.000 | 1.000 | – |" in lines
    for label, mean in (
        ("Text quality", "3.90"),
        ("Image relevance", "4.04"),
        ("Image diversity", "3.89"),
        ("Overall", "4.00"),
    ):
        assert f"| published ¹ | {label} | {mean} | – | – | – | – | – |" in lines
    assert "200 articles, 3 annotations each" in table and "arXiv:2605.11753" in table
    assert "Answers of 2 of 4 workers count. Left out:" in lines
    assert "- 1 workers who failed the attention checks" in lines


def test_a_system_of_which_no_answer_counts_is_listed():
    key = {"i1": KeyEntry("a_*b*<i>", "x", None), "i2": KeyEntry("silent", "x", None), "c": KeyEntry("checks", "z", 2)}
    answers = [answer("c", "w1", 2, 2, 2, 2), answer("i1", "w1", 5, 4, 3, 4), answer("i2", "w2", 1, 1, 1, 1)]
    analysis = analyse(filter_answers(answers, key), key)
    assert list(analysis["systems"]) == ["a_*b*<i>", "silent"]
    scores = analysis["systems"]["silent"]["overall"]
    assert (scores["mean"], scores["share_good"], scores["ratings"], scores["items"]) == (None, None, 0, 0)
    lines = markdown(analysis, published_human_evaluation()).splitlines()
    assert "| silent | Overall | – | – | 0 | – | – | – |" in lines
    # A name stays text.
    assert r"| a\_\*b\*\<i\> | Overall | 4.00 (–) | 100.0 | 1 | – | – | – |" in lines
    assert r"| *all systems* | Overall | 4.00 (–) | 100.0 | 1 | – | – | – |" in lines
