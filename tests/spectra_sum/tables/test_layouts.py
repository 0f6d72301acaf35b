"""What stands in the tables, against hand-computed values."""

import numpy as np
import pytest
from scipy import stats

from spectra_sum.msmo.sources import articles_digest
from spectra_sum.own_data.loading import load_split
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
    # 45.00 - 44.29 (ViL-Sum), 20.00 - 20.96 (ViL-Sum), 76.41 - 76.41 (SITA)
    assert texts(row_of(table, "★ mine", 2)) == ["to best published", "+0.71", "−0.96", "+0.00", "", "–"]
    assert table.warnings == []
    reason = row_of(table, "★ mine")["MaxSim"].notes[0]
    assert table.notes[reason - 1] == "mine: not computed: no dual encoder was given"
    described = table.notes[row_of(table, "★ mine")["System"].notes[0] - 1]
    assert described == (
        "mine: model runs/x; images by vrp; MSMO, test, 10,261 articles; similarity model siglip; IP over 9,000; "
        "broken images: 7"
    )


def test_the_remarks_on_a_selection_stand_under_every_table_that_shows_it(make_evaluation):
    remark = "the model's relevance predictor was not trained: selections and probabilities by it mean nothing"
    rows = [{"rouge1": 0.5, "image_precision": 0.5, "pcd_mean": 0.5}] * 3
    folders = make_evaluation("trained", rows), make_evaluation("fresh", rows, objective="multi", notes=[remark])
    tables = tables_of(*folders)
    for name in ("comparison", "multi_objective", "relevance_diversity"):
        [row] = [row.cells for row in tables[name].rows if row.cells[0].text == "★ fresh"]
        assert f"fresh: {remark}" in [tables[name].notes[number - 1] for number in row[0].notes]
        assert f"trained: {remark}" not in tables[name].notes


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
        make_evaluation("second", [{"rouge1": 0.9}] * 20, digest="others"),
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
    assert paired.notes[cell.notes[0] - 1] == (
        "second and first are not compared on MaxSim: no article has this score from both systems."
    )
    assert row_of(paired, "★ third")["MaxSim"].text == "+20.00 ↑"


def test_two_closed_worlds_are_not_compared_though_their_ids_are_equal(make_evaluation):
    worlds = [
        load_split("closed_world", "test", closed_world_seed=seed, closed_world_articles=20) for seed in (0, 0, 1)
    ]
    assert worlds[0]["id"] == worlds[2]["id"]
    first, same, other = (
        make_evaluation(name, [{"rouge1": value + 0.01 * i} for i in range(12)], digest=articles_digest(world))
        for name, value, world in zip(("first", "same", "other"), (0.1, 0.2, 0.3), worlds, strict=True)
    )
    tables = tables_of(first, same, other)
    assert row_of(tables["comparison"], "★ same")["R-1"].text.endswith(" ↑")
    assert row_of(tables["comparison"], "★ other")["R-1"].text == "35.50"
    assert "other and first are not compared: they scored different articles." in tables["paired_differences"].notes
    assert [row.cells[0].text for row in tables["paired_differences"].rows if row.kind == "own"] == ["★ same"]


BERT = {"model": "roberta-large", "num_layers": 17, "hashcode": "roberta-large_L17"}
MODEL_SCORES = ("max_sim", "clip_score", "pcd_mean", "pcd_max", "pcd_mean_filtered", "pcd_max_filtered")
FILTERED = {"PCD mean, filtered", "PCD max, filtered"}
SIMILARITY = {"MaxSim", "CLIPScore", "MMAE", "PCD mean, unfiltered", "PCD max, unfiltered", *FILTERED}


