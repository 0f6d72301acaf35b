"""Two gloo processes that accumulate gradients train as one process with the same articles does, which does not accumulate
them: losses, gradients, negatives, and the metrics.
"""

import json
import os
from pathlib import Path

import pytest

from tests.double_precision import double_precision
from tests.forked_process import LAUNCHER, run
from tests.trainer.training_setup import save_setup, setup_arguments

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "closed_world_articles": 16,
    "closed_world_eval_articles": 5,
    "align_weight": 0.1,
    "distill_weight": 1.0,
    "max_steps": 3,
    "dtype": "auto",
}


def train(folder: Path, processes: int) -> tuple[list[dict], dict]:
    config = str(ROOT / "trainer" / "configs" / "accelerate" / "ddp.yaml")
    launch = [*LAUNCHER, "--config_file", config, "--num_processes", "2"] if processes == 2 else []
    output = folder / f"run_{processes}"
    training = str(ROOT / "tests" / "double_precision.py")
    command = [*launch, training]
    command += setup_arguments(folder, output)
    # Four articles a step: together, or in two micro-batches of one article in each process.
    batches = ["1", "--gradient_accumulation_steps", "2"] if processes == 2 else ["4"]
    command += ["--per_device_eval_batch_size", "1", "--per_device_train_batch_size", *batches]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = run(command, folder, environment)
    assert done.returncode == 0, done.stderr[-3000:]
    log = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return log, json.loads((output / "metrics.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    with double_precision():
        folder = save_setup(tmp_path_factory.mktemp("processes"), SETTINGS)
    return train(folder, 1), train(folder, 2)


def test_losses_and_gradients_are_those_of_one_process(runs):
    (one, _), (two, _) = runs
    steps = [(first, second) for first, second in zip(one, two, strict=True) if "loss" in first]
    assert len(steps) == 3
    for first, second in steps:
        names = {"loss", "loss_lm", "loss_align", "loss_distill", "grad_norm", "gate_1", "gate_3", "vrp_agreement"}
        assert names <= first.keys()
        for name in names:
            assert second[name] == pytest.approx(first[name], rel=1e-9), (name, first["step"])
    # The first step has no negatives; from the second on they come from both processes' articles.
    assert steps[1][0]["loss_align"] > 2 * steps[0][0]["loss_align"]


def test_the_evaluation_is_that_of_one_process(runs):
    (_, one), (_, two) = runs
    compared = {name for name in one if not any(part in name for part in ("runtime", "per_second"))}
    assert {"test_loss", "test_rougeL", "test_image_precision"} <= compared
    for name in compared:
        assert two[name] == pytest.approx(one[name], rel=1e-9), name
