"""The paired randomisation test keeps its level: counted over all outcomes that are equally likely without a difference."""

import itertools

import numpy as np
import pytest

from benchmarks import paired_test
from spectra_sum.evaluation.sign_flip import sign_flip_p_value


@pytest.mark.parametrize("articles", [8, 9])
def test_five_percent_of_equals_differ_at_five_percent(articles):
    sizes = np.random.default_rng(0).beta(1, 4, size=articles)
    outcomes = [sizes * signs for signs in itertools.product((1, -1), repeat=articles)]
    found = [sign_flip_p_value(outcome) < 0.05 for outcome in outcomes]
    assert 0.04 <= np.mean(found) <= 0.06
    # The bootstrap that was used before.
    before = [paired_test.bootstrap_p_value(outcome, 1000, number) < 0.05 for number, outcome in enumerate(outcomes)]
    assert np.mean(before) > 0.08


def test_the_benchmark_counts_what_the_tests_find():
    rows = paired_test.simulate({8: 40}, seed=1)
    assert [(row["scores"], row["articles"]) for row in rows] == [(kind, 8) for kind in paired_test.KINDS]
    generator = np.random.default_rng([1, 0, 8])
    drawn = [paired_test.draw_differences("normal", 8, generator) for _ in range(40)]
    expected = np.mean(
        [sign_flip_p_value(differences, 1000, number) < 0.05 for number, differences in enumerate(drawn)]
    )
    assert rows[0]["shares"]["randomisation"] == expected
    text = paired_test.render(
        {"rows": rows, "hardware": {"processor": "P"}, "versions": {"numpy": "2"}, "commit": "c"}
    )
    assert f"| normal | 8 | 40 | {100 * expected:.1f} % |" in text
