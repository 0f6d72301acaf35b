"""How the scripts of training end: one line and an exit code for what a user can mend, a traceback for a bug."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import trainer.train
from spectra_sum.errors import SpectraSumError
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer import cache_features
from trainer.checkpoints.writing import CheckpointError
from trainer.command_line import user_errors
from trainer.command_line.user_errors import run

ROOT = Path(__file__).parents[3]
SMALL = {"closed_world_articles": 2, "closed_world_eval_articles": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_setup(tmp_path_factory.mktemp("errors"), SMALL)


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


def told(capsys, main, program: str = "train.py") -> tuple[int, str]:
    """The exit code and the script's one line on stderr, the last; transformers' own warnings may come before it."""
    code = run(main, program)
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line for line in lines if line.startswith((f"{program}: ", "Traceback"))] == lines[-1:]
    return code, lines[-1]


def of_a_worker(error: Exception) -> Exception:
    """As a DataLoader hands on what was raised in one of its workers."""
    try:
        raise error
    except Exception:
        wrapped = torch._utils.ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(type(error)) as raised:
        wrapped.reraise()
    return raised.value


class Refused(SpectraSumError):
    exit_code = 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SpectraSumError("one is\n  not two."), 2, "train.py: error: one is not two."),
        (Refused("the Hub says: no."), 1, "train.py: error: the Hub says: no."),
        (CheckpointError("no room"), 1, "train.py: error: no room"),
        (PermissionError(13, "Permission denied", "/run"), 2, "train.py: error: [Errno 13] Permission denied: '/run'"),
        (of_a_worker(SpectraSumError("article a: broken.")), 2, "train.py: error: article a: broken."),
        (KeyboardInterrupt(), 130, "train.py: interrupted"),
    ],
)
def test_one_line_and_an_exit_code(capsys, error, code, line):
    assert told(capsys, raising(error)) == (code, line)


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), KeyError("a"), OSError("of a library"), of_a_worker(OSError("x"))]
)
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)) as raised:
        run(raising(error), "train.py")
    assert raised.value is error


def test_a_good_end_is_zero_and_a_chosen_exit_passes():
    assert run(lambda: "anything", "train.py") == 0
    with pytest.raises(SystemExit) as ended:
        run(raising(SystemExit(143)), "train.py")
    assert ended.value.code == 143


def test_another_process_waits_for_the_main_one_to_tell(capsys, monkeypatch):
    waited = []
    monkeypatch.setattr(user_errors.time, "sleep", waited.append)
    monkeypatch.setenv("RANK", "0")
    assert told(capsys, raising(SpectraSumError("no."))) == (2, "train.py: error: no.")
    assert waited == []
    monkeypatch.setenv("RANK", "3")
    assert told(capsys, raising(SpectraSumError("no."))) == (2, "train.py: process 3: error: no.")
    assert waited == [user_errors.PATIENCE]
    assert run(raising(KeyboardInterrupt()), "train.py") == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("script", [trainer.train, cache_features], ids=["train.py", "cache_features.py"])
def test_bad_input_of_the_scripts(folder, tmp_path, capsys, script):
    program = Path(script.__file__).name
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    cache = ["--cache", "embeddings", "--cache_dir", str(tmp_path / "cache")]
    cases = {
        "unrecognized argument --num_latent (did you mean --num_latents?)": ["--num_latent", "3"],
        "dataset nowhere: there is no such file or folder; pass 'closed_world', a file": ["--dataset", "nowhere"],
        f"dataset {tmp_path / 'empty'}: ": ["--dataset", str(tmp_path / "empty")],
        "gate_layers is [9]; layers count from 1 and must lie within 1..3": ["--gate_layers", "9"],
        "tensor: the model cannot be built: ": ["--text_backbone", str(tmp_path / "no" / "tensor")],
        f"Not a directory: '{tmp_path / 'file'}": ["--cache_dir", str(tmp_path / "file" / "cache")],
    }
    for message, argv in cases.items():
        code, line = told(
            capsys, partial(script.main, setup_arguments(folder, tmp_path / "run", *cache, *argv)), program
        )
        assert code == 2 and line.startswith(f"{program}: error: ") and message in line, line


def test_a_bug_in_a_script_is_no_user_s_error(folder, tmp_path, monkeypatch):
    def broken(data_args):
        (_,) = (1, 2)

    monkeypatch.setattr(trainer.train, "load_records", broken)
    with pytest.raises(ValueError, match="too many values to unpack"):
        run(partial(trainer.train.main, setup_arguments(folder, tmp_path / "run")), "train.py")


def test_two_processes_tell_it_once_and_only_the_launcher_has_a_traceback(tmp_path):
    config = str(ROOT / "trainer" / "configs" / "accelerate" / "ddp.yaml")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, "--num_processes", "2"]
    command += ["--main_process_port", "0", str(ROOT / "trainer" / "train.py"), "--dataset", "nowhere"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "error: " in line]
    assert lines == [
        "train.py: error: no language model: pass text_backbone, llava_onevision, instructblip, "
        "model_name_or_path or closed_world_backbones."
    ]
    assert done.stderr.count("Traceback") == 1 and f'"{ROOT / "trainer"}' not in done.stderr
    # The root cause that the launcher reports is the main process, with its own exit code.
    root_cause = done.stderr.partition("Root Cause")[2]
    assert "rank      : 0" in root_cause and "exitcode  : 2 " in root_cause
