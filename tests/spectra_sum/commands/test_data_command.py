"""`spectra-sum data check`: what it says of every kind of data, and of data that cannot be used."""

import json

import datasets
import pytest

from spectra_sum.cli import main
from tests.own_data import COLUMNS, KINDS, NAMES, make_articles, write_data
from tests.tiny import tiny_tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def check(capsys, *argv):
    code = main(["data", "check", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data(tmp_path, capsys, tokenizer, kind):
    data = write_data(kind, tmp_path / "data", make_articles())
    columns = ["--columns", *COLUMNS[kind]] if kind in COLUMNS else []
    code, out, _ = check(capsys, data, *columns, "--tokenizer", tokenizer)
    assert code == 0
    found = ", ".join(f"{ours} = {theirs}" for ours, theirs in NAMES[kind].items())
    lines = out.splitlines()
    assert f"): {found}; none is " in lines[0]
    assert lines[2] == "all (no splits: training parts 5% off for validation): 8 articles"
    counts = dict(line.split(maxsplit=1) for line in lines[3:9])
    assert counts["images"] == "7 in 5 articles, at most 2"
    captions = "7" if "captions" in NAMES[kind] else "0"
    assert counts["captions"] == captions and counts["summaries"] == "8"
    assert "  gold images        5 in 5 articles" in lines or "gold_images" not in NAMES[kind]


def test_counts_lengths_and_shortened_records(tmp_path, capsys, tokenizer):
    articles = make_articles(3)
    articles[1]["article"] = "word " * 500
    data = write_data("jsonl", tmp_path, articles)
    code, out, _ = check(capsys, data, "--columns", *COLUMNS["jsonl"], "--tokenizer", tokenizer, "--records", "2")
    counted = tiny_tokenizer()
    tokens = sorted(len(counted(article["article"].strip())["input_ids"]) for article in articles)
    words = sorted(len(article["article"].split()) for article in articles)
    assert f"body {words[0]} / {words[1]} / {words[2]}, summary 7 / 7 / 7 (least / median / most)" in out
    assert f"body {tokens[0]:,} / {tokens[1]:,} / {tokens[2]:,}, title and summary " in out
    assert code == 0
    assert "  000\n    title       Harbour 0 opens\n    article     The harbour 0 opened again" in out
    assert "  001\n" in out and "  002\n" not in out
    assert f"    article     {('word ' * 20)[:99]}…" in out
    assert "    images      1_0.png\n    first text  Ship 0, in port; quay 1\n    gold images 0" in out


def test_splits_and_other_columns_of_a_split(tmp_path, capsys, tokenizer):
    for name, row in (("train", {"text": "A", "summary": "S."}), ("test", {"body": "B", "abstract": "S."})):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    code, out, _ = check(capsys, tmp_path, "--tokenizer", tokenizer)
    assert code == 0
    rest = "id, title, images, captions, alt_texts, gold_images"
    assert out.startswith(
        f"{tmp_path} (JSON, train): article = text, summary = summary; none is {rest}\n"
        f"{tmp_path} (JSON, test): article = body, summary = abstract; none is {rest}\n"
    )
    assert "\ntrain: 1 articles\n" in out and "\ntest: 1 articles\n" in out
    _, out, _ = check(capsys, tmp_path, "--split", "test", "--tokenizer", tokenizer)
    assert "\ntest: 1 articles\n" in out and "train" not in out.partition("(JSON)")[2]


def test_what_training_refuses_is_said_and_the_rest_is_shown(tmp_path, capsys, tokenizer):
    articles = make_articles()
    data = write_data("jsonl", tmp_path, articles)
    rows = [json.loads(line) for line in open(data, encoding="utf-8")]
    rows[3]["highlights"], rows[4]["story"], rows[5]["nr"] = "", "", "002"
    with open(data, "w", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, rows)))
    (tmp_path / "pictures" / "2_0.png").unlink()
    code, out, _ = check(capsys, data, "--columns", *COLUMNS["jsonl"], "--tokenizer", tokenizer)
    assert code == 1
    assert f"{data}: 1 rows without a body are left out" in out
    assert "  wrong: 1 articles have no summary, '003' among them: training and evaluation need one of each" in out
    assert "  wrong: the data holds 1 ids twice, '002' among them" in out
    assert "  broken images, left out where they are read: 1\n    article 002: " in out
    assert "7 articles" in out


def test_prepared_data(tmp_path, capsys, tokenizer):
    code, out, _ = check(capsys, "closed_world", "--split", "test", "--tokenizer", tokenizer, "--records", "1")
    assert code == 0 and out.startswith("closed_world (closed_world): the columns of articles\n\ntest: 200 articles\n")
    folder = tmp_path / "test_data"
    for name, content in (("a", "@title\nT\n@body\nBody.\n@summary\nS.\n"), ("b", "@title\nT\n@body\n@summary\nS.\n")):
        (folder / "article").mkdir(parents=True, exist_ok=True)
        (folder / "article" / f"{name}.txt").write_text(content)
    code, out, _ = check(capsys, tmp_path, "--tokenizer", tokenizer)
    assert "test: 1 articles" in out and "  1 x article_without_body (article without a body: dropped)" in out


def test_bad_input_is_one_line(tmp_path, capsys, tokenizer):
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({"story": "A", "summary": "S."}))
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "train.jsonl").write_text(json.dumps({"text": "A", "summary": "S."}))
    words = ["--tokenizer", tokenizer]
    cases = {
        "nowhere: there is no such file or folder; pass 'closed_world'": ["nowhere"],
        f"{file}: no column is the article; it has 'story', 'summary'; name it with --columns article=NAME.": [
            file,
            *words,
        ],
        f"{file}: there is no column 'tale' (columns); it has": [file, "--columns", "text=tale", *words],
        "columns: an article has no 'body'; it has id": [file, "--columns", "body=story"],
        f"{tmp_path / 'parts'} has no split 'test'; it has train.": [tmp_path / "parts", "--split", "test", *words],
        "columns: those of closed_world are known; leave it out.": ["closed_world", "--columns", "text=x"],
        f"{tmp_path / 'none'}: its tokenizer cannot be loaded": [file, "--tokenizer", tmp_path / "none"],
    }
    for message, argv in cases.items():
        code, out, err = check(capsys, *argv)
        assert (code, out) == (2, "")
        line = err.splitlines()[-1]
        assert line.startswith(f"spectra-sum: error: {message}"), line