@pytest.mark.parametrize(
    ("changed", "apart", "words"),
    [
        ({}, set(), None),
        ({"similarity_model": "clip"}, SIMILARITY, "similarity model clip and similarity model siglip, respectively"),
        (
            {"relevance_threshold": 0.3},
            FILTERED,
            "measured with relevance threshold 0.3 and relevance threshold 0.2, respectively",
        ),
        (
            {"bertscore": {**BERT, "num_layers": 10, "hashcode": "roberta-large_L10"}},
            {"BERTScore"},
            "BERTScore by roberta-large, layer 10, roberta-large_L10 and BERTScore by roberta-large, layer 17",
        ),
    ],
)
def test_scores_of_different_models_are_not_compared(make_evaluation, changed, apart, words):
    def per_article(value):
        names = ("rouge1", "rouge2", "rougeL", "image_precision", "bertscore_f1", *MODEL_SCORES)
        return [dict.fromkeys(names, value + 0.01 * i) for i in range(12)]

    def scores(value):
        names = ("rouge1", "rouge2", "image_precision", "bertscore_f1", "mmae", *MODEL_SCORES)
        return {name: score(value, articles=12) for name in names}

    first = make_evaluation("first", per_article(0.1), scores=scores(0.1), objective="multi", bertscore=BERT)
    settings = {"objective": "multi", "bertscore": BERT, **changed}
    second = make_evaluation("second", per_article(0.3), scores=scores(0.3), **settings)
    tables = tables_of(first, second)
    for name in ("comparison", "multi_objective", "relevance_diversity"):
        own = row_of(tables[name], "★ second")
        shown = {heading for heading in own if heading not in ("System", "Selection")}
        assert {heading for heading in shown if not own[heading].text.endswith(" ↑")} == apart & shown
        said = [note for note in tables[name].notes if note.startswith("second and first are not compared on")]
        assert len(said) == bool(apart & shown)
    paired = tables["paired_differences"]
    assert not apart & set(paired.columns)
    said = [note for note in paired.notes if note.startswith("second and first are not compared on")]
    if apart:
        (note,) = said
        assert all(heading in note for heading in apart) and words in note
    else:
        assert said == []
        assert {"MMAE", "MaxSim", "BERTScore", "PCD max, filtered"} <= set(paired.columns)
    described = tables["multi_objective"].notes[row_of(tables["multi_objective"], "★ first")["System"].notes[0] - 1]
    assert "; BERTScore by roberta-large, layer 17, roberta-large_L17; similarity model siglip; " in described
    assert "; relevance threshold 0.2" in described


def test_scores_that_a_model_measures_get_no_difference_to_published_values(make_evaluation):
    names = ("rouge1", "rouge2", "bertscore_f1", "image_precision", "mmae", *MODEL_SCORES)
    folder = whole_split(
        make_evaluation, "mine", {name: score(0.9) for name in names}, objective="multi", bertscore=BERT
    )
    table = tables_of(folder)["multi_objective"]
    differences = row_of(table, "★ mine", 1)
    # 90.00 - 44.20, 90.00 - 20.78, 90.00 - 74.03
    expected = {"System": "to best published", "R-1": "+45.80", "R-2": "+69.22", "IP": "+15.97"}
    assert {heading: cell.text for heading, cell in differences.items() if cell.text != "–"} == expected
    for heading in differences.keys() - expected:
        (number,) = differences[heading].notes
        assert table.notes[number - 1].endswith("the one behind the published values is not known.")


def test_other_selections_for_the_same_summaries_stand_under_the_system(make_evaluation):
    selections = {"vrp": {"image_precision": 0.5}, "teacher": {"image_precision": 0.25, "pcd_max": 0.75}, "random": {}}
    tables = tables_of(
        make_evaluation("first", [{"image_precision": 0.1}] * 12),
        make_evaluation("second", [{"image_precision": 0.5}] * 12, selections=selections),
    )
    table = tables["relevance_diversity"]
    start = next(i for i, row in enumerate(table.rows) if row.cells[0].text == "★ second")
    rows = [row for row in table.rows[start:] if row.cells[0].text == "same summaries"]
    assert table.rows[-2:] == rows and {row.kind for row in rows} == {"detail"}
    assert [[cell.text for cell in row.cells[1:]] for row in rows] == [
        ["teacher", "25.00", "–", "–", "–", "–", "–", "75.00"],
        ["random", *["–"] * 7],
    ]
    (number,) = rows[0].cells[0].notes
    assert "selects for the summaries of the system above" in table.notes[number - 1]
    assert all(row.cells[0].text != "same summaries" for row in tables["comparison"].rows)
