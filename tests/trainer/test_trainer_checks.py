"""What a trainer refuses when it is made, in one line."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import TrainingArguments

from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.tiny import picture
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.building import trainer_parts
from trainer.spectra_trainer import SpectraTrainer
from trainer.train import parse_arguments

ARTICLE = {"id": "a", "title": "Ships", "article": "Two ships.", "summary": ["A ship."], "images": [picture()]}


@pytest.fixture(scope="module")
def setup(tmp_path_factory) -> Path:
    return save_setup(tmp_path_factory.mktemp("setup"))


@pytest.fixture(scope="module")
def parts(setup) -> dict:
    """A trainer's keyword arguments; a training changes none of them here."""
    records = closed_world_dataset({"train": 3, "validation": 2, "test": 2}, seed=5)
    return trainer_parts(*parse_arguments(setup_arguments(setup, setup / "run")), records)


@pytest.fixture
def refusal(setup, parts, tmp_path):
    def refused(*argv: str, **kwargs) -> str:
        args = parse_arguments(setup_arguments(setup, tmp_path / "run", *argv))[2]
        with pytest.raises(SpectraSumError) as caught:
            SpectraTrainer(**{"args": args, **parts, **kwargs})
        message = str(caught.value)
        assert "\n" not in message
        return message

    return refused


def no_metrics(prediction):
    return {}


@pytest.mark.parametrize(
    ("argv", "kwargs", "message"),
    [
        ((), {"processing_class": None}, "processing_class: pass the model's SpectraSumProcessor"),
        ((), {"compute_loss_func": no_metrics}, "compute_loss_func: the losses are"),
        ((), {"optimizer_cls_and_kwargs": (torch.optim.SGD, {})}, "optimizer_cls_and_kwargs: each part has its own"),
        (("--remove_unused_columns", "true"), {}, "remove_unused_columns must stay false"),
        (("--average_tokens_across_devices", "false"), {}, "average_tokens_across_devices must stay true"),
        (("--predict_with_generate", "false"), {"compute_metrics": no_metrics}, "compute_metrics reads generated"),
        (
            ("--prediction_loss_only", "true"),
            {"preprocess_logits_for_metrics": no_metrics},
            "preprocess_logits_for_metrics reads generated",
        ),
        (("--include_for_metrics", "loss"), {}, "include_for_metrics: compute_metrics gets no losses"),
        (("--accelerator_config", '{"dispatch_batches": true}'), {}, "dispatch_batches cannot send texts"),
        (("--accelerator_config", '{"even_batches": false}'), {}, "even_batches must stay true"),
        (
            ("--train_sampling_strategy", "group_by_length"),
            {},
            "train_sampling_strategy: group_by_length needs the articles' lengths, as a column 'length'",
        ),
        (("--train_sampling_strategy", "batch_rebalance"), {"train_dataset": [ARTICLE]}, "batch_rebalance needs"),
        (
            ("--dataloader_drop_last", "true", "--per_device_train_batch_size", "4"),
            {},
            "dataloader_drop_last leaves no step: 3 articles make no whole batch of 4",
        ),
        (
            ("--max_steps", "-1"),
            {"train_dataset": Dataset.from_list([ARTICLE]).to_iterable_dataset()},
            "max_steps: train_dataset is a stream of unknown length",
        ),
        ((), {"train_dataset": []}, "train_dataset has no articles"),
        ((), {"eval_dataset": (number for number in range(3))}, "eval_dataset is a generator: pass a list"),
        ((), {"eval_dataset": ["a"]}, "eval_dataset: an article is a str, where a dict"),
        (
            (),
            {"eval_dataset": {"good": [ARTICLE], "bad": Dataset.from_list([ARTICLE]).remove_columns("images")}},
            r"eval_dataset['bad']: its articles lack images; they have id, title, article, summary",
        ),
    ],
)
def test_what_cannot_work_is_refused_when_the_trainer_is_made(refusal, argv, kwargs, message):
    assert message in refusal(*argv, **kwargs)


def test_other_training_arguments_are_refused(refusal, tmp_path):
    message = refusal(args=TrainingArguments(str(tmp_path), use_cpu=True))
    assert message == "args is a TrainingArguments: pass SpectraTrainingArguments."


def test_label_smoothing_is_refused_without_the_command_line(setup, parts, refusal):
    args = parse_arguments(setup_arguments(setup, setup / "run"))[2]
    args.label_smoothing_factor = 0.1
    assert "no label smoothing" in refusal(args=args)
