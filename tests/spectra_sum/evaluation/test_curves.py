import math
import random

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectra_sum.evaluation.curves import CalibrationPoint, PrecisionAtK, calibration, precision_over_k


@st.composite
def articles(draw, distinct=False):
    """(probabilities, gold) of 1 to 6 articles with 1 to 7 images; at least the first article has gold images."""
    probabilities, gold = [], []
    for number in range(draw(st.integers(1, 6))):
        size = draw(st.integers(1, 7))
        # Hundredths: ties are frequent unless excluded, and bin edges are hit.
        hundredths = draw(st.lists(st.integers(0, 100), min_size=size, max_size=size, unique=distinct))
        probabilities.append([value / 100 for value in hundredths])
        gold.append(draw(st.lists(st.integers(0, size - 1), min_size=int(number == 0), max_size=size, unique=True)))
    return probabilities, gold


def test_precision_over_k_by_hand():
    probabilities = [[0.1, 0.9, 0.5], [0.7], [0.2, 0.3], [0.6, 0.4]]
    gold = [[1, 0], [0], [], [1]]
    # Rankings: 1 2 0 (gold, no, gold); 0 (gold); left out; 0 1 (no, gold).
    # k=1: (1 + 1 + 0) / 3; k=2: (1/2 + 1 + 1/2) / 3; k=3: (2/3 + 1 + 1/2) / 3, as at every later k.
    expected = [(1, 2 / 3, 3, 3), (2, 2 / 3, 3, 2), (3, 13 / 18, 3, 1), (4, 13 / 18, 3, 0)]
    points = precision_over_k(probabilities, gold, 4)
    assert all(isinstance(point, PrecisionAtK) for point in points)
    for point, (k, precision, count, with_k) in zip(points, expected, strict=True):
        assert (point.k, point.articles, point.articles_with_k_images) == (k, count, with_k)
        assert point.precision == pytest.approx(precision, abs=1e-12)


def test_of_equal_probabilities_the_first_image_ranks_first():
    assert precision_over_k([[0.5, 0.5, 0.5]], [[0]], 1)[0].precision == 1
    assert precision_over_k([[0.5, 0.5, 0.5]], [[2]], 2)[1].precision == 0


def test_gold_that_was_not_scored_is_not_found():
    # The gold image 4 has no probability; the second article has none at all.
    points = precision_over_k([[0.9, 0.8], []], [[0, 4], [0]], 2)
    assert [point.precision for point in points] == [0.5, 0.25]
    assert [(point.articles, point.articles_with_k_images) for point in points] == [(2, 1), (2, 1)]
    assert calibration([[0.9, 0.8], []], [[0, 4], [0]]).images == 2


@given(articles())
def test_precision_over_k_against_numpy(data):
    probabilities, gold = data
    for point in precision_over_k(probabilities, gold, 5):
        values = []
        for scores, wanted in zip(probabilities, gold, strict=True):
            if wanted:
                order = numpy.argsort(-numpy.array(scores), kind="stable")[: point.k]
                values.append(numpy.isin(order, wanted).mean())
        assert point.precision == pytest.approx(numpy.mean(values), abs=1e-12)


