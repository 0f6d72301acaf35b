"""The tables of tasks with instructions, against hand-computed values and sacrebleu's own paired test."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from spectra_sum.evaluation.bootstrap import PairedDifference
from spectra_sum.evaluation.corpus_bleu import STATISTICS, bleu_of
from spectra_sum.evaluation.scores import score_answers
from spectra_sum.tables import (
    EvaluationError,
    build_task_tables,
    load_published,
    read_evaluation,
    read_evaluations,
    render_html,
    render_latex,
    render_markdown,
)
from spectra_sum.tables.significance import bleu_difference
from spectra_sum.tasks.task import CHANGE_CAPTIONING, GROUP_CAPTIONING, STORYTELLING
from tests.spectra_sum.tables.test_tables_command import fails, run

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
REFERENCES = [f"Both of the {number} pictures show one old red boat and a lamp ." for number in range(12)]


def answers_of(seed, share):
    """The references with a share of their words replaced."""
    generator = np.random.default_rng(seed)
    texts = [text.split() for text in REFERENCES]
    return [
        " ".join(
            "word" if spoilt else word for word, spoilt in zip(text, generator.random(len(text)) < share, strict=True)
        )
        for text in texts
    ]


def rows_of(answers):
    """What `scores.jsonl` has of the answers."""
    scores = score_answers(answers, REFERENCES)
    columns = {**scores.values, **scores.statistics, "rougeL": [0.25] * len(answers)}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)], scores


@pytest.fixture
def make(make_evaluation):
    def make(system, answers, task="group-captioning", bleu=SIGNATURE, **keywords):
        rows, scores = rows_of(answers)
        means = {**scores.means(), "rougeL": 0.25}
        values = {
            name: {"value": mean, "low": mean - 0.01, "high": mean + 0.01, "articles": 12}
            for name, mean in means.items()
        }
        return make_evaluation(system, rows, scores=values, task=task, bleu=bleu, selection="none", **keywords)

    return make


def cells(table, label, offset=0):
    index = next(i for i, row in enumerate(table.rows) if row.cells[0].text == label)
    return [cell.text for cell in table.rows[index + offset].cells]


def test_published_rows_and_own_systems(make):
    folder = make("mine", answers_of(1, 0.3))
    scores = read_evaluation(folder).scores
    tables = {
        table.name: table for table in build_task_tables([read_evaluation(folder)], load_published(), GROUP_CAPTIONING)
    }
    assert list(tables) == ["group_captioning", "guidance_ablation"]
    table = tables["group_captioning"]
    assert table.columns == ("System", "ROUGE-L", "CIDEr", "BLEU-4")
    assert cells(table, "SAM") == ["SAM", "20.23", "19.49", "3.22"]
    best = [cell.text for row in table.rows for cell in row.cells if cell.best]
    assert best == ["20.23", "19.49", "3.22"]
    # CIDEr lies in [0, 10], and is printed times 100.
    cider, bleu = scores["cider"].value, scores["bleu4"].value
    assert cells(table, "★ mine") == ["★ mine", "25.00", f"{100 * cider:.2f}", f"{100 * bleu:.2f}"]
    assert cells(table, "★ mine", 1)[1] == "24.00 to 26.00"
    # What was measured elsewhere has no difference to the published values.
    assert [row.cells[0].text for row in table.rows[-2:]] == ["★ mine", "interval"]
    (warning,) = table.warnings
    assert warning.startswith("Not comparable with the published rows, which are on the paper's own test sets")
    assert any("arXiv:2408.12867" in note for note in table.notes)
    assert any(f"BLEU-4 by {SIGNATURE}" in note and "images by" not in note for note in table.notes)
    ablation = tables["guidance_ablation"]
    assert cells(ablation, "+ guidance on mean features") == ["+ guidance on mean features", "16.73", "23.97"]


@pytest.mark.parametrize(("task", "row"), [(STORYTELLING, "19.54 25.47 3.25"), (CHANGE_CAPTIONING, "16.08 3.84 1.08")])
def test_each_task_has_its_table(make, task, row):
    evaluation = read_evaluation(make("mine", answers_of(1, 0.3), task=task.name))
    tables = build_task_tables([evaluation], load_published(), task)
    assert cells(tables[0], "SAM") == ["SAM", *row.split()]
    assert len(tables) == (2 if task == STORYTELLING else 1)


def test_all_formats(make, capsys):
    folder = make("a|b <i>_x", answers_of(1, 0.3), folder="hostile")
    tables = build_task_tables([read_evaluation(folder)], load_published(), GROUP_CAPTIONING)
    for render, system in (
        (render_markdown, r"a\|b"),
        (render_latex, r"a\textbar{}b \textless{}i"),
        (render_html, "a|b &lt;i"),
    ):
        text = render(tables)
        assert system in text and "19.49" in text and "<i>" not in text
    assert run(folder, "--layout", "group-captioning", "--format", "latex") == 0
    assert r"\label{tab:group-captioning}" in capsys.readouterr().out


def test_tables_of_other_tasks_are_refused(make, make_evaluation):
    folder = make("mine", answers_of(1, 0.3))
    message = fails(folder)
    assert "'mine' was evaluated for group-captioning" in message and "pass --layout group-captioning" in message
    summaries = make_evaluation("summaries", [{"rouge1": 0.5}])
    assert "'summaries' was evaluated for summarization" in fails(folder, summaries, "--layout", "group-captioning")
    with pytest.raises(EvaluationError, match="stands in other tables than storytelling"):
        build_task_tables([read_evaluation(folder)], load_published(), STORYTELLING)


def test_paired_differences(make):
    folders = [
        make(name, answers_of(seed, share))
        for name, seed, share in (("base", 1, 0.5), ("good", 2, 0.1), ("same", 1, 0.5))
    ]
    base, good, same = read_evaluations(folders)
    found = bleu_difference(good, base, resamples=1000, seed=0)
    ours, theirs = answers_of(2, 0.1), answers_of(1, 0.5)
    scores = [BLEU().corpus_score(texts, [REFERENCES]).score / 100 for texts in (ours, theirs)]
    assert found.mean == pytest.approx(scores[0] - scores[1], abs=1e-12) and found.articles == 12
    assert 0 < found.low < found.mean < found.high and found.p_value < 0.05
    # All 2^12 ways to swap the answers of an article, one by one.
    counts = [np.array([[row[name] for name in STATISTICS] for row in rows_of(texts)[0]]) for texts in (ours, theirs)]
    signs = np.array([[number >> bit & 1 for bit in range(12)] for number in range(4096)])
    sums = [signs @ counts[side] + (1 - signs) @ counts[1 - side] for side in (1, 0)]
    swapped = bleu_of(sums[0]) - bleu_of(sums[1])
    shares = [(swapped >= found.mean - 1e-9).mean(), (swapped <= found.mean + 1e-9).mean()]
    assert found.p_value == pytest.approx(min(1, 2 * min(shares)), abs=0.02)
    assert bleu_difference(same, base) == PairedDifference(0.0, 0.0, 0.0, 1.0, 12)
    tables = {table.name: table for table in build_task_tables([base, good, same], load_published(), GROUP_CAPTIONING)}
    paired = tables["paired_differences"]
    assert paired.columns == ("System", "ROUGE-L", "CIDEr", "BLEU-4")
    assert cells(paired, "★ good")[3] == f"+{100 * found.mean:.2f} ↑"
    assert any("BLEU-4 is computed from the counts of each resample's articles" in note for note in paired.notes)


def test_bleu_of_other_settings_is_not_compared(make):
    base = make("base", answers_of(1, 0.5))
    other = make("other", answers_of(2, 0.1), bleu=SIGNATURE.replace("13a", "intl"))
    tables = build_task_tables(read_evaluations([base, other]), load_published(), GROUP_CAPTIONING)
    notes = [note for table in tables for note in table.notes]
    assert any("other and base are not compared on BLEU-4: measured with BLEU-4 by" in note for note in notes)
