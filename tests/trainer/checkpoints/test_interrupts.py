"""Ctrl-C: a checkpoint after the running step, the command that goes on from it, and a second one that ends at once."""

import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import TrainerCallback

import trainer.train
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.building import build_trainer
from trainer.checkpoints import resume_command as resume_command_module
from trainer.checkpoints.graceful_stop import GracefulStop, keep_workers
from trainer.checkpoints.resume_command import resume_command
from trainer.command_line.user_errors import run
from trainer.train import main

ROOT = Path(__file__).parents[3]
SETTINGS = {
    "closed_world_articles": 8,
    "closed_world_eval_articles": 1,
    "align_weight": 0.0,
    "distill_weight": 0.0,
    "predict_with_generate": False,
    "max_steps": 3,
}


@pytest.fixture(autouse=True)
def interruptible():
    """As in a terminal: a job that a shell starts in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class InStep(TrainerCallback):
    """Does something within the second step."""

    def __init__(self, action):
        self.action = action

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.action()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_setup(tmp_path_factory.mktemp("interrupts"), SETTINGS)


@pytest.fixture
def interrupted(folder, tmp_path, monkeypatch, capfd):
    """Trains with an action in the second step; the exit code, what was told, and the output folder."""

    def train(action) -> tuple[int, list[str], Path]:
        output = tmp_path / "run"
        with monkeypatch.context() as patch:
            callbacks = [InStep(action)]
            patch.setattr(trainer.train, "build_trainer", lambda *args: build_trainer(*args, callbacks=callbacks))
            arguments = setup_arguments(folder, output, "--dataloader_num_workers", "1", "--report_to", "none")
            try:
                code = run(lambda: main(arguments), "train.py")
            except SystemExit as stopped:
                code = stopped.code
        return code, capfd.readouterr().err.splitlines(), output

    return train


def test_ctrl_c_saves_after_the_running_step_and_prints_the_command_that_goes_on(interrupted):
    before = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        # A terminal sends it to the workers of the DataLoader, too.
        (worker,) = multiprocessing.active_children()
        subprocess.run(["kill", "-INT", str(worker.pid)], check=True)
        worker.join(0.3)
        assert worker.is_alive()
        signal.raise_signal(signal.SIGINT)

    code, lines, output = interrupted(interrupt)
    assert code == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert sum("once more ends the training at once" in line for line in lines) == 1
    stopped = f"stopped by SIGINT after step 2 of 3; {output / 'checkpoint-2'} is saved. To go on from it:"
    command = shlex.split(lines[lines.index(stopped) + 1])
    assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-2"]
    assert not (output / "model.safetensors").exists()
    assert command[:2] == ["python", "trainer/train.py"]
    assert main(command[2:]).state.global_step == 3
    assert (output / "model.safetensors").is_file()


def test_a_second_ctrl_c_ends_at_once(interrupted):
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the training went on")

    code, lines, output = interrupted(twice)
    assert (code, lines[-1]) == (130, "train.py: interrupted")
    assert not list(output.glob("checkpoint-*"))


def listener(main_process: bool = True, **more) -> SimpleNamespace:
    """What a GracefulStop needs of a trainer that trains nothing."""
    nothing = lambda callback: None  # noqa: E731
    return SimpleNamespace(
        add_callback=nothing,
        remove_callback=nothing,
        stopped_early=False,
        is_world_process_zero=lambda: main_process,
        **more,
    )


def test_ctrl_c_that_stopped_nothing_is_not_lost():
    with pytest.raises(KeyboardInterrupt), GracefulStop(listener()):
        signal.raise_signal(signal.SIGINT)


def test_only_the_main_process_says_what_ctrl_c_does(capfd):
    for main_process in (True, False):
        with pytest.raises(KeyboardInterrupt), GracefulStop(listener(main_process)):
            signal.raise_signal(signal.SIGINT)
        assert ("once more" in capfd.readouterr().err) == main_process


@pytest.mark.parametrize(
    ("own", "others", "code"),
    [
        ((), (), None),
        ((), (signal.SIGINT,), 130),
        ((signal.SIGINT,), (), 130),
        ((), (signal.SIGTERM,), 143),
        ((signal.SIGINT,), (signal.SIGTERM,), 143),
    ],
)
def test_several_processes_agree_on_what_stopped_them(own, others, code):
    def reduce(counts: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        # SIGTERM's place is the first.
        return counts + torch.tensor([float(number in others) for number in (signal.SIGTERM, signal.SIGINT)])

    trainer = listener(accelerator=SimpleNamespace(reduce=reduce))
    stop = GracefulStop(trainer)
    stop.received = set(own)
    control = SimpleNamespace(should_evaluate=True, should_log=False, should_save=False, should_training_stop=False)
    args = SimpleNamespace(world_size=2, device="cpu")
    stop.on_step_end(args, SimpleNamespace(), control)
    assert trainer.stopped_early == control.should_training_stop == control.should_save == (code is not None)
    if code is not None:
        assert stop.exit_code == code


def test_a_forked_process_leaves_ctrl_c_to_the_training():
    with GracefulStop(listener()):
        context = multiprocessing.get_context("fork")
        running = context.Event()
        other = context.Process(target=lambda: (running.set(), time.sleep(60)), daemon=True)
        other.start()
        # Python forgets the signals that a process gets before it has left os.fork().
        assert running.wait(20)
        os.kill(other.pid, signal.SIGINT)
        other.join(0.3)
        assert other.is_alive()
        other.terminate()
        other.join(20)
        assert other.exitcode == -signal.SIGTERM


def test_a_worker_outlives_ctrl_c_and_ends_with_its_training():
    loader = DataLoader(range(100), num_workers=1, multiprocessing_context="fork")
    keep_workers(SimpleNamespace(base_dataloader=loader))
    batches = iter(loader)
    next(batches)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGINT)
    worker.join(0.3)
    assert worker.is_alive() and next(batches).item() == 1
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


def test_the_command_replaces_how_the_run_was_resumed():
    for given in (
        ["--resume_from_checkpoint", "a b/checkpoint-2", "--config", "c.yaml"],
        ["--resume-from-checkpoint=latest", "--config", "c.yaml"],
        ["--config", "c.yaml"],
    ):
        assert resume_command(given) == "python trainer/train.py --config c.yaml --resume_from_checkpoint latest"
    assert resume_command(["--output_dir", "a b"]).startswith("python trainer/train.py --output_dir 'a b' --resume")


def test_the_command_is_the_one_that_was_given(monkeypatch):
    own = ["python", "-u", "trainer/train.py", "--config", "c.yaml"]
    launched = ["python", "/bin/accelerate", "launch", "--cpu", "trainer/train.py", "--config", "c.yaml"]
    monkeypatch.setattr(sys, "argv", own[2:])
    monkeypatch.setattr(sys, "orig_argv", own)
    monkeypatch.setattr(resume_command_module, "_parent", lambda: launched)
    for name in resume_command_module.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    end = "trainer/train.py --config c.yaml --resume_from_checkpoint latest"
    assert resume_command() == f"python -u {end}"
    for name in ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "no")
            assert resume_command() == f"python /bin/accelerate launch --cpu {end}"
            # The variables may be of a launcher further up, which started something else.
            patch.setattr(resume_command_module, "_parent", lambda: ["bash", "run.sh"])
            assert resume_command() == f"python -u {end}"


def test_the_parent_s_command_line_is_read_from_the_system(tmp_path):
    code = "import sys; from trainer.checkpoints.resume_command import _parent; print(_parent())"
    script = tmp_path / "parent.py"
    script.write_text(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)")
    command = [sys.executable, str(script), "an argument"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str(command)
