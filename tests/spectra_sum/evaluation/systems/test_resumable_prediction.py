"""Predicting a split in batches that survive a kill, and the guard of the settings that they belong to."""

import copy
import json
from pathlib import Path

import pytest

from spectra_sum.evaluation.systems import resumable_prediction
from spectra_sum.evaluation.systems.resumable_prediction import finished_batches, predict_resumably
from spectra_sum.evaluation.systems.sources import GenerationSettings, from_model, keep_to_settings
from spectra_sum.models.loading import load_model
from spectra_sum.summaries.prediction import predict_summaries

OPTIONS = {"batch_size": 2, "max_length": 200, "use_images": True, "seed": 0, "max_new_tokens": 6}


def written_lines(folder: Path) -> list[str]:
    """The lines of a run in one process."""
    (file,) = folder.glob("process-0-*.jsonl")
    return file.read_text(encoding="utf-8").split("\n")


@pytest.fixture(scope="module")
def loaded(model_folder):
    return load_model(str(model_folder))


@pytest.fixture(scope="module")
def whole(loaded, records, tmp_path_factory) -> tuple[list[dict], Path]:
    """The predictions of an uninterrupted run, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return predict_resumably(loaded, records, folder, **OPTIONS), folder


@pytest.fixture
def generated(monkeypatch) -> list[list[str]]:
    """The ids of every batch that is generated."""
    batches = []

    def spy(model, processor, records, **options):
        batches.append([record["id"] for record in records])
        return predict_summaries(model, processor, records, **options)

    monkeypatch.setattr(resumable_prediction, "predict_summaries", spy)
    return batches


def test_predictions_are_those_of_the_model(loaded, records, whole):
    predictions, folder = whole
    assert predictions == predict_summaries(
        *loaded[:2], list(records), batch_size=2, max_length=200, max_new_tokens=6, progress=False
    )
    assert [prediction["id"] for prediction in predictions] == list(records["id"])
    assert [len(batch) for _, batch in sorted(finished_batches(folder).items())] == [2, 2, 2, 1]
    # The predictor scores the first four images and selects two; the last article has none.
    assert [len(prediction["probabilities"]) for prediction in predictions][-2:] == [4, 0]
    assert all(len(prediction["selected"]) == 2 for prediction in predictions[:-1])


@pytest.mark.parametrize("torn", ["", '{"batch": 2, "predictions": [{"id": "x", "summary": "caf\u00e9'])
def test_killed_run_continues_where_it_was(loaded, records, whole, tmp_path, generated, torn):
    lines = written_lines(whole[1])
    # A cut in the middle of a character, as in the two bytes of é.
    tail = torn.encode("utf-8")[:-1]
    (tmp_path / "process-0.jsonl").write_bytes("".join(f"{line}\n" for line in lines[:2]).encode() + tail)
    assert predict_resumably(loaded, records, tmp_path, **OPTIONS) == whole[0]
    ids = list(records["id"])
    assert generated == [ids[4:6], ids[6:]]
    assert predict_resumably(loaded, records, tmp_path, **OPTIONS) == whole[0]
    assert len(generated) == 2


def test_batches_of_several_processes_are_put_together(loaded, records, whole, tmp_path, generated):
    lines = written_lines(whole[1])
    (tmp_path / "process-0.jsonl").write_text(f"{lines[2]}\n", encoding="utf-8")
    (tmp_path / "process-1.jsonl").write_text(f"{lines[3]}\n{lines[0]}\n{lines[1][:40]}", encoding="utf-8")
    assert predict_resumably(loaded, records, tmp_path, **OPTIONS) == whole[0]
    assert generated == [list(records["id"])[2:4]]


def test_sampling_does_not_depend_on_where_a_run_was_killed(loaded, records, tmp_path):
    options = {**OPTIONS, "do_sample": True, "temperature": 2.0}
    whole = predict_resumably(loaded, records, tmp_path / "whole", **options)
    lines = written_lines(tmp_path / "whole")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "process-0.jsonl").write_text(f"{lines[0]}\n", encoding="utf-8")
    assert predict_resumably(loaded, records, tmp_path / "part", **options) == whole
    other = predict_resumably(loaded, records, tmp_path / "other", **{**options, "seed": 9})
    assert [row["summary"] for row in other] != [row["summary"] for row in whole]


def test_line_separators_of_unicode_part_no_batches(tmp_path):
    batch = {"batch": 0, "predictions": [{"id": "a", "summary": "x\u2028y\x85z"}]}
    (tmp_path / "process-0.jsonl").write_text(json.dumps(batch, ensure_ascii=False) + "\n", encoding="utf-8")
    assert finished_batches(tmp_path) == {0: batch["predictions"]}


def test_other_settings_are_refused(tmp_path):
    file = tmp_path / "batches" / "settings.json"
    keep_to_settings(file, {"seed": 0, "num_beams": 1, "model": "m"})
    keep_to_settings(file, {"model": "m", "num_beams": 1, "seed": 0})
    expected = (
        f"{file.parent} holds the results of other settings (added, model, seed); remove the folder or choose another "
        "--output."
    )
    with pytest.raises(ValueError) as raised:
        keep_to_settings(file, {"seed": 1, "num_beams": 1, "added": None})
    assert str(raised.value) == expected
    assert json.loads(file.read_text()) == {"seed": 0, "num_beams": 1, "model": "m"}


def test_model_counts_what_it_did_not_read(loaded, records, tmp_path):
    generation = GenerationSettings(batch_size=4, max_length=120, max_new_tokens=4)
    output = from_model(loaded, {"model": "m"}, records, tmp_path / "a", generation, seed=0)
    room = [120 - len(loaded.processor(text="", title=title)["input_ids"][0]) for title in records["title"]]
    bodies = [len(loaded.processor.tokenizer(body)["input_ids"]) for body in records["article"]]
    images = [len(record["images"]) for record in records]
    assert output.dropped == {
        "bodies_cut": sum(size > limit for size, limit in zip(bodies, room, strict=True)),
        "images_not_scored": sum(max(0, count - 4) for count in images),
    }
    assert output.selection_count == 2
    assert output.variant == {"fusion": "dvp", "objective": "multi", "vrp_context": "article"}
    assert output.settings["max_length"] == 120
    # The text positions of the model are a limit, too: 512, of which 30 are for the summary.
    generation = GenerationSettings(batch_size=4, max_length=9999, max_new_tokens=30, text_only=True)
    output = from_model(loaded, {"model": "m"}, records.select([0]), tmp_path / "b", generation, seed=0)
    assert output.settings["max_length"] == 482
    # No image was offered, so none was left out.
    assert "images_not_scored" not in output.dropped
    assert output.predictions[0]["selected"] == output.predictions[0]["probabilities"] == []


def test_caption_lines_that_were_not_read_are_counted(loaded, records, tmp_path):
    processor = copy.copy(loaded.processor)
    processor.captions = "prompt"
    reading, plain = loaded._replace(processor=processor), GenerationSettings(batch_size=4, max_new_tokens=4)
    whole = from_model(reading, {}, records, tmp_path / "whole", plain, seed=0)
    assert whole.dropped == {"images_not_scored": sum(max(0, len(record["images"]) - 4) for record in records)}
    # Within 120 tokens some bodies fit with some of their lines.
    short = GenerationSettings(batch_size=4, max_new_tokens=4, max_length=120)
    cut = from_model(reading, {}, records, tmp_path / "cut", short, seed=0)
    expected = 0
    for record in records:
        inputs = processor(record["article"], title=record["title"], captions=record["captions"][:3], max_length=120)
        expected += len(record["captions"][:3]) - processor.tokenizer.decode(inputs["input_ids"][0]).count("Figure ")
    assert cut.dropped["caption_lines_cut"] == expected > 0
    # Captions belong to the settings of a model that reads them, and to no other's.
    assert "captions_sha256" not in from_model(loaded, {}, records, tmp_path / "plain", plain, seed=0).settings
    captions = [["Another."] * len(record["captions"]) for record in records]
    changed = records.remove_columns("captions").add_column("captions", captions)
    with pytest.raises(ValueError, match=r"other settings \(captions_sha256\)"):
        from_model(reading, {}, changed, tmp_path / "whole", plain, seed=0)


def test_title_that_fills_the_prompt(loaded, records, tmp_path):
    generation = GenerationSettings(max_length=10)
    with pytest.raises(ValueError, match=f"the title of {records['id'][0]!r} leaves no room for its body within 10"):
        from_model(loaded, {}, records, tmp_path / "c", generation, seed=0)
    assert not (tmp_path / "c").exists()
