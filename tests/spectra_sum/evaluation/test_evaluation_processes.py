"""One evaluation in one process, in two, and after a SIGKILL: the same files."""

import os
import signal
import time
from pathlib import Path

import pytest

from spectra_sum import cli
from tests.forked_process import LAUNCHER, ForkedProcess, run

ROOT = Path(__file__).parents[3]
RESULTS = ("predictions.jsonl", "scores.jsonl", "metrics.json")
COMMAND = "-m spectra_sum.cli evaluate"
# Long enough that a kill after the first batch finds work that is left.
OPTIONS = "--batch-size 1 --max-length 300 --max-new-tokens 60"


@pytest.fixture(scope="module")
def arguments(model_folder, data_folder) -> list[str]:
    return ["--model", str(model_folder), "--data", str(data_folder), *OPTIONS.split()]


@pytest.fixture(scope="module")
def expected(arguments, tmp_path_factory) -> dict[str, bytes]:
    """The result files of a run in this process."""
    folder = tmp_path_factory.mktemp("one")
    assert cli.main(["evaluate", *arguments, "--output", str(folder)]) == 0
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


def environment() -> dict[str, str]:
    # As many threads as this process has: sums in another order differ in the last digit.
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def test_two_processes_give_the_files_of_one(arguments, expected, tmp_path):
    # Accelerate's name for several processes on one machine, be there GPUs or none; `--cpu` starts only one.
    launch = [*LAUNCHER, "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*launch, *COMMAND.split(), *arguments, "--output", str(tmp_path)]
    done = run(command, ROOT, environment())
    assert done.returncode == 0, done.stderr[-3000:]
    assert contents(tmp_path) == expected
    # Seven batches: four of one process, three of the other.
    shares = [list((tmp_path / "batches").glob(f"process-{rank}-*.jsonl")) for rank in (0, 1)]
    assert [file.read_text(encoding="utf-8").count("\n") for (file,) in shares] == [4, 3]
    assert '"processes": 2' in (tmp_path / "run.json").read_text()
    assert done.stdout.count("results: ") == 1


def test_killed_run_ends_as_an_uninterrupted_one(arguments, expected, tmp_path):
    batches = tmp_path / "batches"
    command = [*COMMAND.split(), *arguments, "--output", str(tmp_path)]
    log = tmp_path.with_suffix(".log")
    process = ForkedProcess(command, ROOT, environment(), log, log)
    deadline = time.monotonic() + 200
    while not any(file.stat().st_size for file in batches.glob("*.jsonl")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait(200) == -signal.SIGKILL, log.read_text()[-3000:]
    (file,) = batches.glob("*.jsonl")
    finished = file.read_bytes()
    assert 1 <= finished.count(b"\n") < 7
    assert not (tmp_path / "metrics.json").exists()

    assert cli.main(["evaluate", *arguments, "--output", str(tmp_path)]) == 0
    assert contents(tmp_path) == expected
    # What was finished stands there as it stood.
    assert file.read_bytes() == finished[: finished.rfind(b"\n") + 1]
