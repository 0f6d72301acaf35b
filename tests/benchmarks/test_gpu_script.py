"""The script for a GPU: its commands against the benchmarks' own options, its time, and what it does with a row that fails."""

import importlib
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"
ROWS = [shlex.split(line)[1:] for line in re.findall(r"^ *(row .*)$", SCRIPT.read_text(), re.MULTILINE)]
# Writes what it was asked for, and fails at training.
STUB = """#!/usr/bin/env bash
echo "$@"
case "$1" in *training.py) exit 3 ;; esac
while [ "$1" != --output ]; do shift; done
echo '{}' > "$2"
"""


def run(tmp_path, **settings):
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    return subprocess.run(
        [SCRIPT, tmp_path / "out"],
        env={**os.environ, "PYTHON": str(stub), **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_command_parses_and_all_limits_are_twelve_minutes(monkeypatch, tmp_path):
    modules = {script: importlib.import_module(f"benchmarks.{Path(script).stem}") for _, _, script, *_ in ROWS}
    # Afterwards, as some libraries look for CUDA's functions when they are loaded.
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert {name for name, *_ in ROWS} >= {
        "overhead_7b",
        "overhead_0_5b",
        "training_7b",
        "training_0_5b",
        "dpp_teacher",
    }
    for name, _, script, *options in ROWS:
        options = [{"$smoke": "tiny"}.get(option, option) for option in options]
        parsed = modules[script].parse_options(
            [*options, "--device", "cuda", "--output", str(tmp_path / f"{name}.json")]
        )
        assert str(parsed.device) == "cuda"
    assert sum(int(limit) for _, limit, *_ in ROWS) <= 12 * 60


def test_a_row_that_fails_is_named_and_the_others_are_measured_once(tmp_path):
    first = run(tmp_path)
    assert first.returncode == 1
    assert first.stdout.endswith("3 rows failed: smoke_training training_7b training_0_5b\n")
    out = tmp_path / "out"
    assert {file.stem for file in out.glob("*.json")} == {name for name, *_ in ROWS if "training" not in name}
    log = (out / "overhead_7b.log").read_text()
    assert "--size 7b" in log and "--device cuda" in log and "Vision Sampler, NF4" in log
    again = run(tmp_path)
    assert again.stdout.count(": there\n") == len(ROWS) - 3


def test_a_cpu_tries_the_first_rows_alone(tmp_path):
    done = run(tmp_path, DEVICE="cpu")
    assert "smoke_teacher" in done.stdout and "_7b" not in done.stdout
    assert "--size test" in (tmp_path / "out" / "smoke_overhead.log").read_text()
