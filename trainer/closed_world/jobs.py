"""Single-thread jobs side by side: each in a process of its own, with its output in a log, under one progress bar."""

import multiprocessing
import queue
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm.auto import tqdm


@dataclass(frozen=True)
class Job:
    """A piece of work that leaves a file or folder.

    Args:
        name (`str`): shown beside the progress bar while the job runs.
        work (`Callable`): called in the job's process with a function that takes the share done, in [0, 1].
        result (`Path`): exists when, and only when, the job is done.
        log (`Path`): what the job prints is appended here.
        cost (`float`): its part of the progress bar, in any unit that all jobs share.
        needs (`tuple[Path, ...]`, *optional*, defaults to `()`): results of other jobs, which must be there first.
    """

    name: str
    work: Callable[[Callable[[float], None]], None]
    result: Path
    log: Path
    cost: float
    needs: tuple[Path, ...] = ()


def run_jobs(jobs: Sequence[Job], *, processes: int, description: str) -> None:
    """Run the jobs that have no result yet, in their order as far as their needs allow.

    When a job fails, the others go on, except those that need its result. Jobs are forked: nothing may have started
    threads in this process before. An interruption ends the running jobs.

    Raises:
        RuntimeError: at the end, naming the logs of the jobs that failed.
    """
    context = multiprocessing.get_context("fork")
    waiting = [job for job in jobs if not job.result.exists()]
    running: dict[str, tuple[Job, multiprocessing.Process]] = {}
    failed: list[Job] = []
    messages = context.Queue()
    shares = dict.fromkeys((job.name for job in waiting), 0.0)
    costs = {job.name: job.cost for job in waiting}
    bar = tqdm(
        total=sum(costs.values()),
        desc=description,
        smoothing=0,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
    )

    def advance(name: str, share: float) -> None:
        # A message may be read after the end of its job.
        share = max(share, shares[name])
        bar.update(costs[name] * (share - shares[name]))
        shares[name] = share

    # A termination ends the jobs, too, as Ctrl-C does: an orphan would go on writing where a resumed run works. It is
    # noted and acted upon here, since an exception that a handler raises within a destructor is lost.
    terminated: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: terminated.append(number))
    try:
        while True:
            if terminated:
                raise KeyboardInterrupt
            ready = [job for job in waiting if all(path.exists() for path in job.needs)]
            for job in ready[: processes - len(running)]:
                waiting.remove(job)
                process = context.Process(target=_run_logged, args=(job, messages))
                running[job.name] = (job, process)
                process.start()
            if not running:
                break
            bar.set_postfix_str(" ".join(f"{name}:{shares[name]:.0%}" for name in running))
            try:
                advance(*messages.get(timeout=0.5))
            except queue.Empty:
                pass
            for name in [name for name, (_, process) in running.items() if not process.is_alive()]:
                job, process = running.pop(name)
                if process.exitcode or not job.result.exists():
                    failed.append(job)
                else:
                    advance(name, 1.0)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()
        bar.close()
        signal.signal(signal.SIGTERM, before)
    if failed or waiting:
        logs = ", ".join(f"{job.name} (see {job.log})" for job in failed)
        raise RuntimeError(f"failed: {logs or 'none'}; not started for want of what they need: {len(waiting)} jobs")


def print_into(log: Path) -> None:
    """Append what this process prints to a file, up to the traceback that may end it: the parent owns the terminal."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout = sys.stderr = log.open("a", buffering=1)


def _run_logged(job: Job, messages: "multiprocessing.Queue") -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print_into(job.log)
    torch.set_num_threads(1)
    job.work(lambda share: messages.put((job.name, share)))
