"""What happens in long runs: a training that is killed, stopped or out of disk goes on as if nothing had happened.

All runs have dropout, shuffling, two micro-batches a step and five steps an epoch, and are compared with one training that
nothing interrupted.
"""

import errno
import json
import multiprocessing
import os
import resource
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerState, TrainingArguments

import trainer.train
from tests.forked_process import LAUNCHER, run
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.building import build_trainer
from trainer.checkpoints.graceful_stop import GracefulStop, evaluation_is_missing, keep_workers
from trainer.checkpoints.integrity import QUEUE_FILE, checkpoint_problem
from trainer.checkpoints.push import CheckpointPush
from trainer.checkpoints.writing import CheckpointError
from trainer.data import load_records
from trainer.spectra_trainer import SpectraTrainer
from trainer.train import main, parse_arguments

ROOT = Path(__file__).parents[3]
SETTINGS = {
    "closed_world_articles": 20,
    "closed_world_eval_articles": 2,
    "vrp_dropout": 0.3,
    "predict_with_generate": False,
    "gradient_accumulation_steps": 2,
    "save_strategy": None,
    "save_steps": 3,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "max_steps": 8,
}
# Runs trainer/train.py's main() in every process, which one of them signals in the middle of a step.
SIGNALLED = """
import os, sys
from pathlib import Path
import trainer.train
from tests.trainer.checkpoints.test_faults import AtStep, add_callback

rank, step, number, output = int(os.environ.get("RANK", 0)), *map(int, sys.argv[1:3]), Path(sys.argv[3])
choose = trainer.train.checkpoint_to_resume

def choose_and_tell(args):
    checkpoint = choose(args)
    (output / f"chosen_by_{rank}").write_text(str(checkpoint))
    return checkpoint

if __name__ == "__main__":
    trainer.train.checkpoint_to_resume = choose_and_tell
    if rank == int(os.environ.get("WORLD_SIZE", 1)) - 1:
        trainer.train.build_trainer = add_callback(AtStep(step, lambda: os.kill(os.getpid(), number)))
    trainer.train.main(sys.argv[4:])
"""
# Runs a script in a process whose files have a greatest size.
LIMITED = """
import resource, runpy, sys

resource.setrlimit(resource.RLIMIT_FSIZE, 2 * (int(sys.argv[1]),))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# Under the size of the weights, and between theirs and the optimizer's.
LESS_THAN_WEIGHTS, LESS_THAN_OPTIMIZER = 300_000, 800_000


class AtStep(TrainerCallback):
    """Does something in the middle of a step, after the first of its micro-batches."""

    def __init__(self, step: int, action: Callable[[], None]):
        self.step = step
        self.action = action

    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            self.action()


def add_callback(callback: TrainerCallback) -> Callable:
    return lambda *args: build_trainer(*args, callbacks=[callback])


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Writing a file beyond `size` bytes fails, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = save_setup(tmp_path_factory.mktemp("faults"), SETTINGS)
    (folder / "signalled.py").write_text(SIGNALLED)
    return folder


def options(output: Path, *more: str) -> list[str]:
    return setup_arguments(output.parent, output, *more)


def resume(output: Path, *more: str) -> None:
    main(options(output, "--resume_from_checkpoint", "latest", *more))


def start(command: list[str]) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    return run(command, ROOT, environment)


def part_of(whole: Path, output: Path, *steps: int) -> Path:
    """A run that was interrupted after the checkpoints of these steps."""
    for step in steps:
        shutil.copytree(whole / f"checkpoint-{step}", output / f"checkpoint-{step}")
    return output


def losses(output: Path) -> list[dict]:
    """The losses, gradient norm, rate and gates of every step, and the evaluations."""
    log = json.loads((output / "trainer_state.json").read_text())["log_history"]
    # Times, and what is counted since the start of the process.
    left_out = ("runtime", "per_second", "truncated_texts")
    kept = [entry for entry in log if "loss_lm" in entry or "eval_loss" in entry]
    return [{name: entry[name] for name in entry if not any(part in name for part in left_out)} for entry in kept]


def checkpoints(output: Path) -> set[str]:
    return {path.name for path in output.iterdir() if "checkpoint" in path.name}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def assert_went_on_as(whole: Path, output: Path) -> None:
    assert losses(output) == losses(whole)
    for name in ("model.safetensors", QUEUE_FILE):
        found, expected = (load_file(folder / "checkpoint-8" / name) for folder in (output, whole))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected), name


@pytest.fixture(scope="module")
def whole(folder) -> Path:
    main(options(folder / "whole"))
    found = losses(folder / "whole")
    assert [entry["step"] for entry in found] == [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 8]
    assert all(entry["loss_align"] > 0 and entry["loss_distill"] > 0 for entry in found if "loss" in entry)
    return folder / "whole"


def test_a_killed_training_goes_on_with_the_same_losses(whole):
    output = whole.with_name("killed")
    output.mkdir()
    done = start([str(whole.parent / "signalled.py"), "8", str(signal.SIGKILL.value), str(output), *options(output)])
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    # The sixth step is the first of the second epoch.
    assert checkpoints(output) == {"checkpoint-3", "checkpoint-6"}
    resume(output)
    assert_went_on_as(whole, output)


def test_sigterm_saves_after_the_running_step_and_publishes_nothing(whole, monkeypatch, capsys):
    output = whole.with_name("terminated")
    pushed, workers = [], []
    monkeypatch.setattr(trainer.train, "check_push", lambda *args: None)
    monkeypatch.setattr(CheckpointPush, "start", lambda self, path, message: pushed.append(path.name) or True)
    monkeypatch.setattr(CheckpointPush, "finish", lambda *args: pytest.fail("an unfinished run was published"))

    def terminate() -> None:
        # torchrun and SLURM signal the workers of the DataLoader too. From its parent, a worker takes it as a farewell.
        workers.extend(multiprocessing.active_children())
        for worker in workers:
            subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
            worker.join(0.5)
            assert worker.is_alive()
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    # An evaluation is due after the sixth step, and the best checkpoint is the third.
    best = ("--load_best_model_at_end", "true", "--save_total_limit", "1")
    push = ("--push_to_hub", "true", "--hub_model_id", "user/name", "--hub_strategy", "every_save")
    with monkeypatch.context() as patch:
        patch.setattr(trainer.train, "build_trainer", add_callback(AtStep(6, terminate)))
        with pytest.raises(SystemExit) as stopped:
            main(options(output, *best, *push, "--dataloader_num_workers", "1"))
    assert stopped.value.code == 143
    assert len(workers) == 1
    assert signal.getsignal(signal.SIGTERM) is before
    told = capsys.readouterr().err.splitlines()
    (line,) = [line for line in told if "SIGTERM" in line]
    assert line.endswith(f"after step 6 of 8; {output / 'checkpoint-6'} is saved. To go on from it:")
    command = shlex.split(told[told.index(line) + 1])
    assert command[:2] == ["python", "trainer/train.py"] and command[-2:] == ["--resume_from_checkpoint", "latest"]
    assert pushed == ["checkpoint-3"]
    assert checkpoints(output) == {"checkpoint-3", "checkpoint-6"}
    assert not {"model.safetensors", "trainer_state.json", "metrics.json"} & set(os.listdir(output))
    state = json.loads((output / "checkpoint-6" / "trainer_state.json").read_text())
    assert Path(state["best_model_checkpoint"]).name == "checkpoint-3"
    assert [entry["step"] for entry in state["log_history"] if "eval_loss" in entry] == [3]
    resume(output)
    assert_went_on_as(whole, output)


def test_sigterm_during_an_evaluation_waits_for_no_further_step(whole, monkeypatch):
    class DuringEvaluation(TrainerCallback):
        def on_prediction_step(self, args, state, control, **kwargs):
            if state.global_step == 5:
                signal.raise_signal(signal.SIGTERM)

    output = whole.with_name("terminated_in_evaluation")
    monkeypatch.setattr(trainer.train, "build_trainer", add_callback(DuringEvaluation()))
    with pytest.raises(SystemExit):
        main(options(output, "--eval_strategy", "epoch", "--eval_on_start", "true"))
    assert checkpoints(output) == {"checkpoint-3", "checkpoint-5"}
    state = json.loads((output / "checkpoint-5" / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if "eval_loss" in entry] == [0, 5]


def test_sigterm_during_an_evaluation_saves_where_only_the_best_are_saved(whole, monkeypatch):
    class DuringEvaluation(TrainerCallback):
        def on_prediction_step(self, args, state, control, **kwargs):
            # This evaluation will not be the best.
            state.best_metric = 0.0
            signal.raise_signal(signal.SIGTERM)

    output = part_of(whole, whole.with_name("terminated_with_the_best"), 3)
    best = ("--save_strategy", "best", "--metric_for_best_model", "eval_loss", "--eval_strategy", "epoch")
    monkeypatch.setattr(trainer.train, "build_trainer", add_callback(DuringEvaluation()))
    with pytest.raises(SystemExit) as stopped:
        resume(output, *best)
    assert stopped.value.code == 143
    assert checkpoints(output) == {"checkpoint-3", "checkpoint-5"}
    assert checkpoint_problem(output / "checkpoint-5") is None


def test_sigterm_in_the_last_step_leaves_its_evaluation_to_the_resumed_run(whole, monkeypatch):
    output = part_of(whole, whole.with_name("terminated_at_the_end"), 6)
    best = ("--load_best_model_at_end", "true", "--metric_for_best_model", "eval_loss")
    with monkeypatch.context() as patch:
        patch.setattr(
            trainer.train, "build_trainer", add_callback(AtStep(8, lambda: signal.raise_signal(signal.SIGTERM)))
        )
        with pytest.raises(SystemExit):
            resume(output, *best)
    resume(output, *best)
    assert_went_on_as(whole, output)
    # The only evaluation that was compared.
    state = json.loads((output / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(output / "checkpoint-8")
    assert state["best_metric"] == losses(whole)[-1]["eval_loss"]


def test_the_best_checkpoint_by_an_evaluation_that_was_left_out_is_the_one_loaded_at_the_end(whole, monkeypatch):
    class NoBetterOne(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            state.best_metric = 0.0

    output = part_of(whole, whole.with_name("best_left_out"), 6)
    # As SIGTERM in the sixth step leaves it.
    path = output / "checkpoint-6" / "trainer_state.json"
    state = json.loads(path.read_text())
    state["log_history"] = [
        entry for entry in state["log_history"] if (entry["step"], "eval_loss" in entry) != (6, True)
    ]
    path.write_text(json.dumps(state))
    monkeypatch.setattr(trainer.train, "build_trainer", add_callback(NoBetterOne()))
    best = ("--save_strategy", "best", "--metric_for_best_model", "eval_loss", "--load_best_model_at_end", "true")
    resume(output, *best)
    state = json.loads((output / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(output / "checkpoint-6")
    assert checkpoints(output) == {"checkpoint-6"} and losses(output)[-1]["step"] == 8
    assert (output / "model.safetensors").read_bytes() == (whole / "checkpoint-6" / "model.safetensors").read_bytes()


def test_an_epoch_that_ends_with_the_last_step_owes_its_evaluation():
    for step, missing in ((4, False), (5, True), (8, True)):
        args = TrainingArguments(eval_strategy="epoch", use_cpu=True)
        state = TrainerState(global_step=step, max_steps=8, epoch=step / 5)
        assert evaluation_is_missing(args, state) == missing
        state.log_history = [{"step": step, "eval_runtime": 1.0}]
        assert not evaluation_is_missing(args, state)


@pytest.fixture
def received():
    """The signals that come through to what SIGTERM did before."""
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)


def listener(stopped_early: bool) -> SimpleNamespace:
    """What a GracefulStop needs of a trainer that trains nothing."""
    nothing = lambda callback: None  # noqa: E731
    return SimpleNamespace(
        add_callback=nothing, remove_callback=nothing, stopped_early=stopped_early, is_world_process_zero=lambda: True
    )


def test_sigterm_that_stopped_nothing_is_not_lost(received):
    with GracefulStop(listener(stopped_early=True)):
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyError), GracefulStop(listener(stopped_early=False)):
        signal.raise_signal(signal.SIGTERM)
        raise KeyError("an error says more")
    assert received == []
    with GracefulStop(listener(stopped_early=False)):
        signal.raise_signal(signal.SIGTERM)
        assert received == []
    assert received == [signal.SIGTERM]


def test_other_processes_of_a_training_still_end_by_sigterm():
    with GracefulStop(listener(stopped_early=False)):
        context = multiprocessing.get_context("fork")
        running = context.Event()
        # Python forgets the signals that a process gets before it has left os.fork().
        other = context.Process(target=lambda: (running.set(), time.sleep(60)), daemon=True)
        other.start()
        assert running.wait(20)
        other.terminate()
        other.join(20)
        assert other.exitcode == -signal.SIGTERM


def test_a_worker_ends_with_its_training_and_by_nobody_else_s_sigterm():
    loader = DataLoader(range(100), num_workers=2, multiprocessing_context="fork")
    keep_workers(SimpleNamespace(base_dataloader=loader))
    with GracefulStop(listener(stopped_early=False)):
        batches = iter(loader)
        # One from each worker: both have been started for good.
        assert [next(batches).item() for _ in range(2)] == [0, 1]
        workers = multiprocessing.active_children()
    assert len(workers) == 2
    for worker in workers:
        subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
        worker.join(0.2)
        assert worker.is_alive()
    assert next(batches).item() == 2
    # At the end of a process, with an error or without, multiprocessing does this and waits for as long as it takes.
    for worker in workers:
        worker.terminate()
        worker.join(20)
        # Any other code would be a failure of the DataLoader.
        assert worker.exitcode == 0


def test_two_processes_choose_the_same_checkpoint_and_stop_at_the_same_step(whole):
    output = part_of(whole, whole.with_name("two_processes"), 3, 6)
    os.truncate(output / "checkpoint-6" / "optimizer.pt", 1000)
    launch = [*LAUNCHER, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    launch += [str(whole.parent / "signalled.py"), "5", str(signal.SIGTERM.value), str(output)]
    done = start([*launch, *options(output, "--resume_from_checkpoint", "latest")])
    assert done.returncode == 1
    assert "exitcode  : 143" in done.stderr, done.stderr[-3000:]
    assert done.stderr.count("stopped by SIGTERM after step 5 of 8") == 1
    assert done.stderr.count("checkpoint-6 (optimizer.pt is cut off or damaged") == 1
    told = f"the number of processes is 2, and {output / 'checkpoint-3'} has the random states of 1:"
    assert done.stderr.count(told) == 1
    for rank in (0, 1):
        assert (output / f"chosen_by_{rank}").read_text() == str(output / "checkpoint-3")
    assert checkpoints(output) == {"checkpoint-3", "checkpoint-5", "unusable-checkpoint-6"}
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(os.listdir(output / "checkpoint-5"))
    assert checkpoint_problem(output / "checkpoint-5") is None


def test_a_full_disk_ends_the_training_in_one_line_and_keeps_the_last_checkpoint(whole):
    output = part_of(whole, whole.with_name("full_disk"), 3)
    before = contents(output / "checkpoint-3")
    command = [str(ROOT / "trainer" / "train.py"), *options(output, "--resume_from_checkpoint", "latest")]
    limited = output / "limited.py"
    limited.write_text(LIMITED)
    done = start([str(limited), str(LESS_THAN_OPTIMIZER), *command, "--save_total_limit", "1"])
    limited.unlink()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"train.py: error: the checkpoint could not be written to {output / 'checkpoint-6'} (")
    assert "GB are free" in line and f"the newest whole checkpoint is {output / 'checkpoint-3'}:" in line
    assert checkpoints(output) == {"checkpoint-3"}
    assert contents(output / "checkpoint-3") == before
    resume(output, "--save_total_limit", "1")
    assert checkpoints(output) == {"checkpoint-8"}
    assert_went_on_as(whole, output)


def test_a_full_disk_at_the_end_keeps_the_model_that_was_there(whole, monkeypatch):
    def full(trainer):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    output = part_of(whole, whole.with_name("full_at_the_end"), 3)
    for step in (6, 8):
        shutil.copytree(whole / f"checkpoint-{step}", output / f"checkpoint-{step}")
    shutil.copy(whole / "config.json", output)
    (output / "model.safetensors").write_bytes(b"an older model")
    with (
        disk_of(LESS_THAN_WEIGHTS),
        pytest.raises(CheckpointError, match="the model could not be written to") as caught,
    ):
        resume(output)
    assert f"the newest whole checkpoint is {output / 'checkpoint-8'}" in str(caught.value)
    assert (output / "model.safetensors").read_bytes() == b"an older model"
    assert sorted(os.listdir(output)) == sorted([*checkpoints(output), "config.json", "model.safetensors", "run.json"])
    with monkeypatch.context() as patch:
        patch.setattr(SpectraTrainer, "save_state", full)
        with pytest.raises(CheckpointError, match="the state of the finished training could not") as caught:
            resume(output)
    assert "the trained model is written" in str(caught.value) and "untouched" not in str(caught.value)
    assert (output / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    # With room again, the run ends as it would have: it is resumed after its last step, and trains no further one.
    resume(output)
    assert losses(output) == losses(whole)
    assert (output / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_an_oversized_test_article_is_left_out_and_not_counted(whole, monkeypatch):
    def load(data_args):
        records = load_records(data_args)
        summaries = [
            summary * 100 if index == 0 else summary for index, summary in enumerate(records["test"]["summary"])
        ]
        features = records["test"].features["summary"]
        records["test"] = records["test"].remove_columns("summary").add_column("summary", summaries, feature=features)
        return records

    output = part_of(whole, whole.with_name("oversized"), 8)
    monkeypatch.setattr(trainer.train, "load_records", load)
    resume(output)
    assert json.loads((output / "run.json").read_text())["data"]["articles"]["test"] == 1
    assert json.loads((output / "metrics.json").read_text())["test_loss"] > 0


def test_a_checkpoint_that_is_written_again_outlives_a_full_disk(whole):
    output = part_of(whole, whole.with_name("again"), 3)
    checkpoint = str(output / "checkpoint-3")
    shutil.copytree(checkpoint, output / "checkpoint-6")
    (output / "checkpoint-6" / "mark").write_text("of an abandoned training")
    before = contents(output / "checkpoint-6")
    arguments = parse_arguments(options(output, "--resume_from_checkpoint", checkpoint))
    again = build_trainer(*arguments, trainer.train.load_records(arguments[0]))
    for size in (LESS_THAN_WEIGHTS, LESS_THAN_OPTIMIZER):
        with disk_of(size), pytest.raises(CheckpointError, match="checkpoint-6 "):
            again.train(resume_from_checkpoint=checkpoint)
        assert checkpoints(output) == {"checkpoint-3", "checkpoint-6"}
        assert contents(output / "checkpoint-6") == before
    again.train(resume_from_checkpoint=checkpoint)
    assert checkpoints(output) == {"checkpoint-3", "checkpoint-6", "checkpoint-8"}
    assert "mark" not in contents(output / "checkpoint-6")