@given(articles(distinct=True), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter_without_ties(data, shuffler: random.Random):
    probabilities, gold = data
    shuffled, moved = [], []
    for scores, wanted in zip(probabilities, gold, strict=True):
        order = list(range(len(scores)))
        shuffler.shuffle(order)
        shuffled.append([scores[index] for index in order])
        moved.append([order.index(index) for index in wanted])
    assert precision_over_k(shuffled, moved, 7) == precision_over_k(probabilities, gold, 7)
    assert calibration(shuffled, moved) == calibration(probabilities, gold)


@given(articles())
def test_the_last_precision_is_that_of_all_images(data):
    probabilities, gold = data
    shares = [len(wanted) / len(scores) for scores, wanted in zip(probabilities, gold, strict=True) if wanted]
    assert precision_over_k(probabilities, gold, 7)[-1].precision == pytest.approx(sum(shares) / len(shares))


@given(articles())
def test_a_doubled_corpus_has_the_same_curves(data):
    probabilities, gold = data
    once, twice = precision_over_k(probabilities, gold, 3), precision_over_k(probabilities * 2, gold * 2, 3)
    assert [point.precision for point in twice] == pytest.approx([point.precision for point in once])
    assert [point.articles for point in twice] == [2 * point.articles for point in once]
    single, double = calibration(probabilities, gold), calibration(probabilities * 2, gold * 2)
    assert double.expected_calibration_error == pytest.approx(single.expected_calibration_error)
    assert double.images == 2 * single.images


def test_calibration_by_hand():
    # With 4 bins: [0, .25) holds 0 and 0.2; [.25, .5) 0.25; [.5, .75) none; [.75, 1] 0.75, 0.9 and 1.
    probabilities = [[0.2, 0.9, 1.0], [0.25, 0.0, 0.75], [0.6, 0.6]]
    gold = [[1, 2], [0], []]
    result = calibration(probabilities, gold, bins=4)
    assert result.points == [
        CalibrationPoint(0.0, 0.25, pytest.approx(0.1), 0.0, 2),
        CalibrationPoint(0.25, 0.5, 0.25, 1.0, 1),
        CalibrationPoint(0.75, 1.0, pytest.approx(2.65 / 3), pytest.approx(2 / 3), 3),
    ]
    # (2 · 0.1 + 1 · 0.75 + |2.65 − 2|) / 6
    assert result.expected_calibration_error == pytest.approx(1.6 / 6, abs=1e-12)
    assert result.images == 6


def test_a_probability_on_an_edge_belongs_to_the_upper_bin():
    # 0.3 · 10 and 0.7 · 10 are not both whole numbers in floating point; the bins must not depend on that.
    tenths = [index / 10 for index in range(11)]
    points = calibration([tenths], [[0]]).points
    assert [point.images for point in points] == [1] * 9 + [2]
    assert [point.low for point in points] == tenths[:-1]


def test_one_bin_compares_the_means():
    result = calibration([[0.2, 0.4], [0.9]], [[0], [0]], bins=1)
    assert result.expected_calibration_error == pytest.approx(abs(0.5 - 2 / 3))
    assert [(point.low, point.high) for point in result.points] == [(0.0, 1.0)]


def test_calibration_of_perfect_and_worst_probabilities():
    assert calibration([[1.0, 0.0, 1.0]], [[0, 2]]).expected_calibration_error == 0
    assert calibration([[0.0, 1.0, 0.0]], [[0, 2]]).expected_calibration_error == 1


@given(articles(), st.integers(1, 20))
def test_calibration_against_numpy(data, bins):
    probabilities, gold = data
    rows = [(scores, wanted) for scores, wanted in zip(probabilities, gold, strict=True) if wanted]
    predicted = numpy.concatenate([scores for scores, _ in rows])
    labels = numpy.concatenate([numpy.isin(numpy.arange(len(scores)), wanted) for scores, wanted in rows])
    bin_of = numpy.digitize(predicted, numpy.arange(1, bins) / bins)
    error = sum(
        (bin_of == b).mean() * abs(predicted[bin_of == b].mean() - labels[bin_of == b].mean())
        for b in numpy.unique(bin_of)
    )
    result = calibration(probabilities, gold, bins)
    assert result.expected_calibration_error == pytest.approx(error, abs=1e-12)
    assert [point.images for point in result.points] == [int((bin_of == b).sum()) for b in numpy.unique(bin_of)]
    for point, b in zip(result.points, numpy.unique(bin_of), strict=True):
        assert point.probability == pytest.approx(predicted[bin_of == b].mean())
        assert point.gold_share == pytest.approx(labels[bin_of == b].mean())


@pytest.mark.parametrize("curve", [lambda p, g: precision_over_k(p, g, 3), calibration])
@pytest.mark.parametrize(
    ("probabilities", "gold", "message"),
    [
        ([], [], "nothing to average"),
        ([[0.5, 0.1]], [[]], "nothing to average"),
        ([[], [0.5]], [[0], []], "nothing to average"),
        ([[0.5]], [[0], [0]], "1 articles have probabilities, 2 have gold"),
        ([[0.5], [0.5, math.nan]], [[0], [0]], "article 1 .*not finite"),
        ([[0.5, 0.2]], [[-1]], "article 0 .*negative gold index"),
    ],
)
def test_bad_input_is_refused(curve, probabilities, gold, message):
    with pytest.raises(ValueError, match=message):
        curve(probabilities, gold)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="max_k must be at least 1, not 0"):
        precision_over_k([[0.5]], [[0]], 0)
    with pytest.raises(ValueError, match="bins must be at least 1, not 0"):
        calibration([[0.5]], [[0]], 0)
    with pytest.raises(ValueError, match=r"1\.5 is no probability"):
        calibration([[1.5]], [[0]])
