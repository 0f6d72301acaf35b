"""Training on instructions: linked pairs in both layouts, from the command line to the evaluation of what was saved."""

import json
import os
from pathlib import Path

import datasets
import pytest

from modeling_spectra import SpectraSumProcessor
from spectra_sum.cli import main as spectra_sum
from spectra_sum.errors import SpectraSumError
from spectra_sum.evaluation.choices import NO_SELECTION
from spectra_sum.tables import build_task_tables, load_published, read_evaluation
from spectra_sum.tasks.task import GROUP_CAPTIONING, STORYTELLING
from tests.forked_process import run
from tests.tasks import annotation, write_vist
from tests.tiny import tiny_model, tiny_processor
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.building import build_model
from trainer.cache_features import main as cache_features
from trainer.command_line.parsing import parse_arguments
from trainer.data import load_records
from trainer.train import main

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "dataset": None,
    "task": "group-captioning",
    "fusion": "concat",
    "align_weight": 0.0,
    "distill_weight": 0.0,
    "final_evaluation": "test",
}
SCORES = {"rouge1", "rouge2", "rougeL", "rougeLsum", "cider", "bleu4"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linked") / "pairs"
    options = ["--closed-world", "--pairs", "40", "--size", "64", "--output", str(folder)]
    assert spectra_sum(["data", "linked-pairs", *options]) == 0
    return folder


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return save_setup(tmp_path_factory.mktemp("setup"), SETTINGS)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def trained(setup, pairs, tmp_path_factory):
    """Two steps on the MSMO layout, as the command line trains."""
    folder = tmp_path_factory.mktemp("trained")
    command = [str(ROOT / "trainer" / "train.py"), *setup_arguments(setup, folder / "run", "--dataset", str(pairs))]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_DATASETS_CACHE": str(folder / "cache"),
    }
    done = run(command, ROOT, environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


def test_two_steps_and_the_final_evaluation(trained, pairs):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {name.removeprefix("test_") for name in metrics} >= {*SCORES, "loss", "samples"}
    assert metrics["test_samples"] == len(datasets.load_from_disk(pairs / "dataset")["test"])
    # Nothing is selected, and nothing of it scored.
    assert not any(word in name for name in metrics for word in ("image_precision", "coverage", "facts"))
    assert 0 <= metrics["test_bleu4"] <= 1 and 0 <= metrics["test_cider"] <= 10
    assert json.loads((trained / "run.json").read_text())["arguments"]["data"]["task"] == "group-captioning"
    assert json.loads((trained / "trainer_state.json").read_text())["global_step"] == 2


def test_the_saved_prompt_is_the_instruction_with_its_images(trained):
    processor = SpectraSumProcessor.from_pretrained(trained)
    assert processor.num_image_tokens > 0
    question = "What do these two pictures share?"
    assert processor.prompt_text(question, num_images=2) == "<image><image>" + question


@pytest.mark.parametrize("layout", ["", "dataset"])
def test_what_was_trained_is_evaluated_on_both_layouts(trained, pairs, tmp_path, cache, layout):
    output = tmp_path / "scores"
    options = ["--task", "group-captioning", "--max-length", "300", "--max-new-tokens", "8", "--output", str(output)]
    assert spectra_sum(["evaluate", "--model", str(trained), "--data", str(pairs / layout), *options]) == 0
    metrics = json.loads((output / "metrics.json").read_text())
    assert set(metrics["scores"]) == SCORES and metrics["notes"] == [] and metrics["selection"] == NO_SELECTION
    own = json.loads((trained / "metrics.json").read_text())
    for name in SCORES:
        assert metrics["scores"][name]["value"] == pytest.approx(own[f"test_{name}"], abs=1e-6), name
    (table, _) = build_task_tables([read_evaluation(output)], load_published(), GROUP_CAPTIONING)
    assert [row.kind for row in table.rows].count("own") == 1


def test_features_of_pairs_are_cached(setup, pairs, tmp_path, cache, capsys):
    options = ("--dataset", str(pairs / "dataset"), "--cache", "patches", "--cache_dir", str(tmp_path / "features"))
    argv = setup_arguments(setup, tmp_path / "run", *options, "--max_steps", "1", "--max_final_articles", "3")
    cache_features(argv)
    assert "the features of 39 articles are in" in capsys.readouterr().out
    main(argv)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test_samples"] == 3 and {f"test_{name}" for name in SCORES} <= metrics.keys()


def test_stories_are_parted_for_training(setup, tmp_path, cache, capsys):
    annotations = [annotation(story, place) for story in range(12) for place in (1, 0)]
    photos = {f"photos/{story}{place}.png": (story, place, 0) for story in range(11) for place in range(2)}
    file = write_vist(tmp_path / "stories.json", annotations, photos)
    argv = setup_arguments(
        setup, tmp_path / "run", "--dataset", str(file), "--task", "storytelling", "--validation_share", "0.3"
    )
    records = load_records(parse_arguments(argv)[0])
    assert sum(map(len, records.values())) == 11 and min(map(len, records.values())) > 0
    assert set(records["train"]["article"]) == {STORYTELLING.instruction}
    assert records["train"][0]["summary"][0].startswith("In picture 0 of story")
    assert "1 of 12 stories lack a photo and are left out" in capsys.readouterr().out


def test_a_saved_model_keeps_its_prompt_and_this_is_told(setup, pairs, tmp_path, caplog, monkeypatch):
    import logging

    folder = tmp_path / "summarizer"
    tiny_model().save_pretrained(folder)
    tiny_processor(prompt_template="Sum up {title}: {body}").save_pretrained(folder)
    argv = ["--config", str(setup / "settings.yaml"), "--output_dir", str(tmp_path / "run"), "--dataset", str(pairs)]
    argv += ["--model_name_or_path", str(folder), "--fusion", "dvp"]
    data_args, architecture, args, model_args = parse_arguments(argv)
    architecture = type(architecture)()
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("trainer"), "propagate", True)
    _, processor = build_model(data_args, architecture, args, model_args, None)
    assert processor.prompt_template == "Sum up {title}: {body}"
    assert "keeps its own prompt, 'Sum up {title}: {body}', in which an instruction of group-captioning" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dataset", "closed_world"), "closed_world holds articles, and group-captioning reads instructions"),
        (
            ("--long_documents", "select"),
            "long_documents: the instructions of group-captioning are no documents; leave it out",
        ),
        (("--dataset", "FILE", "--columns", "title=a"), "a record of group-captioning has no 'title'"),
        (("--task", "captioning"), "task"),
    ],
)
def test_what_does_not_go_with_a_task(setup, pairs, tmp_path, options, message):
    (tmp_path / "x.jsonl").write_text("{}")
    options = [str(tmp_path / "x.jsonl") if option == "FILE" else option for option in options]
    with pytest.raises(SpectraSumError, match=message):
        parse_arguments(setup_arguments(setup, tmp_path / "run", "--dataset", str(pairs), *options))


def test_pairs_without_images_end_a_training_before_the_model_is_loaded(setup, tmp_path, cache):
    for split in ("train", "valid"):
        for name in ("article", "img"):
            (tmp_path / f"{split}_data" / name).mkdir(parents=True)
        (tmp_path / f"{split}_data" / "article" / f"{split}.txt").write_text(
            "@body\nWhat is shared?\n\n@summary\nA boat.\n"
        )
    data_args = parse_arguments(setup_arguments(setup, tmp_path / "run", "--dataset", str(tmp_path)))[0]
    with pytest.raises(
        SpectraSumError, match="1 of 1 records have no images, 'train' among them, and group-captioning"
    ):
        load_records(data_args)
