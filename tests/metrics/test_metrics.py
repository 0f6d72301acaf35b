"""The metric modules, against cases computed by hand."""

from pathlib import Path

import evaluate
import pytest

import spectra_sum.metrics
from spectra_sum.metrics import load_metric

NAMES = ("summary_rouge", "image_precision", "visual_facts")
FOLDER = Path(spectra_sum.metrics.__file__).parent


def fact(kind: str, value: str, alternatives: list[str], source: str) -> dict:
    return {"kind": kind, "value": value, "alternatives": alternatives, "source": source}


CITY = fact("city", "Rome", ["Paris", "Oslo"], "text")
NUMBER = fact("number", "12", ["1", "13"], "text")
TREND = fact("trend", "rising", ["falling"], "image")
SETTING = fact("setting", "night", ["desert"], "image")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file_name", ["", "{}.py"])
def test_each_metric_loads_by_folder_and_by_file_without_a_network(name, file_name):
    metric = evaluate.load(str(FOLDER / name / file_name.format(name)))
    assert isinstance(metric, evaluate.Metric)
    assert metric.inputs_description.strip()


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        # 2 of 3 words, 1 of 2 bigrams.
        ("the cat sat", "the cat ran", (2 / 3, 1 / 2, 2 / 3, 2 / 3)),
        # Precision 1, recall 1/2: F1 2/3. No bigram in a one-word prediction.
        ("cat", "cat dog", (2 / 3, 0.0, 2 / 3, 2 / 3)),
        # Porter stemming: runs = running, cats = cat.
        ("cats running", "cat runs", (1.0, 1.0, 1.0, 1.0)),
        # Two sentences in the other order: as one text the common subsequence is 2 of 4 words; by sentences all 4.
        ("alpha beta\ngamma delta", "gamma delta\nalpha beta", (1.0, 2 / 3, 1 / 2, 1.0)),
        ("", "the cat", (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_rouge_of_one_pair(prediction, reference, expected):
    scores = load_metric("summary_rouge").compute(predictions=[prediction], references=[reference])
    assert scores == pytest.approx(dict(zip(("rouge1", "rouge2", "rougeL", "rougeLsum"), expected, strict=True)))


def test_rouge_is_the_mean_over_the_summaries():
    scores = load_metric("summary_rouge").compute(
        predictions=["the cat sat", "one two", "red"], references=["the cat ran", "one two", "blue"]
    )
    assert scores["rouge1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores["rouge2"] == pytest.approx((1 / 2 + 1 + 0) / 3)


def test_image_precision_averages_over_articles_with_gold_and_counts_the_others():
    result = load_metric("image_precision").compute(
        predictions=[[0, 1], [2], [], [0], [5, 4, 3]], references=[[1], [2, 3], [0], [], [3, 4, 0]]
    )
    # 1/2, 1, 0 (nothing selected), left out, 2/3.
    assert result == {
        "image_precision": pytest.approx((1 / 2 + 1 + 0 + 2 / 3) / 4),
        "articles": 4,
        "articles_without_gold": 1,
        "empty_selections": 1,
    }


def test_an_image_selected_twice_is_an_error():
    with pytest.raises(ValueError, match="article 1 names an image twice"):
        load_metric("image_precision").compute(predictions=[[0], [2, 2]], references=[[0], [2]])


def test_facts_are_shares_by_source_and_kind():
    result = load_metric("visual_facts").compute(
        predictions=["Rome opened 12 shops: rising at night.", "Paris opened 13 shops: falling by night."],
        references=[[CITY, NUMBER, TREND, SETTING], [CITY, TREND, SETTING]],
    )
    assert result == {
        "text_facts": pytest.approx(2 / 3),
        "visual_facts": {"trend": 0.5, "setting": 1.0},
        "counts": {"text": 3, "trend": 2, "setting": 2},
    }


@pytest.mark.parametrize(
    ("summary", "right"),
    [
        ("Sales are rising.", True),
        ("Rising sales", True),
        ("Sales are uprising.", False),
        ("Sales are rising, not falling.", False),
        ("Rising over the waterfalling", True),
        ("Sales are flat.", False),
        ("", False),
    ],
)
def test_a_fact_is_a_whole_word_without_an_alternative(summary, right):
    result = load_metric("visual_facts").compute(predictions=[summary], references=[[TREND]])
    assert result["visual_facts"] == {"trend": float(right)}
    assert result["text_facts"] is None


def test_a_number_inside_a_longer_number_is_no_fact():
    metric = load_metric("visual_facts")
    assert metric.compute(predictions=["opened 112 shops"], references=[[NUMBER]])["text_facts"] == 0.0
    assert metric.compute(predictions=["opened 12 shops"], references=[[NUMBER]])["text_facts"] == 1.0


def test_an_unknown_source_is_an_error():
    with pytest.raises(ValueError, match="source"):
        load_metric("visual_facts").compute(predictions=["a"], references=[[fact("k", "a", [], "audio")]])


@pytest.mark.parametrize(
    ("name", "predictions", "references", "message"),
    [
        ("summary_rouge", [], [], "no predictions"),
        ("image_precision", [[0]], [[]], "no article has gold"),
        ("image_precision", [], [], "no article has gold"),
        ("visual_facts", ["a summary"], [[]], "no facts"),
        ("visual_facts", [], [], "no facts"),
    ],
)
def test_nothing_to_average_is_an_error(name, predictions, references, message):
    with pytest.raises(ValueError, match=message):
        load_metric(name).compute(predictions=predictions, references=references)
