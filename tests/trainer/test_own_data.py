"""Training on data of the user's own: whole or as a stream, parted, in other columns, and of any length."""

import json

import datasets
import pytest
from PIL import Image

from spectra_sum.cli import main as spectra_sum
from spectra_sum.errors import SpectraSumError
from spectra_sum.own_data.parting import place_of
from tests.own_data import COLUMNS, KINDS, make_articles, write_data
from tests.tiny import tiny_processor
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.arguments import DataArguments
from trainer.cache_features import main as cache_features
from trainer.command_line.parsing import parse_arguments
from trainer.data import fit_to_length, load_records
from trainer.features.key import describe_dataset
from trainer.train import load_run_records, main


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return save_setup(tmp_path_factory.mktemp("setup"), {"final_evaluation": "validation"})


def arguments(setup, output, data, kind, *argv):
    columns = ["--columns", *COLUMNS[kind]] if kind in COLUMNS else []
    return setup_arguments(setup, output, "--dataset", data, *columns, *argv)


@pytest.mark.parametrize(
    ("kind", "more"), [("jsonl", ()), ("parquet", ("--cache", "embeddings")), ("csv", ("--streaming", "true"))]
)
def test_two_steps_and_an_evaluation(setup, tmp_path, capsys, kind, more):
    data = write_data(kind, tmp_path / "data", make_articles(12))
    more = (*more, "--cache_dir", str(tmp_path / "cache")) if "--cache" in more else more
    main(arguments(setup, tmp_path / "run", data, kind, "--validation_share", "0.3", *more))
    out = capsys.readouterr().out
    assert f"{data} (" in out and "article = " in out and "summary = " in out
    assert f"{data}: validation articles are parted off by the hash of their ids" in out
    validation = [f"00{number}" for number in range(12) if place_of(f"00{number}") < 0.3]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["validation_samples"] == len(validation) and metrics["validation_loss"] > 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    counts = {} if "--streaming" in more else {"train": 12 - len(validation), "validation": len(validation)}
    assert record["data"] == {"name": f"stories.{kind}", "source": "file", "articles": counts}
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert state["global_step"] == 2
    columns = ["--columns", *COLUMNS[kind]] if kind in COLUMNS else []
    options = ["--max-length", "300", "--max-new-tokens", "8", "--output", str(tmp_path / "scores")]
    assert spectra_sum(["evaluate", "--model", str(tmp_path / "run"), "--data", data, *columns, *options]) == 0
    scores = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert scores["data"]["name"] == f"stories.{kind}" and scores["data"]["articles"] == 12
    # Articles without gold images are left out of these scores, as everywhere.
    assert ("image_precision" in scores["scores"]) == (kind == "jsonl")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_parted_alike(setup, tmp_path, kind):
    data = write_data(kind, tmp_path / "data", make_articles(40))
    data_args, *_ = parse_arguments(arguments(setup, tmp_path / "run", data, kind))
    records = load_records(data_args)
    ids = [f"00{number}" for number in range(40)]
    assert list(records["validation"]["id"]) == [name for name in ids if place_of(name) < 0.05]
    assert list(records["train"]["id"]) == [name for name in ids if place_of(name) >= 0.05]


def test_a_split_of_the_data_is_taken_as_it_is(setup, tmp_path, capsys):
    for split in ("train", "validation", "test"):
        write_data("csv", tmp_path / "data", make_articles(4), split)
    data_args, _, args, _ = parse_arguments(
        arguments(setup, tmp_path / "run", str(tmp_path / "data"), "csv", "--final_evaluation", "test")
    )
    records = load_run_records(data_args, args)
    assert {name: len(split) for name, split in records.items()} == {"train": 4, "validation": 4, "test": 4}
    assert "parted off" not in capsys.readouterr().out
    data_args.validation_share = 0.1
    with pytest.raises(SpectraSumError, match="has train, validation, test, and nothing is parted off; leave it out"):
        load_records(data_args)


def test_limits_of_articles(setup, tmp_path):
    data = write_data("csv", tmp_path / "data", make_articles(40))
    for more in ((), ("--streaming", "true")):
        argv = arguments(setup, tmp_path, data, "csv", "--max_train_articles", "5", "--max_eval_articles", "1", *more)
        records = load_records(parse_arguments(argv)[0])
        assert [len(list(records[name])) for name in ("train", "validation")] == [5, 1]


def test_no_article_of_own_data_is_dropped(tmp_path):
    """Bodies are cut; of an article that has no room for any of its body the fix is told."""
    articles = make_articles(4)
    articles[2]["summary"] = ["word " * 60]
    articles[3]["article"] = "word " * 5000
    data = write_data("jsonl", tmp_path, articles)
    processor = tiny_processor()
    args = DataArguments(data, columns=COLUMNS["jsonl"], validation_share=0.01)
    records = load_records(args)
    texts = {name: (articles[int(name)]["title"], " ".join(articles[int(name)]["summary"])) for name in ("000", "002")}
    needed = 1 - processor.room_for_body(texts["002"][0], texts["002"][1].strip(), 0)
    for args.max_length in (needed, 2048):
        fitting = fit_to_length(records, processor, args)
        assert {name: len(split) for name, split in fitting.items()} == {name: len(records[name]) for name in records}
    args.max_length = needed - 1
    message = rf"title and summary alone fill max_length={needed - 1} in 1 of \d \w+ articles, '002' among them; "
    with pytest.raises(
        SpectraSumError, match=message + f"pass max_length {needed} or more, or shorten or remove them"
    ):
        fit_to_length(records, processor, args)


