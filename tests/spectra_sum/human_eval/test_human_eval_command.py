"""`spectra-sum human-eval` from the arguments to the files."""

import argparse
import csv
import io
import json

import pytest

from spectra_sum.commands import human_eval
from spectra_sum.commands.arguments import UsageError
from spectra_sum.human_eval.questions import ANSWER_COLUMNS
from tests.spectra_sum.human_eval.conftest import SYSTEMS


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    human_eval.add_arguments(parser.add_subparsers().add_parser("human-eval"))
    parsed = parser.parse_args(["human-eval", *map(str, arguments)])
    return parsed.run(parsed)


def export(files, output, *more: object) -> int:
    named = [files[SYSTEMS[0]], f"other={files[SYSTEMS[1]]}"]
    return run("export", "--predictions", *named, "--data", files["data"], "--output", output, *more)


def test_export_answers_analysis(files, tmp_path, capsys):
    folder = tmp_path / "batch"
    assert export(files, folder, "--items", 3, "--attention-checks", 2, "--seed", 4) == 0
    said = capsys.readouterr().out
    assert "8 items: 3 articles x 2 systems and 2 attention checks." in said
    assert "1 articles without images were left out" in said and "got an apostrophe in front" in said
    assert {path.name for path in folder.iterdir()} == {"form.html", "items.csv", "key.json", "images"}

    key = json.loads((folder / "key.json").read_text())
    assert set(key["settings"]["predictions"]) == {SYSTEMS[0], "other"}
    # The first system gets 4 and 5, the other one 2 and 3; the third worker ignores the checks.
    for worker, plus in (("w1", 0), ("w2", 1), ("careless", 0)):
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(ANSWER_COLUMNS)
        for item, entry in key["items"].items():
            rating = (4 if entry["system"] == SYSTEMS[0] else 2) + plus
            if entry["attention_check"] and worker != "careless":
                rating = entry["expected"]
            writer.writerow([item, worker, *[rating] * 4])
        (tmp_path / f"{worker}.csv").write_text(text.getvalue())
    answers = [tmp_path / f"{worker}.csv" for worker in ("w1", "w2", "careless")]
    assert run("analyse", "--key", folder / "key.json", "--answers", *answers, "--output", tmp_path / "result") == 0
    assert "| other | Overall | 2.50 (0.55) | 0.0 | 6 | 0.000 | 1.000 |" in capsys.readouterr().out

    result = json.loads((tmp_path / "result" / "human_eval.json").read_text())
    assert {name: scores["overall"]["mean"] for name, scores in result["systems"].items()} == {
        SYSTEMS[0]: 4.5,
        "other": 2.5,
    }
    assert result["systems"][SYSTEMS[0]]["text_quality"]["share_good"] == 1
    assert result["dropped"]["workers_failing_checks"] == 1 and result["dropped"]["answers_of_dropped_workers"] == 6
    assert not result["workers"]["careless"]["kept"]
    assert result["published"]["means"]["overall"] == 4.0
    assert (tmp_path / "result" / "human_eval.md").read_text().startswith("# Human evaluation\n")

    least = ("--min-checks-passed", 0)
    assert (
        run("analyse", "--key", folder / "key.json", "--answers", *answers, "--output", tmp_path / "result", *least)
        == 0
    )
    result = json.loads((tmp_path / "result" / "human_eval.json").read_text())
    assert result["systems"]["other"]["overall"]["ratings"] == 9


def test_export_is_repeatable_and_never_overwrites_a_key(files, tmp_path):
    for name in ("one", "two"):
        export(files, tmp_path / name, "--items", 2, "--attention-checks", 1)
    for name in ("form.html", "items.csv", "key.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with pytest.raises(UsageError, match="one: the folder is not empty, and may hold the key of another batch"):
        export(files, tmp_path / "one", "--items", 2)


def test_names_of_systems(files, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "predictions.jsonl").write_bytes(files[SYSTEMS[0]].read_bytes())
    source = [tmp_path / name / "predictions.jsonl" for name in ("a", "b")]
    more = ("--predictions", f"x={source[0]}", "--data", files["data"], "--items", 1, "--output", tmp_path / "out")
    run("export", "--predictions", *source, *more)
    assert set(json.loads((tmp_path / "out" / "key.json").read_text())["settings"]["predictions"]) == {"a", "b", "x"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["{good}", "{good}"], "two systems are called 'zebra-secret'; write NAME=FILE"),
        (["x={tmp}/none.jsonl"], "there is no file {tmp}/none.jsonl"),
        (["={good}"], "the name is empty; write NAME=FILE"),
        (["{tmp}/bad.jsonl"], "{tmp}/bad.jsonl, line 1: this is no JSON"),
    ],
)
def test_predictions_that_cannot_be_used(files, tmp_path, given, message):
    (tmp_path / "bad.jsonl").write_text("no json\n")
    names = {"good": files[SYSTEMS[0]], "tmp": tmp_path}
    with pytest.raises(UsageError) as error:
        run(
            "export",
            *("--predictions", *(text.format(**names) for text in given)),
            *("--data", files["data"], "--items", 1, "--output", tmp_path / "out"),
        )
    assert message.format(**names) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_other_bad_input(files, tmp_path):
    with pytest.raises(
        UsageError, match="--items 20 and --attention-checks 10 need 30 articles with images; the data has 11"
    ):
        export(files, tmp_path / "out", "--items", 20)
    with pytest.raises(UsageError, match="there is no folder .*/none; make it first"):
        export(files, tmp_path / "none" / "out")
    with pytest.raises(UsageError, match="this is a file; name a folder"):
        export(files, files[SYSTEMS[0]])
    with pytest.raises(UsageError, match="this is no key"):
        run("analyse", "--key", files[SYSTEMS[0]], "--answers", files[SYSTEMS[0]], "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for option in (("--items", "0"), ("--attention-checks", "-1")):
        with pytest.raises(SystemExit):
            export(files, tmp_path / "out", *option)


def test_closed_world(tmp_path):
    rows = [{"id": f"test-{n:06d}", "summary": "A summary.", "selected": [0]} for n in range(6)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    world = ("--data", "closed_world", "--closed-world-articles", 6)
    run(
        "export",
        "--predictions",
        tmp_path / "p.jsonl",
        *world,
        "--items",
        2,
        "--output",
        tmp_path / "o",
        "--attention-checks",
        1,
    )
    settings = json.loads((tmp_path / "o" / "key.json").read_text())["settings"]
    assert (settings["closed_world_seed"], settings["closed_world_articles"]) == (0, 6)
