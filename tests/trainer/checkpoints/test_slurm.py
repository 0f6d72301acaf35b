"""The example for SLURM, without SLURM: what it launches, when it queues itself again, and how a signal arrives."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch.distributed.run import config_from_args
from torch.distributed.run import parse_args as parse_torchrun_arguments

SCRIPT = Path(__file__).parents[3] / "trainer" / "configs" / "slurm.sh"
JOB = {"SLURM_JOB_NODELIST": "node1", "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_GPUS_ON_NODE": "4"}
JOB |= {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "32"}
# As torchrun, the launcher starts a trainer in a session of its own and fails where it does.
LAUNCHER = """
import os, signal, subprocess, sys
assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
trainer = subprocess.Popen([sys.executable, "-c", os.environ["TRAINER"]], start_new_session=True)
sys.exit(1 if trainer.wait() else 0)
"""
TRAINER = """
import pathlib, signal, sys, time

def save(*_):
    time.sleep(0.3)
    checkpoint = pathlib.Path("run/checkpoint-10")
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text("{}")
    sys.exit(143)

signal.signal(signal.SIGTERM, save)
pathlib.Path("training").touch()
time.sleep(60)
"""


def start(folder: Path, launcher: str) -> subprocess.Popen:
    """The job, whose interpreter runs the code `launcher` in bash; `task` is the number of SLURM's task."""
    commands = {
        "srun": 'echo $$ >task; exec "$@"',
        "scontrol": 'if [ "$1" = show ]; then echo node1; else echo "$@" >>queue; fi',
        "python": launcher,
    }
    (folder / "bin").mkdir(exist_ok=True)
    for name, body in commands.items():
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    environment = {**os.environ, **JOB, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    environment |= {"LAUNCHER": LAUNCHER, "TRAINER": TRAINER}
    return subprocess.Popen(["bash", str(SCRIPT), "config.yaml", "run"], cwd=folder, env=environment)


def test_the_trainers_save_when_slurm_signals_its_task_alone(tmp_path):
    job = start(tmp_path, f'exec {sys.executable} -c "$LAUNCHER"')
    deadline = time.monotonic() + 60
    while not (tmp_path / "training").exists():
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(int((tmp_path / "task").read_text()), signal.SIGTERM)
    # The launcher's own exit code, after the trainer has saved.
    assert job.wait(60) == 1
    assert (tmp_path / "run" / "checkpoint-10" / "trainer_state.json").is_file()
    assert (tmp_path / "queue").read_text() == "requeue 7\n"


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_the_launchers(tmp_path, code):
    assert start(tmp_path, f"exit {code}").wait(60) == code
    assert not (tmp_path / "queue").exists()


def run(folder: Path, during: str = "true") -> tuple[str, dict[str, str], bool]:
    """What the launcher is given, its environment, and whether the job is queued again, when it fails after `during`."""
    (folder / "queue").unlink(missing_ok=True)
    job = start(folder, f'echo "$@" >launched; env >environment; {during}; exit 1')
    assert job.wait(60) == 1
    lines = (folder / "environment").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    return (folder / "launched").read_text(), environment, (folder / "queue").exists()


def test_a_job_goes_on_from_whole_checkpoints_and_is_queued_again_for_new_ones(tmp_path):
    launched, environment, queued = run(tmp_path)
    assert "--config config.yaml --output_dir run" in launched and "resume" not in launched and not queued
    assert environment["SRUN_CPUS_PER_TASK"] == "32"
    # A first checkpoint that was cut off is neither progress nor anything to go on from.
    assert run(tmp_path, "mkdir -p run/checkpoint-5")[2] is False
    launched, _, queued = run(tmp_path, "mkdir -p run/checkpoint-10; echo {} >run/checkpoint-10/trainer_state.json")
    assert "resume" not in launched and queued
    launched, _, queued = run(tmp_path, "mv run/checkpoint-10 run/.checkpoint-10.replaced")
    assert launched.rstrip().endswith("--resume_from_checkpoint latest")
    assert "--resume_from_checkpoint latest" in run(tmp_path)[0]


def test_the_launcher_leaves_sigterm_to_the_trainers(tmp_path, monkeypatch):
    before = parse_torchrun_arguments(["script.py"])
    assert "SIGTERM" in config_from_args(before)[0].signals_to_handle
    for name, value in run(tmp_path)[1].items():
        if name.startswith(("PET_", "TORCHELASTIC_")):
            monkeypatch.setenv(name, value)
    assert config_from_args(parse_torchrun_arguments(["script.py"]))[0].signals_to_handle == "SIGINT"
