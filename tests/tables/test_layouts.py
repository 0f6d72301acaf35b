"""What stands in the tables, against hand-computed values."""

import numpy as np
import pytest
from scipy import stats

from spectra_sum.tables import EvaluationError, build_tables, load_published, read_evaluations

FULL_SPLIT = 10_261


def tables_of(*folders, reference=None):
    return {table.name: table for table in build_tables(read_evaluations(folders), load_published(), reference)}


def row_of(table, label, offset=0):
    index = next(i for i, row in enumerate(table.rows) if row.cells[0].text == label)
    return dict(zip(table.columns, table.rows[index + offset].cells, strict=True))


def texts(row):
    return [cell.text for cell in row.values()]


def whole_split(make_evaluation, system, scores, data=("MSMO", "test"), articles=FULL_SPLIT, **keywords):
    """An evaluation on as many articles as the published rows."""
    per_article = [{name: score["value"] for name, score in scores.items()}] * articles
    return make_evaluation(system, per_article, scores=scores, data=data, **keywords)


def score(value, low=None, high=None, articles=FULL_SPLIT):
    return {"value": value, "low": low, "high": high, "articles": articles}


def test_comparison_has_every_published_row_with_the_best_in_bold(make_evaluation):
    table = tables_of(make_evaluation("mine", [{"rouge1": 0.5}]))["comparison"]
    assert table.columns == ("System", "R-1", "R-2", "IP", "MaxSim", "MMAE")
    published = [row.cells for row in table.rows if row.kind == "published"]
    assert [cells[0].text for cells in published] == (
        "ATG ATL HAN MOF UniMS SITA BART-VGG ViL-Sum DIUSum BERTAbs DVP".split()
    )
    assert texts(row_of(table, "HAN")) == ["HAN", "40.82", "18.30", "61.83", "12.22", "3.25"]
    assert texts(row_of(table, "DIUSum")) == ["DIUSum", "42.23", "19.83", "–", "–", "–"]
    best = {cells[0].text: [cell.text for cell in cells if cell.best] for cells in published}
    assert {name: found for name, found in best.items() if found} == {
        "SITA": ["76.41", "33.47"],
        "ViL-Sum": ["44.29", "20.96", "3.55"],
        "DVP": ["3.55"],
    }
    for cells in published:
        assert "2605.11753" in table.notes[cells[0].notes[0] - 1]


def test_values_intervals_and_differences_to_the_best_published_row(make_evaluation):
    scores = {
        "rouge1": score(0.4500, 0.4450, 0.4551),
        "rouge2": score(0.2000),
        "image_precision": score(0.7641, 0.76, 0.77, articles=9000),
        "mmae": score(3.6, 3.55, 3.65),
    }
    folder = whole_split(
        make_evaluation,
        "mine",
        scores,
        not_computed={"max_sim": "no dual encoder was given"},
        dropped={"broken_images": 7},
    )
    table = tables_of(folder)["comparison"]
    assert texts(row_of(table, "★ mine")) == ["★ mine", "45.00", "20.00", "76.41", "–", "3.60"]
    assert texts(row_of(table, "★ mine", 1)) == [
        "interval",
        "44.50 to 45.51",
        "",
        "76.00 to 77.00",
        "",
        "3.55 to 3.65",
    ]
    # 45.00 - 44.29 (ViL-Sum), 20.00 - 20.96 (ViL-Sum), 76.41 - 76.41 (SITA), 3.60 - 3.55
    assert texts(row_of(table, "★ mine", 2)) == ["to best published", "+0.71", "−0.96", "+0.00", "", "+0.05"]
    assert table.warnings == []
    reason = row_of(table, "★ mine")["MaxSim"].notes[0]
    assert table.notes[reason - 1] == "mine: not computed: no dual encoder was given"
    described = table.notes[row_of(table, "★ mine")["System"].notes[0] - 1]
    assert described == (
        "mine: model runs/x; images by vrp; MSMO, test, 10,261 articles; IP over 9,000; broken images: 7"
    )


@pytest.mark.parametrize(
    ("data", "articles"),
    [
        (("closed-world", "test"), 40),
        (("MSMO", "valid"), 40),
        (("MSMO", "test"), 18),
        (("other", "test"), FULL_SPLIT),
        (("MSMO", "test"), 12_000),
    ],
)
def test_other_data_is_said_to_be_incomparable_and_gets_no_difference(make_evaluation, data, articles):
    folder = make_evaluation("mine", [{"rouge1": 0.5}] * articles, data=data, objective="multi")
    tables = tables_of(folder)
    for name in ("comparison", "multi_objective", "relevance_diversity"):
        (warning,) = tables[name].warnings
        assert warning.startswith("Not comparable with the published rows")
        assert f"mine: {data[0]}, {data[1]}, {articles:,} articles" in warning
        assert "to best published" not in [row.cells[0].text for row in tables[name].rows]


