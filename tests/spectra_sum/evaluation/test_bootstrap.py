"""Intervals and paired tests against enumeration, numpy and the normal distribution."""

import itertools

import numpy as np
import pytest
from scipy import stats

from spectra_sum.evaluation.bootstrap import mean_interval, paired_difference


def test_interval_of_two_values_is_that_of_their_four_resamples():
    # The resamples of (0, 1) have means 0, 1/2, 1/2, 1.
    assert mean_interval([0.0, 1.0]) == (0.0, 1.0)
    assert mean_interval([0.0, 1.0], confidence=0.4) == (0.5, 0.5)


def test_interval_agrees_with_the_normal_interval_and_with_numpy():
    generator = np.random.default_rng(3)
    values = generator.gamma(2.0, size=400)
    low, high = mean_interval(values, resamples=20_000)
    width = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * width, abs=0.15 * width)
    assert high == pytest.approx(values.mean() + 1.96 * width, abs=0.15 * width)
    means = [generator.choice(values, len(values)).mean() for _ in range(5000)]
    assert (low, high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.15 * width)


def test_confidence_widens_the_interval_as_the_normal_quantile_does():
    values = np.random.default_rng(4).normal(size=500)
    width = values.std() / np.sqrt(len(values))
    for confidence in (0.5, 0.9, 0.99):
        low, high = mean_interval(values, confidence=confidence, resamples=20_000)
        expected = 2 * stats.norm.ppf((1 + confidence) / 2) * width
        assert high - low == pytest.approx(expected, rel=0.06)


def test_one_value_and_equal_values_have_no_width():
    assert mean_interval([0.25]) == (0.25, 0.25)
    assert mean_interval([0.25] * 7) == (0.25, 0.25)


def test_seed_decides_the_result():
    values = np.random.default_rng(5).normal(size=30)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1)
    assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_interval_agrees_with_enumeration_of_all_resamples():
    differences = np.array([0.4, -0.3, 0.2, 0.1, -0.15, 0.25])
    means = np.array([np.mean(drawn) for drawn in itertools.product(differences, repeat=6)])
    result = paired_difference(differences, np.zeros(6), resamples=40_000)
    assert (result.low, result.high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.01)


def flipped_means(differences: np.ndarray) -> np.ndarray:
    """The means of all sign flips."""
    return np.array([np.mean(differences * signs) for signs in itertools.product((1, -1), repeat=len(differences))])


def test_p_value_is_that_of_all_sign_flips():
    differences = np.array([0.4, -0.3, 0.2, 0.1, -0.15, 0.25, 0.5, 0.05])
    means = flipped_means(differences)
    exact = np.mean(np.abs(means) >= differences.mean() - 1e-12)
    assert 0.01 < exact < 0.5
    assert paired_difference(differences, np.zeros(8)).p_value == pytest.approx(exact, abs=1e-12)


def test_p_value_of_random_sign_flips_is_near_that_of_all():
    differences = np.random.default_rng(11).normal(0.3, 1.0, size=14)
    exact = np.mean(np.abs(flipped_means(differences)) >= abs(differences.mean()) - 1e-12)
    found = paired_difference(differences, np.zeros(14), resamples=10_000).p_value
    # Three standard errors of the share on one side, doubled.
    assert found == pytest.approx(exact, abs=6 * np.sqrt(exact / 2 / 10_000))
    assert found != exact


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1, 0.15])
def test_p_value_agrees_with_the_paired_z_test(shift):
    generator = np.random.default_rng(6)
    b = generator.normal(size=600)
    noise = generator.normal(size=600)
    a = b + shift + (noise - noise.mean())
    result = paired_difference(a, b, resamples=20_000)
    z = shift / (noise.std() / np.sqrt(600))
    assert result.mean == pytest.approx(shift, abs=1e-12)
    assert result.p_value == pytest.approx(2 * stats.norm.sf(z), abs=0.02)
    assert result.articles == 600


def test_pairing_removes_what_articles_share():
    # Articles differ widely, the systems always by about 0.01: unpaired intervals would overlap.
    shared = np.random.default_rng(7).uniform(size=200)
    small = np.random.default_rng(8).normal(0.01, 0.01, size=200)
    result = paired_difference(shared + small, shared)
    assert 0 < result.low < 0.01 < result.high < 0.02
    assert result.p_value == pytest.approx(2 / 1001)


def test_few_articles_give_the_p_value_of_scipys_own_exact_test():
    a, b = [0.9, 0.8, 0.7, 0.6], [0.1, 0.3, 0.2, 0.5]
    exact = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x) - np.mean(y), permutation_type="samples", alternative="two-sided"
    )
    assert exact.pvalue == 0.125
    assert paired_difference(a, b).p_value == 0.125
    assert paired_difference([0.9], [0.1]).p_value == 1.0


def test_exchanging_the_systems_mirrors_the_difference():
    a, b = np.random.default_rng(9).normal(size=(2, 50))
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))
    assert one.p_value == other.p_value


def test_equal_systems_do_not_differ():
    result = paired_difference([0.1, 0.5, 0.9], [0.1, 0.5, 0.9])
    assert (result.mean, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": []}, "values is empty"),
        ({"values": [0.1, float("nan")]}, "not finite"),
        ({"values": [0.1, float("inf")]}, "not finite"),
        ({"values": [0.1, 0.2], "confidence": 1.0}, "confidence is 1.0"),
        ({"values": [0.1, 0.2], "resamples": 0}, "resamples is 0"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(**arguments)


def test_systems_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="a has 2 values and b has 1"):
        paired_difference([0.1, 0.2], [0.1])
