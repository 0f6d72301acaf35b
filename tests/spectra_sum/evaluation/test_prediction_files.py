"""Predictions as JSON lines: what is read back, and one clear line for everything that is wrong."""

import json
from pathlib import Path

import datasets
import pytest

from spectra_sum.evaluation.prediction_files import read_predictions, write_predictions

ENTRY = {"id": "a", "summary": "One.", "selected": [1, 0], "probabilities": [0.25, 1]}
OTHER = {"id": "b", "summary": "Two.", "selected": []}


@pytest.fixture
def records() -> datasets.Dataset:
    """Article a has two images, article b none; no image is ever opened."""
    features = datasets.Features(
        {"id": datasets.Value("string"), "images": datasets.List(datasets.Image()), "n": datasets.Value("int64")}
    )
    no_image = {"bytes": b"not to be decoded", "path": None}
    return datasets.Dataset.from_dict({"id": ["a", "b"], "images": [[no_image] * 2, []], "n": [0, 1]}, features)


def written(folder: Path, *lines: str | dict) -> Path:
    path = folder / "p.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_lines_come_back_in_the_records_order(tmp_path, records):
    path = written(tmp_path, {**OTHER, "score": 3}, "", ENTRY)
    assert read_predictions(path, records) == [ENTRY, {**OTHER, "probabilities": []}]
    assert read_predictions(path, records.select([1, 0])) == [{**OTHER, "probabilities": []}, ENTRY]


def test_any_text_survives_writing_and_reading(tmp_path, records):
    text = 'A\u2028B\u2029C\x85D\x0cE\x1eF\r\nG "quoted" é 漢 \\ 🎈'
    predictions = [{**ENTRY, "summary": text}, {**OTHER, "probabilities": []}]
    write_predictions(tmp_path / "p.jsonl", predictions)
    assert read_predictions(tmp_path / "p.jsonl", records) == predictions


def test_probabilities_may_be_missing_or_fewer_than_images(tmp_path, records):
    for given, read in ((None, []), ([], []), ([0.5], [0.5]), ([0, 1], [0, 1])):
        path = written(tmp_path, {**ENTRY, "probabilities": given}, OTHER)
        assert read_predictions(path, records)[0]["probabilities"] == read


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"summary": "", "selected": []}, "the prediction has no 'id'; add it"),
        ({"id": "a"}, "the prediction has no 'summary' and no 'selected'; add it"),
        ({**ENTRY, "id": "z"}, "no article has the id 'z'; are these predictions of another split?"),
        ({**ENTRY, "id": 5}, "no article has the id 5"),
        ({**ENTRY, "id": ["a"]}, "no article has the id ['a']"),
        ({**ENTRY, "summary": None}, "the summary of 'a' is no text"),
        ('{"id": "a", "summary": "x\\ud83d", "selected": []}', "the summary of 'a' holds half a character"),
        ({**ENTRY, "selected": [0, 2]}, "image index 2 of 'a' is out of range; the article has 2 images"),
        ({**ENTRY, "selected": [-1]}, "image index -1 of 'a' is out of range"),
        ({**ENTRY, "selected": [True]}, "'selected' of 'a' is no list of image indices"),
        ({**ENTRY, "selected": [1.0]}, "'selected' of 'a' is no list of image indices"),
        ({**ENTRY, "selected": 1}, "'selected' of 'a' is no list of image indices"),
        ({**ENTRY, "selected": [1, 1]}, "'selected' of 'a' names an image twice: [1, 1]"),
        ({**ENTRY, "probabilities": [0.1] * 3}, "'probabilities' of 'a' is no list of at most 2 numbers"),
        ({**ENTRY, "probabilities": 0}, "'probabilities' of 'a' is no list"),
        ({**ENTRY, "probabilities": {}}, "'probabilities' of 'a' is no list"),
        ({**ENTRY, "probabilities": [0.5, float("nan")]}, "a probability of 'a' is nan; it must lie in [0, 1]"),
        ({**ENTRY, "probabilities": [float("inf")]}, "a probability of 'a' is inf"),
        ({**ENTRY, "probabilities": [1.5]}, "a probability of 'a' is 1.5"),
        ({**ENTRY, "probabilities": [-0.1]}, "a probability of 'a' is -0.1"),
        ({**ENTRY, "probabilities": ["0.5"]}, "a probability of 'a' is '0.5'"),
        ({**ENTRY, "probabilities": [True]}, "a probability of 'a' is True"),
        (ENTRY, "the id 'a' stands in the file twice"),
        ("{'id': 'a'}", "this is no JSON"),
        ("[" * 100_000, "this is no JSON"),
        ("[]", "this is no JSON object"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, records, line, message):
    path = written(tmp_path, ENTRY, line) if line is ENTRY else written(tmp_path, OTHER, line)
    with pytest.raises(ValueError) as raised:
        read_predictions(path, records)
    assert str(raised.value).startswith(f"{path}, line 2: {message}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"\n \n\n"])
def test_empty_file(tmp_path, records, content):
    (tmp_path / "p.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match="p.jsonl: the file holds no predictions; write one JSON line per article"):
        read_predictions(tmp_path / "p.jsonl", records)


def test_file_that_is_not_utf8(tmp_path, records):
    (tmp_path / "p.jsonl").write_bytes(json.dumps({**ENTRY, "summary": "é"}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(ValueError, match="p.jsonl: this is no UTF-8 text; write one JSON object per line"):
        read_predictions(tmp_path / "p.jsonl", records)


def test_article_without_prediction(tmp_path, records):
    with pytest.raises(ValueError, match="p.jsonl: 1 of 2 articles have no prediction, 'b' among them; add a line"):
        read_predictions(written(tmp_path, ENTRY), records)