def test_an_article_of_a_stream_without_room_is_named_and_left_out(tmp_path, caplog, monkeypatch):
    import logging

    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    articles = make_articles(4)
    articles[2]["summary"] = ["word " * 60]
    data = write_data("jsonl", tmp_path, articles)
    args = DataArguments(data, columns=COLUMNS["jsonl"], streaming=True, max_length=120)
    with pytest.raises(SpectraSumError, match="validation_share: 0.05 of .*stories.jsonl is no article; pass more"):
        load_records(args)
    args.validation_share = 0.5
    records = fit_to_length(load_records(args), tiny_processor(), args)
    ids = [row["id"] for split in records.values() for row in split]
    assert "002" not in ids
    assert "article 002 is left out: title and summary alone fill max_length=120." in caplog.text


def test_features_of_own_data_are_known_by_their_articles(tmp_path):
    data = write_data("csv", tmp_path / "a", make_articles(12))
    records = load_records(DataArguments(data))
    assert describe_dataset(DataArguments(data), records["train"]) == {"first_article": [records["train"]["id"][0]]}
    assert describe_dataset(DataArguments("owner/name"), records["train"]) == {
        "first_article": [records["train"]["id"][0]]
    }


def test_arguments_that_do_not_go_together(setup, tmp_path):
    data = write_data("csv", tmp_path / "data", make_articles(4))
    saved = write_data("saved", tmp_path / "saved", make_articles(4))
    stream = ("--streaming", "true")
    cases = {
        "dataset nowhere: there is no such file or folder; pass 'closed_world', a file": ("nowhere",),
        "columns: 'story' is no assignment": (data, "--columns", "story"),
        "columns: those of closed_world are known; leave it out": ("closed_world", "--columns", "text=story"),
        "is no dataset of the Hub, and has no configurations": (data, "--dataset_config", "3.0.0"),
        "validation_share is 1.0; it is a share between 0 and 1": (data, "--validation_share", "1"),
        "validation_share: closed_world has splits of its own": ("closed_world", "--validation_share", "0.1"),
        "streaming: closed_world is read from the disk": ("closed_world", *stream),
        "saved is read from the disk article by article as it is; leave it out": (saved, *stream),
        "streaming: long_documents select reads all articles first": (data, *stream, "--long_documents", "select"),
        "streaming: verify full reads all articles first": (data, *stream, "--verify", "full"),
        "max_steps: nobody knows the length of a stream; pass the number of steps": (
            data,
            *stream,
            "--max_steps",
            "-1",
        ),
        "and a stream has no end: leave streaming out": (data, *stream, "--cache", "embeddings", "--cache_dir", "x"),
    }
    for message, (dataset, *argv) in cases.items():
        with pytest.raises(SpectraSumError) as error:
            parse_arguments(setup_arguments(setup, tmp_path / "run", "--dataset", dataset, *argv))
        assert message in str(error.value), error.value
        assert "\n" not in str(error.value)
    with pytest.raises(SpectraSumError, match="and a stream has no end: leave streaming out"):
        cache_features(setup_arguments(setup, tmp_path / "run", "--dataset", data, *stream, "--cache_dir", "x"))


def test_articles_without_summary_end_a_training_before_the_model_is_loaded(setup, tmp_path, monkeypatch):
    articles = make_articles(4)
    articles[1]["summary"] = []
    data = write_data("csv", tmp_path / "data", articles)
    monkeypatch.setattr("trainer.train.build_trainer", lambda *args: pytest.fail("the model was loaded"))
    with pytest.raises(SpectraSumError, match="stories.csv: 1 of 4 articles have no summary, '001' among them"):
        main(arguments(setup, tmp_path / "run", data, "csv"))


def test_broken_images_of_a_stream_end_no_training(setup, tmp_path, capsys):
    articles = make_articles(6)
    data = write_data("csv", tmp_path / "data", articles)
    picture = tmp_path / "data" / "pictures" / "1_0.png"
    Image.effect_noise((64, 64), 50).save(picture)
    picture.write_bytes(picture.read_bytes()[:-300])
    argv = ("--streaming", "true", "--validation_share", "0.3", "--max_steps", "4", "--final_evaluation", "none")
    main(arguments(setup, tmp_path / "run", data, "csv", *argv))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["dropped"]["broken_images"] == 1 and record["broken_images"][0]["article"] == "001"


def test_a_stream_goes_on_where_it_was_interrupted(setup, tmp_path):
    data = write_data("csv", tmp_path / "data", make_articles(12))
    argv = (
        "--streaming",
        "true",
        "--validation_share",
        "0.3",
        "--final_evaluation",
        "none",
        "--save_strategy",
        "steps",
    )

    def losses(name: str, *more: str) -> list[float]:
        main(arguments(setup, tmp_path / name, data, "csv", *argv, "--save_steps", "2", "--max_steps", "6", *more))
        log = json.loads((tmp_path / name / "trainer_state.json").read_text())["log_history"]
        return [entry["loss"] for entry in log if "loss" in entry]

    whole = losses("whole")
    assert len(set(whole)) == len(whole) == 6
    assert losses("again", "--resume_from_checkpoint", str(tmp_path / "whole" / "checkpoint-2")) == whole
