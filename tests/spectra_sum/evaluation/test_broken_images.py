"""An evaluation on data with truncated images: the same scores as on data without them, and every loss is told."""

import io
import json
from pathlib import Path

import datasets
import pytest

from spectra_sum import cli
from spectra_sum.evaluation.curves import calibration, precision_over_k
from spectra_sum.evaluation.prediction_files import read_predictions
from spectra_sum.evaluation.readable_articles import ReadableArticles, without_broken
from spectra_sum.evaluation.systems.sources import UNTRAINED_PREDICTOR
from spectra_sum.records.article_images import BrokenImage
from tests import tiny

SHORT = ("--max-length", 200, "--max-new-tokens", 4, "--batch-size", 4)
BROKEN = {0: [0, 2], 1: [1], 2: [0, 1, 2, 3], 4: [3]}


def evaluate(*arguments: object) -> int:
    return cli.main(["evaluate", *map(str, arguments)])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def truncated(image) -> dict:
    buffer = io.BytesIO()
    image.resize((64, 64)).save(buffer, "JPEG")
    return {"bytes": buffer.getvalue()[: len(buffer.getvalue()) // 2], "path": "half.jpg"}


def whole(image) -> dict:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": "whole.png"}


@pytest.fixture(scope="module")
def articles(records) -> datasets.Dataset:
    """With the four images that the model scores: where an image is left out none comes up from behind."""

    def first(row):
        gold = [index for index in row["gold_images"] if index < 4]
        return {**{name: row[name][:4] for name in ("images", "captions", "alt_texts")}, "gold_images": gold}

    return datasets.Dataset.from_list([{**row, **first(row)} for row in records], features=records.features)


@pytest.fixture(scope="module")
def places() -> dict[int, list[int]]:
    return BROKEN


@pytest.fixture(scope="module")
def folders(tmp_path_factory, articles, places) -> dict[str, Path]:
    """The same articles with truncated images, and, made by hand, without them."""
    root, broken, clean = tmp_path_factory.mktemp("broken"), [], []
    for row, record in enumerate(articles):
        lost = places.get(row, [])
        kept = [index for index in range(len(record["images"])) if index not in lost]
        images = [truncated(image) if i in lost else whole(image) for i, image in enumerate(record["images"])]
        broken.append({**record, "images": images})
        clean.append(
            {
                **record,
                "images": [images[index] for index in kept],
                **{name: [record[name][index] for index in kept] for name in ("captions", "alt_texts")},
                "gold_images": [kept.index(index) for index in record["gold_images"] if index in kept],
            }
        )
    for name, rows in (("broken", broken), ("clean", clean)):
        split = datasets.Dataset.from_list(rows, features=articles.features)
        datasets.DatasetDict({"test": split}).save_to_disk(root / name)
    return {"broken": root / "broken", "clean": root / "clean"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, folders, model_folder, encoder_folder) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    for name, data, more in (
        ("clean", "clean", ()),
        ("header", "broken", ()),
        ("full", "broken", ("--verify", "full")),
    ):
        similarity = ("--similarity-model", encoder_folder, "--relevance-threshold", -0.1)
        arguments = ("--model", model_folder, "--data", folders[data], *SHORT, *similarity, *more)
        assert evaluate(*arguments, "--output", root / name) == 0
    return {name: root / name for name in ("clean", "header", "full")}


def result(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_scores_are_those_of_the_data_without_the_broken_images(runs, places, articles):
    clean, header, full = (result(runs[name]) for name in ("clean", "header", "full"))
    assert header["scores"] == clean["scores"] and header["selections"] == clean["selections"]
    assert (runs["header"] / "scores.jsonl").read_text() == (runs["clean"] / "scores.jsonl").read_text()
    assert {**full, "data": 0} == {**header, "data": 0}
    for name, prediction in zip(articles["id"], lines(runs["full"] / "predictions.jsonl"), strict=True):
        assert prediction["id"] == name
    assert (runs["full"] / "predictions.jsonl").read_text() == (runs["header"] / "predictions.jsonl").read_text()


def test_what_is_lost_is_counted_and_named(runs, places, articles):
    gold = list(articles["gold_images"])
    lost = {
        "broken_images": sum(map(len, places.values())),
        "broken_gold_images": sum(index in gold[row] for row, which in places.items() for index in which),
        "articles_without_readable_gold": sum(
            bool(gold[row]) and set(gold[row]) <= set(which) for row, which in places.items()
        ),
        "articles_made_text_only": 1,
    }
    content = result(runs["header"])
    assert {name: content["dropped"].get(name) for name in lost} == lost
    assert json.loads((runs["header"] / "run.json").read_text())["dropped"] == lost
    ids = list(articles["id"])
    assert [(entry["article"], entry["image"]) for entry in content["broken_images"]] == sorted(
        (ids[row], index) for row, which in places.items() for index in which
    )
    assert {entry["file"] for entry in content["broken_images"]} == {"half.jpg"}
    assert all("truncated" in entry["damage"] for entry in content["broken_images"])
    assert any("broken images were left out" in note for note in content["notes"])
    page = (runs["header"] / "report.html").read_text(encoding="utf-8")
    assert "half.jpg" in page and f"broken_images: {lost['broken_images']}." in page
    clean = result(runs["clean"])
    assert clean["broken_images"] == [] and "broken_images" not in clean["dropped"]
    assert "dropped" not in json.loads((runs["clean"] / "run.json").read_text())


def test_predictions_count_the_images_of_the_data(runs, places, folders, encoder_folder, tmp_path):
    """A file of predictions means the same images before and after one breaks."""
    for row, (prediction, other) in enumerate(
        zip(lines(runs["header"] / "predictions.jsonl"), lines(runs["clean"] / "predictions.jsonl"), strict=True)
    ):
        lost = places.get(row, [])
        kept = [index for index in range(20) if index not in lost]
        assert prediction["selected"] == [kept[index] for index in other["selected"]]
        assert prediction.get("broken_images", []) == lost
        assert all(prediction["probabilities"][i] is None for i in lost if i < len(prediction["probabilities"]))
    arguments = ("--predictions", runs["header"] / "predictions.jsonl", "--similarity-model", encoder_folder)
    options = ("--data", folders["broken"], "--relevance-threshold", -0.1)
    assert evaluate(*arguments, *options, "--output", tmp_path / "again") == 0
    assert result(tmp_path / "again")["scores"] == result(runs["header"])["scores"]


def test_a_selected_image_that_is_broken_is_counted(folders, articles, tmp_path, capsys):
    rows = [
        {"id": name, "summary": "S.", "selected": [0] if images else []}
        for name, images in zip(
            articles["id"],
            datasets.load_from_disk(folders["broken"])["test"].with_format("arrow")["images"],
            strict=True,
        )
    ]
    (tmp_path / "peer.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ("--predictions", tmp_path / "peer.jsonl", "--data", folders["broken"], "--verify", "full")
    assert evaluate(*arguments, "--output", tmp_path / "o") == 0
    assert result(tmp_path / "o")["dropped"]["broken_selected_images"] == 2
    out = capsys.readouterr().out
    assert "counted: 2 broken_selected_images" in out
    name = articles["id"][0]
    assert f"broken image: article {name}, half.jpg, image 1: image file is truncated" in out
    assert "Replace or remove the broken images" in out


def test_damage_that_was_found_when_the_folder_was_read_is_told(tmp_path, capsys):
    split = tmp_path / "msmo" / "test_data"
    for part in ("article", "img", "caption"):
        (split / part).mkdir(parents=True)
    for name in "ab":
        (split / "article" / f"{name}.txt").write_text("@title\nT\n@body\nOne. Two.\n@summary\nOne.\n")
        (split / "img" / f"{name}_1.jpg").write_bytes(b"no image")
        tiny.picture(2, (64, 64)).save(split / "img" / f"{name}_2.jpg")
    content = (split / "img" / "b_2.jpg").read_bytes()
    (split / "img" / "b_2.jpg").write_bytes(content[: len(content) // 2])
    (split / "image_annotation.txt").write_text("a_2.jpg\nb_2.jpg\n")
    arguments = ("--baseline", "lead-3", "--data", tmp_path / "msmo", "--limit", 2)
    assert evaluate(*arguments, "--output", tmp_path / "o") == 0
    content, out = result(tmp_path / "o"), capsys.readouterr().out
    assert content["data"]["damage"] == {"broken_image": 2}
    assert "found when the folder was read: 2 broken_image" in out
    # The report met the truncated one.
    assert content["dropped"]["broken_images"] == content["dropped"]["articles_made_text_only"] == 1
    assert [entry["file"] for entry in content["broken_images"]] == ["b_2.jpg"]
    assert str(tmp_path) not in json.dumps(content["broken_images"])
    # An article whose gold image is broken is none with gold images: the precision is over the other one.
    assert content["dropped"]["articles_without_readable_gold"] == 1
    assert content["scores"]["image_precision"] == {"value": 1.0, "low": 1.0, "high": 1.0, "articles": 1}


def test_the_way_to_the_remaining_images_and_back(records):
    ids = list(records["id"])
    broken = [BrokenImage(ids[1], 1, 4, "", ""), BrokenImage(ids[1], 3, 4, "", "")]
    readable = ReadableArticles(records, [*broken, broken[0]])
    stored = [{"id": name, "selected": [], "probabilities": []} for name in ids]
    stored[1] |= {"selected": [2, 1, 0], "probabilities": [0.1, None, 0.3, 0.4]}
    remaining = readable.remaining(stored)
    assert remaining[1]["selected"] == [1, 0] and remaining[1]["probabilities"] == [0.1, 0.3]
    back = readable.stored(remaining)
    assert back[1]["selected"] == [2, 0] and back[1]["probabilities"] == [0.1, None, 0.3]
    assert back[1]["broken_images"] == [1, 3] and back[0] == stored[0]
    assert readable.image_counts()[1] == len(records[1]["images"]) - 2
    captions = records[1]["captions"]
    assert readable["captions"][1] == [captions[i] for i in range(len(captions)) if i not in (1, 3)]


def test_one_prediction_and_its_reference_without_the_broken_images():
    broken = [["a", 1, 4, "x.jpg", "cut"], ["a", 3, 4, "y.jpg", "cut"]]
    prediction = {"selected": [2, 0], "probabilities": [0.5, None, 0.7, None], "broken_images": broken}
    reference = {"id": "a", "gold_images": [1, 2, 4], "captions": list("abcde")}
    left, scored = without_broken(prediction, reference)
    assert (left["selected"], left["probabilities"]) == ([1, 0], [0.5, 0.7])
    assert scored == {"id": "a", "gold_images": [1, 2], "captions": ["a", "c", "e"]}
    assert reference["gold_images"] == [1, 2, 4]
    assert without_broken({"selected": [0]}, {"id": "b"}) == ({"selected": [0]}, {"id": "b"})


def test_an_image_that_was_not_scored_has_no_place_in_the_curves():
    probabilities, gold = [[0.9, None, 0.2], [None]], [[0, 1], [0]]
    assert precision_over_k(probabilities, gold, 2) == precision_over_k([[0.9, 0.2], []], [[0], [0]], 2)
    assert calibration(probabilities, gold) == calibration([[0.9, 0.2], []], [[0], [0]])


def test_the_remark_on_an_untrained_predictor_goes_with_its_predictions(records, data_folder, tmp_path):
    tiny.tiny_model(vrp_context="article", distill_weight=0.0).save_pretrained(tmp_path / "model")
    tiny.tiny_processor(max_candidate_images=6).save_pretrained(tmp_path / "model")
    data = ("--data", data_folder, "--limit", 2)
    assert evaluate("--model", tmp_path / "model", *data, *SHORT, "--output", tmp_path / "own") == 0
    assert result(tmp_path / "own")["notes"] == [UNTRAINED_PREDICTOR]
    file = tmp_path / "own" / "predictions.jsonl"
    assert read_predictions(file, records.select(range(2)))[0]["notes"] == [UNTRAINED_PREDICTOR]
    assert evaluate("--predictions", file, *data, "--output", tmp_path / "given") == 0
    assert result(tmp_path / "given")["notes"] == [UNTRAINED_PREDICTOR]
    random = ("--selection", "random", "--output", tmp_path / "random")
    assert evaluate("--predictions", file, *data, *random) == 0
    assert result(tmp_path / "random")["notes"] == []
