"""What is evaluated once a training has ended: what was asked for, said before the training starts."""

import json
from pathlib import Path

import pytest

import trainer.train
from hub_upload.cards.run_facts import read_run_facts
from spectra_sum.errors import SpectraSumError
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.spectra_trainer import SpectraTrainer
from trainer.train import main

SETTINGS = {
    "closed_world_articles": 4,
    "closed_world_eval_articles": 3,
    "align_weight": 0.0,
    "distill_weight": 0.0,
    "max_steps": 1,
    "final_evaluation": None,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_setup(tmp_path_factory.mktemp("final"), SETTINGS)


@pytest.fixture
def evaluated(monkeypatch):
    """What was announced before the training, and the ids of the articles that were then evaluated."""
    seen = {"before": None, "ids": []}
    train, evaluate = SpectraTrainer.train, SpectraTrainer.evaluate

    def keep_output(self, *args, **kwargs):
        seen["before"] = seen["capsys"].readouterr().out
        return train(self, *args, **kwargs)

    def keep_ids(self, records, **kwargs):
        seen["ids"].append(list(records["id"]))
        return evaluate(self, records, **kwargs)

    monkeypatch.setattr(SpectraTrainer, "train", keep_output)
    monkeypatch.setattr(SpectraTrainer, "evaluate", keep_ids)
    return seen


@pytest.mark.parametrize(
    ("options", "split", "count"),
    [
        ((), "validation", 3),
        (("--max_final_articles", "2"), "validation", 2),
        (("--final_evaluation", "test", "--max_final_articles", "1"), "test", 1),
    ],
)
def test_so_many_articles_of_that_split_are_evaluated(folder, tmp_path, evaluated, capsys, options, split, count):
    evaluated["capsys"] = capsys
    output = tmp_path / "run"
    main(setup_arguments(folder, output, *options))
    (line,) = [line for line in evaluated["before"].splitlines() if line.startswith("final evaluation: ")]
    most = dict(zip(options[::2], options[1::2], strict=True)).get("--max_final_articles", "200")
    assert line == (
        f"final evaluation: {count} {split} articles, losses, summaries and selected images "
        f"(--final_evaluation {split}, --max_final_articles {most})"
    )
    (found,) = evaluated["ids"]
    assert len(found) == count and all(name.startswith(f"{split}-") for name in found), found
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics[f"{split}_samples"] == count
    assert {name.partition("_")[0] for name in metrics} <= {split, "epoch"}
    assert 0 <= metrics[f"{split}_rougeL"] <= 1
    # The test articles are counted where they are used, and what a card is made of knows how many were evaluated.
    articles = json.loads((output / "run.json").read_text())["data"]["articles"]
    assert articles == {"train": 4, "validation": 3} | ({"test": 1} if split == "test" else {})
    facts = read_run_facts(output)
    assert (facts.metrics_split, facts.metrics_articles) == (split, count)
    assert not {"samples", "runtime"} & facts.metrics.keys() and "rougeL" in facts.metrics


def test_none_evaluates_nothing_and_leaves_no_scores_of_an_earlier_model(folder, tmp_path, evaluated, capsys):
    evaluated["capsys"] = capsys
    output = tmp_path / "run"
    output.mkdir()
    (output / "metrics.json").write_text('{"test_rouge1": 0.5}')
    main(setup_arguments(folder, output, "--final_evaluation", "none"))
    assert "final evaluation: none, and no metrics.json" in evaluated["before"]
    assert evaluated["ids"] == []
    assert (output / "model.safetensors").is_file() and not (output / "metrics.json").exists()
    facts = read_run_facts(output)
    assert (facts.metrics, facts.metrics_split, facts.metrics_articles) == ({}, None, None)


def test_losses_alone_where_no_summaries_are_written(folder, tmp_path, evaluated, capsys):
    evaluated["capsys"] = capsys
    main(setup_arguments(folder, tmp_path / "run", "--predict_with_generate", "false"))
    assert "final evaluation: 3 validation articles, losses alone (" in evaluated["before"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["validation_loss"] > 0 and "validation_rougeL" not in metrics


def test_a_test_split_that_is_not_there_is_refused_before_the_model_is_loaded(folder, tmp_path, monkeypatch):
    def without_test(data_args):
        records = load(data_args)
        del records["test"]
        return records

    load = trainer.train.load_records
    monkeypatch.setattr(trainer.train, "load_records", without_test)
    monkeypatch.setattr(trainer.train, "build_trainer", lambda *args: pytest.fail("the model was loaded"))
    with pytest.raises(SpectraSumError, match="final_evaluation: closed_world has no test articles; pass validation"):
        main(setup_arguments(folder, tmp_path / "run", "--final_evaluation", "test"))
