"""Jobs: their order, what is kept, what a failure does, and where their output goes."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.closed_world.jobs import Job, run_jobs


def job(folder: Path, name: str, *needs: str, work: Callable[[], None] = lambda: None) -> Job:
    def leave_result(report: Callable[[float], None]) -> None:
        with (folder / "order").open("a") as file:
            print(name, file=file)
        print(f"{name} at work")
        work()
        report(0.5)
        (folder / name).write_text(name)

    return Job(name, leave_result, folder / name, folder / "logs" / f"{name}.log", 1, tuple(folder / n for n in needs))


def started(folder: Path) -> list[str]:
    return (folder / "order").read_text().split()


def test_jobs_run_in_order_as_far_as_their_needs_allow(tmp_path):
    jobs = [job(tmp_path, "c", "b"), job(tmp_path, "a"), job(tmp_path, "b", "a"), job(tmp_path, "d")]
    run_jobs(jobs, processes=1, description="test")
    assert started(tmp_path) == ["a", "b", "c", "d"]
    assert (tmp_path / "logs" / "a.log").read_text() == "a at work\n"


def test_as_many_jobs_as_processes_run_side_by_side(tmp_path):
    def meet(other: str) -> Callable[[], None]:
        def wait() -> None:
            limit = time.monotonic() + 20
            while other not in started(tmp_path):
                assert time.monotonic() < limit, f"{other} never started"
                time.sleep(0.01)

        return wait

    run_jobs(
        [job(tmp_path, "a", work=meet("b")), job(tmp_path, "b", work=meet("a")), job(tmp_path, "c")],
        processes=2,
        description="test",
    )
    assert sorted(started(tmp_path)[:2]) == ["a", "b"]
    assert (tmp_path / "c").is_file()


def test_a_job_with_a_result_is_kept(tmp_path):
    (tmp_path / "a").write_text("from before")
    run_jobs([job(tmp_path, "a"), job(tmp_path, "b", "a")], processes=2, description="test")
    assert started(tmp_path) == ["b"]
    assert (tmp_path / "a").read_text() == "from before"


def test_a_failed_job_stops_only_those_that_need_it_and_is_named_at_the_end(tmp_path):
    def fail() -> None:
        raise ValueError("no luck")

    jobs = [job(tmp_path, "a", work=fail), job(tmp_path, "b", "a"), job(tmp_path, "c")]
    with pytest.raises(RuntimeError, match=r"a \(see .*a\.log\); not started for want of what they need: 1 jobs"):
        run_jobs(jobs, processes=1, description="test")
    assert started(tmp_path) == ["a", "c"]
    assert "no luck" in (tmp_path / "logs" / "a.log").read_text()
    run_jobs([job(tmp_path, "a"), *jobs[1:]], processes=1, description="test")
    assert started(tmp_path) == ["a", "c", "a", "b"]


def test_a_job_that_leaves_no_result_has_failed(tmp_path):
    idle = Job("idle", lambda report: None, tmp_path / "idle", tmp_path / "logs" / "idle.log", 1)
    with pytest.raises(RuntimeError, match=r"failed: idle .*; not started for want of what they need: 1 jobs"):
        run_jobs([idle, job(tmp_path, "next", "idle")], processes=1, description="test")
    assert not (tmp_path / "order").exists()


def test_a_termination_ends_the_running_jobs(tmp_path):
    def pid_then_sleep() -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job(tmp_path, "long", work=pid_then_sleep)], processes=1, description="test")
    # It has been waited for: no process of this id is left.
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not (tmp_path / "long").exists()
    assert signal.getsignal(signal.SIGTERM) is before
