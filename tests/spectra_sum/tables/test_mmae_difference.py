"""The paired test of MMAE against that of a mean, and against an enumeration of all resamples and all swaps."""

import itertools

import numpy as np
import pytest

from spectra_sum.evaluation.bootstrap import paired_difference
from spectra_sum.tables import build_tables, load_published, read_evaluation, read_evaluations
from spectra_sum.tables.significance import mmae_difference

PARTS = ("rougeL", "max_sim", "image_precision")
WEIGHTS = np.array([1.641, 0.854, 0.806])


def rows(table):
    return [
        {part: None if np.isnan(value) else float(value) for part, value in zip(PARTS, row, strict=True)}
        for row in table
    ]


@pytest.fixture
def compare(make_evaluation):
    def both(a, b, **keywords):
        scores = {"mmae": {"value": 3.0, "low": None, "high": None, "articles": 1}}
        folders = [
            make_evaluation(name, rows(table), scores=scores)
            for name, table in (("system", np.asarray(a)), ("reference", np.asarray(b)))
        ]
        return mmae_difference(*(read_evaluation(folder) for folder in folders), **keywords), folders

    return both


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("articles", [1, 5, 150])
def test_with_all_parts_it_is_the_paired_difference_of_the_articles_mmae(compare, shift, articles):
    generator = np.random.default_rng(0)
    a, b = generator.uniform(0.1, 0.7, size=(2, articles, 3))
    found, _ = compare(a + shift, b)
    expected = paired_difference((a + shift) @ WEIGHTS, b @ WEIGHTS)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (expected.mean, expected.low, expected.high), abs=1e-12
    )
    assert found.p_value == expected.p_value
    assert found.articles == articles


def test_gaps_against_enumeration_of_all_resamples(compare):
    nan = np.nan
    a = np.array([[0.30, 0.2, 0.5], [0.50, 0.1, nan], [0.20, nan, 0.0], [0.44, 0.3, 0.5], [0.25, 0.2, 1.0]])
    b = np.array([[0.28, 0.1, 0.5], [0.40, nan, nan], [0.25, 0.2, 0.5], [0.40, 0.1, 0.0], [0.30, 0.1, 0.5]])
    exact = []
    for drawn in itertools.product(range(5), repeat=5):
        means = [np.ma.masked_invalid(table[list(drawn)]).mean(axis=0) for table in (a, b)]
        if not any(np.ma.getmaskarray(mean).any() for mean in means):
            exact.append(float((means[0] - means[1]) @ WEIGHTS))
    assert 0 < len(exact) < 5**5
    found, _ = compare(a, b, resamples=40_000)
    # Means by hand: ROUGE-L .338 - .326, MaxSim .8 / 4 - .5 / 4, IP 2 / 4 - 1.5 / 4.
    assert found.mean == pytest.approx(1.641 * 0.012 + 0.854 * 0.075 + 0.806 * 0.125)
    assert (found.low, found.high) == pytest.approx(np.percentile(exact, [2.5, 97.5]), abs=0.01)
    assert found.articles == 5
    swapped = []
    for swaps in itertools.product((False, True), repeat=5):
        tables = (np.where(np.array(swaps)[:, None], *pair) for pair in ((b, a), (a, b)))
        one, two = (np.nanmean(table, axis=0) for table in tables)
        swapped.append(float((one - two) @ WEIGHTS))
    shares = [np.mean(sign * np.array(swapped) >= sign * found.mean - 1e-12) for sign in (1, -1)]
    assert found.p_value == pytest.approx(min(1.0, 2 * min(shares)), abs=1e-12)
    assert 1 / 16 < found.p_value < 1


def test_equal_systems_do_not_differ(compare):
    table = np.array([[0.3, 0.2, np.nan], [0.4, np.nan, 0.5], [0.1, 0.3, 1.0]])
    found, _ = compare(table, table)
    assert (found.mean, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_part_that_no_article_has_is_said(compare):
    nan = np.nan
    found, folders = compare([[0.3, 0.2, nan], [0.4, 0.1, nan]], [[0.3, 0.2, 0.5], [0.4, 0.1, 0.5]])
    assert found == "a part of it (ROUGE-L, MaxSim, image precision) is defined for no article"
    table = build_tables(read_evaluations(folders), load_published(), "reference")[0]
    assert f"system and reference are not compared on MMAE: {found}." in table.notes


def test_a_difference_in_mmae_is_marked_and_shown(compare):
    generator = np.random.default_rng(1)
    base = generator.uniform(0.1, 0.6, size=(40, 3))
    found, folders = compare(base + generator.normal(0.05, 0.05, size=(40, 3)), base)
    assert found.p_value == pytest.approx(2 / 1001)
    tables = {table.name: table for table in build_tables(read_evaluations(folders), load_published(), "reference")}
    comparison, paired = tables["comparison"], tables["paired_differences"]
    own = next(row for row in comparison.rows if row.cells[0].text == "★ system")
    assert own.cells[comparison.columns.index("MMAE")].text == "3.00 ↑"
    assert paired.columns == ("System", "MMAE")
    assert [row.cells[1].text for row in paired.rows] == [
        f"+{found.mean:.4f} ↑",
        f"+{found.low:.4f} to +{found.high:.4f}",
        "0.002",
        "40",
    ]
