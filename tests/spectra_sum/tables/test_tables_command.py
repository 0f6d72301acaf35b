"""`spectra-sum tables`: what it prints and writes, and one line for each kind of bad input."""

import argparse
import json

import pytest

from spectra_sum.commands import tables
from spectra_sum.commands.arguments import UsageError


def run(*arguments):
    parser = argparse.ArgumentParser()
    tables.add_arguments(parser.add_subparsers().add_parser("tables"))
    parsed = parser.parse_args(["tables", *(str(argument) for argument in arguments)])
    return parsed.run(parsed)


@pytest.fixture
def folder(make_evaluation):
    return make_evaluation("mine", [{"rouge1": 0.5}, {"rouge1": 0.6}])


@pytest.mark.parametrize(
    ("format", "start"),
    [("markdown", "## Comparison"), ("latex", "% Tables of spectra-sum"), ("html", "<!DOCTYPE html>")],
)
def test_prints_one_format(folder, capsys, format, start):
    assert run(folder, "--format", format) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(start)
    assert "mine" in printed and "55.00" in printed and "44.29" in printed


def test_writes_all_formats(folder, tmp_path, capsys):
    output = tmp_path / "new" / "tables"
    assert run(folder, "--format", "all", "--output", output) == 0
    assert sorted(path.name for path in output.iterdir()) == ["tables.html", "tables.md", "tables.tex"]
    assert all("55.00" in path.read_text(encoding="utf-8") for path in output.iterdir())
    assert capsys.readouterr().out.count("Tables: ") == 3


def test_same_input_gives_the_same_tables(make_evaluation, capsys):
    folders = [
        make_evaluation(name, [{"rouge1": value + 0.01 * i * i} for i in range(9)])
        for name, value in (("a", 0.1), ("b", 0.12))
    ]
    run(*folders)
    first = capsys.readouterr().out
    run(*folders)
    assert capsys.readouterr().out == first


def fails(*arguments):
    with pytest.raises(UsageError) as caught:
        run(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_folder_and_missing_files(folder, tmp_path):
    assert "there is no such folder" in fails(tmp_path / "nowhere")
    (folder / "scores.jsonl").unlink()
    assert "scores.jsonl: there is no such file" in fails(folder)
    (folder / "metrics.json").unlink()
    assert "metrics.json: there is no such file" in fails(folder)


def test_two_systems_of_one_name(folder, make_evaluation):
    other = make_evaluation("mine", [{"rouge1": 0.5}], folder="other")
    message = fails(folder, other)
    assert "same name ('mine')" in message and "other" in message
    assert "same name" in fails(folder, folder)


def test_output_and_reference(folder, tmp_path):
    assert "name a folder by --output" in fails(folder, "--format", "all")
    (tmp_path / "file").write_text("")
    assert "this is a file" in fails(folder, "--output", tmp_path / "file")
    assert "no system is named 'x\\ny'" in fails(folder, "--reference-system", "x\ny")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "'source' is missing"),
        ("\ud800", "cannot be read"),
    ],
)
def test_malformed_metrics(folder, text, message):
    (folder / "metrics.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert message in fails(folder)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("system",), 3, "'system' is 3, where a str is needed"),
        (("data", "articles"), True, "'articles' is True, where a int is needed"),
        (("data", "articles"), 5, "2 articles, but metrics.json counts 5"),
        (("scores", "rouge1", "value"), "0.5", "score 'rouge1': value is '0.5', where a finite number is needed"),
        (("scores", "rouge1", "low"), float("nan"), "NaN is no number of JSON"),
        (("scores", "rouge1"), 0.5, "score 'rouge1': not a JSON object"),
        (("variant",), {"fusion": "dvp", "objective": "both"}, "objective is 'both'"),
        (("dropped",), {"images": "two"}, "'images' is 'two'"),
        (("settings",), {}, "settings: 'similarity_model' is missing"),
        (("settings", "relevance_threshold"), None, "relevance_threshold is None, where a finite number is needed"),
        (("settings", "bertscore"), {"model": "m"}, "settings, bertscore: 'num_layers' is missing"),
        (("selections",), {"mmr": {"max_sim": "x"}}, "selection 'mmr': max_sim is 'x'"),
        (("data",), {"name": "d", "split": "test", "articles": 2}, "'articles_sha256' is missing"),
    ],
)
def test_wrong_entries_of_metrics(folder, path, value, message):
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    place = metrics
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert message in fails(folder)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"id": "a0", "rouge1": 0.5}\n{"id": "a1", "rouge1": "x"}\n', "line 2: rouge1 is 'x'"),
        ('{"id": "a0"}\n{"id": "a0"}\n', "line 2: the id 'a0' stands there twice"),
        ('{"rouge1": 0.5}\n', "line 1: 'id' is missing"),
        ('{"id": "a0"}\nnonsense\n', "line 2: not valid JSON"),
        ('{"id": "a0", "rouge1": 1e999}\n{"id": "a1"}\n', "line 1: rouge1 is inf"),
    ],
)
def test_malformed_scores(folder, lines, message):
    (folder / "scores.jsonl").write_text(lines, encoding="utf-8")
    assert message in fails(folder)


def test_line_separators_inside_an_id_do_not_part_lines(folder):
    (folder / "scores.jsonl").write_text(
        '{"id": "a\u2028b", "rouge1": 0.5}\n{"id": "c\x85d", "rouge1": 0.6}\n', encoding="utf-8"
    )
    assert run(folder) == 0