@pytest.mark.parametrize(("name", "articles"), [("msmo_copy", FULL_SPLIT), ("MSMO", 10_200), ("my-MSMO-2018", 10_300)])
def test_copies_of_the_test_split_are_comparable(make_evaluation, name, articles):
    folder = whole_split(make_evaluation, "mine", {"rouge1": score(0.45)}, data=(name, "test"), articles=articles)
    table = tables_of(folder)["comparison"]
    assert table.warnings == []
    # No interval is given, so that the difference follows the values: 45.00 - 44.29.
    assert texts(row_of(table, "★ mine", 1)) == ["to best published", "+0.71", "", "", "", ""]


def test_each_system_stands_in_the_tables_of_its_kind(make_evaluation):
    tables = tables_of(
        make_evaluation("multi", [{"rouge1": 0.5}], objective="multi"),
        make_evaluation("lm", [{"rouge1": 0.5}], objective="lm"),
        make_evaluation("peer", [{"rouge1": 0.5}], selection="given"),
    )
    own = {
        name: [row.cells[0].text for row in table.rows if row.kind == "own"]
        for name, table in tables.items()
        if name != "paired_differences"
    }
    everyone = ["★ multi", "★ lm", "★ peer"]
    assert own == {
        "comparison": everyone,
        "multi_objective": ["★ multi"],
        "lm_only": ["★ lm"],
        "relevance_diversity": everyone,
    }


def test_variants_without_own_rows_keep_the_published_ones(make_evaluation):
    tables = tables_of(make_evaluation("peer", [{"rouge1": 0.5}]))
    lm_only = tables["lm_only"]
    assert [row.cells[0].text for row in lm_only.rows] == ["OneVision", "Vision Sampler", "DVP"]
    assert "No evaluated system was trained with this objective." in lm_only.notes
    assert lm_only.warnings == []
    assert texts(row_of(tables["multi_objective"], "DVP")) == (
        "DVP 44.20 20.77 89.33 74.03 70.52 3.5521 32.81 36.71 36.77 43.27".split()
    )


def test_relevance_against_diversity_shows_selections_in_percent(make_evaluation):
    scores = {"image_precision": 0.5, "max_sim": 0.25, "clip_score": 0.625, "pcd_mean": 0.4, "pcd_max": 0.45}
    table = tables_of(make_evaluation("mmr-run", [scores], selection="mmr"))["relevance_diversity"]
    assert texts(row_of(table, "★ mmr-run")) == [
        "★ mmr-run",
        "mmr",
        "50.00",
        "25.00",
        "62.50",
        "–",
        "–",
        "40.00",
        "45.00",
    ]
    # The variants are printed without MaxSim; the comparison gives that of DVP.
    assert texts(row_of(table, "DVP"))[:5] == ["DVP", "vrp", "74.03", "31.68", "70.52"]
    assert texts(row_of(table, "OneVision"))[3] == "–"


def test_published_mmae_that_no_rouge_l_explains_is_marked(make_evaluation):
    notes = " ".join(tables_of(make_evaluation("mine", [{"rouge1": 0.5}]))["comparison"].notes)
    # ATG: (3.35 - 1.978 - 0.854 * 0.2582 - 0.806 * 0.5928) / 1.641 = 0.4105, above its ROUGE-1 of 0.4063.
    assert "ATG 41.1 (above its own ROUGE-1)" in notes
    # SITA: (3.37 - 1.978 - 0.854 * 0.3347 - 0.806 * 0.7641) / 1.641 = 0.2988
    assert "SITA 29.9," in notes
    # HAN: (3.25 - 1.978 - 0.854 * 0.1222 - 0.806 * 0.6183) / 1.641 = 0.4078, under its ROUGE-1 of 0.4082.
    assert "HAN 40.8," in notes


