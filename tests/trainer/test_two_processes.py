"""Two gloo processes train as one process with the same articles does: losses, gradients, negatives, and the metrics."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import save_text_folder, save_vision_folder, tiny_tokenizer

ROOT = Path(__file__).parents[2]
SETTINGS = """
dataset: closed_world
closed_world_articles: 16
closed_world_eval_articles: 5
max_length: 400
num_latents: 3
sampler_depth: 1
dvp_num_layers: 3
gate_layers: [1, 3]
vrp_hidden_size: 16
vrp_dropout: 0.0
vrp_context: article_set
max_images: 3
max_candidate_images: 6
teacher_kappa: 2.0
initializer_range: 0.1
gate_init: 0.2
align_weight: 0.1
distill_weight: 1.0
use_cpu: true
disable_tqdm: true
report_to: none
logging_steps: 1
generation_max_new_tokens: 8
freeze_language_model: false
save_strategy: "no"
max_steps: 3
learning_rate: 0.01
"""


def train(folder: Path, processes: int) -> tuple[list[dict], dict]:
    config = str(ROOT / "trainer" / "configs" / "accelerate" / "ddp.yaml")
    launch = ["--config_file", config, "--num_processes", "2"] if processes == 2 else ["--cpu"]
    output = folder / f"run_{processes}"
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, str(ROOT / "trainer" / "train.py")]
    command += ["--config", str(folder / "settings.yaml"), "--output_dir", str(output)]
    command += ["--vision_backbone", str(folder / "vision"), "--text_backbone", str(folder / "text")]
    command += ["--per_device_train_batch_size", str(4 // processes), "--per_device_eval_batch_size", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    log = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return log, json.loads((output / "metrics.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    (folder / "settings.yaml").write_text(SETTINGS)
    tiny_tokenizer().save_pretrained(save_vision_folder(folder / "vision"))
    save_text_folder(folder / "text")
    return train(folder, 1), train(folder, 2)


def test_losses_and_gradients_are_those_of_one_process(runs):
    (one, _), (two, _) = runs
    steps = [(first, second) for first, second in zip(one, two, strict=True) if "loss" in first]
    assert len(steps) == 3
    for first, second in steps:
        names = {"loss", "loss_lm", "loss_align", "loss_distill", "grad_norm", "gate_1", "gate_3", "vrp_agreement"}
        assert names <= first.keys()
        for name in names:
            assert second[name] == pytest.approx(first[name], rel=2e-5), (name, first["step"])
    # The first step has no negatives; from the second on they come from both processes' articles.
    assert steps[1][0]["loss_align"] > 2 * steps[0][0]["loss_align"]


def test_the_evaluation_is_that_of_one_process(runs):
    (_, one), (_, two) = runs
    compared = {name for name in one if not any(part in name for part in ("runtime", "per_second"))}
    assert {"test_loss", "test_rougeL", "test_image_precision"} <= compared
    for name in compared:
        assert two[name] == pytest.approx(one[name], rel=1e-4), name
