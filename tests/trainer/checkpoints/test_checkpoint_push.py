"""`push_to_hub`: what a run asks to be pushed, that a failed push ends no run, and which arguments are refused."""

import errno
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trainer.arguments import SpectraTrainingArguments
from trainer.checkpoints import push as checkpoint_push
from trainer.checkpoints.push import CheckpointPush, check_hub_arguments

# Stands in for `python -m spectra_sum.cli`: notes its arguments and what is in the folder that it is to push.
RECORDER = """#!{python}
import json, os, sys, time
folder = sys.argv[sys.argv.index("model") + 1]
with open({log!r}, "a") as log:
    print(json.dumps([sys.argv[5:], sorted(os.listdir(folder)), open(folder + "/weights").read()]), file=log)
while os.path.exists({hold!r}):
    time.sleep(0.01)
if os.path.exists({fail!r}):
    sys.exit("Traceback …\\nspectra-sum: error: ns/model: the connection to the Hub failed")
"""


def arguments(folder: Path, **fields) -> SpectraTrainingArguments:
    fields = {"push_to_hub": True, "hub_model_id": "ns/model", "use_cpu": True, "report_to": "none", **fields}
    return SpectraTrainingArguments(output_dir=str(folder), **fields)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoint-1").mkdir(parents=True)
    (folder / "checkpoint-1" / "weights").write_text("step 1")
    (folder / "weights").write_text("end")
    (folder / "run.json").write_text("{}")
    return folder


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Replaces the interpreter by the recorder; the function reads what it noted."""
    paths = {name: str(tmp_path / name) for name in ("log", "hold", "fail")}
    script = tmp_path / "recorder"
    script.write_text(RECORDER.format(python=sys.executable, **paths))
    script.chmod(0o755)
    monkeypatch.setattr(checkpoint_push.sys, "executable", str(script))

    def read() -> list:
        log = Path(paths["log"])
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    return read


def test_a_checkpoint_is_pushed_as_it_was_and_the_run_follows(run, calls, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    push = CheckpointPush(arguments(run, hub_private_repo=True, hub_revision="trial"))
    assert push.start(run / "checkpoint-1", "step 1")
    # The Trainer rotates its checkpoints while a push is going on.
    (run / "checkpoint-1" / "weights").unlink()
    (run / "checkpoint-1").rmdir()
    threading.Timer(0.2, hold.unlink).start()
    assert push.finish("End of training").result()
    first, last = calls()
    common = ["--private", "--revision", "trial"]
    assert first[0][1:] == ["--repo-id", "ns/model", "--message", "step 1", *common]
    assert first[1:] == [["run.json", "weights"], "step 1"]
    assert last[0] == [str(run), "--repo-id", "ns/model", "--message", "End of training", *common]
    assert last[2] == "end"
    assert sorted(os.listdir(run)) == ["run.json", "weights"]


def test_a_second_checkpoint_waits_only_when_asked_to(run, calls, tmp_path):
    (tmp_path / "hold").touch()
    push = CheckpointPush(arguments(run))
    assert push.start(run / "checkpoint-1", "step 1")
    assert not push.start(run / "checkpoint-1", "step 2")
    push.args.hub_always_push = True
    assert push.start(run / "checkpoint-1", "step 3")
    (tmp_path / "hold").unlink()
    assert push.finish("end").result()
    assert [call[0][call[0].index("--message") + 1] for call in calls()] == ["step 1", "step 3", "end"]


def test_an_adapter_is_pushed_after_its_base_which_is_pushed_once(run, calls):
    for folder in (run, run / "checkpoint-1"):
        (folder / "adapter_config.json").write_text("{}")
    (run / "base").mkdir()
    (run / "base" / "weights").write_text("base")
    push = CheckpointPush(arguments(run, hub_always_push=True))
    push.start(run / "checkpoint-1", "step 1")
    assert push.finish("end").result()
    base, first, last = calls()
    assert base[0] == [str(run / "base"), "--repo-id", "ns/model-base", "--message", "step 1"]
    for call, message, weights in ((first, "step 1", "step 1"), (last, "end", "end")):
        assert call[0][1:] == ["--repo-id", "ns/model", "--message", message, "--adapter", "--base", "ns/model-base"]
        assert call[2] == weights


def test_a_failed_push_is_one_warning(run, calls, tmp_path, caplog, monkeypatch):
    (tmp_path / "fail").touch()
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(checkpoint_push.logger, "propagate", True)
    push = CheckpointPush(arguments(run))
    assert push.start(run / "checkpoint-1", "step 1")
    assert not push.finish("end").result()
    assert [record.getMessage() for record in caplog.records] == [
        f"'{message}' was not pushed to ns/model; training goes on. "
        "spectra-sum: error: ns/model: the connection to the Hub failed"
        for message in ("step 1", "end")
    ]
    assert sorted(os.listdir(run)) == ["checkpoint-1", "run.json", "weights"]


def test_no_process_to_push_with_is_one_warning(run, caplog, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(checkpoint_push.logger, "propagate", True)
    assert not CheckpointPush(arguments(run)).finish("end").result()
    assert "Cannot allocate memory" in caplog.text


def test_nothing_but_own_snapshots_is_removed(run, calls):
    for name in ("push-notes", ".checkpoints-being-pushed/checkpoint-7"):
        (run / name).mkdir(parents=True)
        (run / name / "diary.txt").write_text("mine")
    assert CheckpointPush(arguments(run)).finish("end").result()
    assert sorted(os.listdir(run)) == ["checkpoint-1", "push-notes", "run.json", "weights"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hub_model_id": None}, "needs hub_model_id"),
        ({"hub_model_id": "model"}, "needs hub_model_id"),
        ({"hub_token": "hf_anything"}, "set HF_TOKEN"),
        ({"hub_strategy": "all_checkpoints"}, "would publish local resume files"),
    ],
)
def test_arguments_that_cannot_be_published_by_are_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_hub_arguments(arguments(tmp_path, **fields))
    assert "hf_anything" not in str(caught.value)
    check_hub_arguments(arguments(tmp_path, **{**fields, "push_to_hub": False}))