def test_significance_agrees_with_the_paired_t_test(make_evaluation):
    generator = np.random.default_rng(0)
    base = generator.uniform(0.3, 0.6, size=200)
    better = base + generator.normal(0.02, 0.05, size=200)
    alike = base + generator.normal(0.0, 0.05, size=200)
    worse = base - generator.normal(0.02, 0.05, size=200)
    folders = [
        make_evaluation(name, [{"rouge1": float(value)} for value in values])
        for name, values in (("base", base), ("better", better), ("alike", alike), ("worse", worse))
    ]
    tables = tables_of(*folders)
    expected = {
        name: stats.ttest_rel(values, base)
        for name, values in (("better", better), ("alike", alike), ("worse", worse))
    }
    assert max(expected["better"].pvalue, expected["worse"].pvalue) < 0.001
    assert expected["alike"].pvalue > 0.1
    shown = {
        name: row_of(tables["comparison"], f"★ {name}")["R-1"].text for name in ("base", "better", "alike", "worse")
    }
    assert shown["better"].endswith(" ↑") and shown["worse"].endswith(" ↓")
    assert not shown["alike"].endswith(("↑", "↓")) and not shown["base"].endswith(("↑", "↓"))

    paired = tables["paired_differences"]
    assert paired.columns == ("System", "R-1")
    for name, values in (("better", better), ("alike", alike), ("worse", worse)):
        difference = 100 * float(np.mean(values - base))
        mean = row_of(paired, f"★ {name}")["R-1"].text.split()[0]
        assert mean == f"{difference:+.2f}".replace("-", "−")
        low, high = (float(end.replace("−", "-")) for end in row_of(paired, f"★ {name}", 1)["R-1"].text.split(" to "))
        interval = expected[name].confidence_interval(0.95)
        assert (low, high) == pytest.approx((100 * interval.low, 100 * interval.high), abs=0.1)
        assert float(row_of(paired, f"★ {name}", 2)["R-1"].text) == pytest.approx(expected[name].pvalue, abs=0.05)


def test_only_articles_that_both_scored_are_paired(make_evaluation):
    # Over the shared articles a0..a5 the difference is 0.1 each; the others would turn it around.
    a = [{"image_precision": value} for value in [0.5] * 6 + [1.0, None]]
    b = [{"image_precision": value} for value in [0.6] * 6 + [None, 0.0]]
    paired = tables_of(make_evaluation("a", a), make_evaluation("b", b))["paired_differences"]
    assert [row_of(paired, "★ b", line)["IP"].text for line in range(4)] == [
        "+10.00 ↑",
        "+10.00 to +10.00",
        # The exact sign-flip test of six equal differences: 2 / 2^6.
        "0.031",
        "6",
    ]


def test_reference_system_turns_the_comparison_around(make_evaluation):
    folders = [
        make_evaluation("low", [{"rouge1": 0.3 + 0.001 * i} for i in range(20)]),
        make_evaluation("high", [{"rouge1": 0.4 + 0.002 * i} for i in range(20)]),
    ]
    tables = tables_of(*folders, reference="high")
    assert row_of(tables["comparison"], "★ low")["R-1"].text.endswith(" ↓")
    assert tables["paired_differences"].title == "Paired differences to high"
    with pytest.raises(EvaluationError, match="no system is named 'none'; the folders hold 'low', 'high'"):
        tables_of(*folders, reference="none")


def test_other_articles_are_not_compared_and_that_is_said(make_evaluation):
    folders = [
        make_evaluation("first", [{"rouge1": 0.3}] * 20),
        make_evaluation("second", [{"rouge1": 0.9}] * 20, ids="others"),
    ]
    tables = tables_of(*folders)
    assert row_of(tables["comparison"], "★ second")["R-1"].text == "90.00"
    assert "second and first are not compared: they scored different articles." in tables["comparison"].notes
    assert "paired_differences" not in tables


def test_scores_that_cannot_be_paired_are_explained(make_evaluation):
    first = make_evaluation("first", [{"rouge1": 0.3, "max_sim": 0.1}] * 8 + [{"rouge1": 0.3, "max_sim": None}] * 8)
    second = make_evaluation("second", [{"rouge1": 0.4, "max_sim": None}] * 8 + [{"rouge1": 0.4, "max_sim": 0.1}] * 8)
    third = make_evaluation("third", [{"rouge1": 0.4, "max_sim": 0.3}] * 16)
    paired = tables_of(first, second, third)["paired_differences"]
    cell = row_of(paired, "★ second")["MaxSim"]
    assert cell.text == "–"
    assert paired.notes[cell.notes[0] - 1] == "second: no article has this score from both systems."
    assert row_of(paired, "★ third")["MaxSim"].text == "+20.00 ↑"
