"""Processes of the package's commands that need not import torch and transformers anew, which takes half of a short
training: they are forked from one that has, and otherwise start as from the shell.

What those libraries read of the environment while they are imported (HF_ENDPOINT, HF_HUB_OFFLINE) is that of the tests.
"""

import gc
import importlib.util
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LAUNCHER = ["-m", "accelerate.commands.launch"]
IMPORTED = ["trainer.train", "trainer.cache_features", "accelerate.commands.launch", "torch.distributed.run"]


def _execute(arguments: Sequence[str], cwd: str, environment: Mapping[str, str], stdout: str, stderr: str) -> None:
    """What `python ARGUMENTS` does, in a process that has just been forked."""
    gc.freeze()
    for stream, path in ((1, stdout), (2, stderr)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    if arguments[:2] == LAUNCHER:
        _launch(arguments[2:])
    elif arguments[0] == "-m":
        sys.argv = list(arguments[1:])
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")


def _launch(arguments: Sequence[str]) -> None:
    """`accelerate launch`, whose processes are forked from it."""
    from accelerate.commands.launch import launch_command, launch_command_parser

    parsed = launch_command_parser().parse_args(arguments)
    if parsed.module:
        parsed.module, parsed.training_script = False, importlib.util.find_spec(parsed.training_script).origin
    # Options of torchrun, to which all that it knows is passed on.
    parsed.run_path, parsed.start_method = True, "fork"
    launch_command(parsed)


class ForkedProcess:
    """`subprocess.Popen` of `python ARGUMENTS`, as far as the tests use it."""

    def __init__(
        self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], stdout: Path, stderr: Path
    ):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        paths = str(stdout), str(stderr)
        self._process = context.Process(target=_execute, args=(list(arguments), str(cwd), dict(environment), *paths))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("python", timeout)
        return self._process.exitcode


def run(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess:
    """`subprocess.run` of `python ARGUMENTS`, with its output; killed after 300 seconds."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        process = ForkedProcess(arguments, cwd, environment, stdout, stderr)
        try:
            returncode = process.wait(300)
        finally:
            process.kill()
        texts = (path.read_text(encoding="utf-8") if path.is_file() else "" for path in (stdout, stderr))
        return subprocess.CompletedProcess(list(arguments), returncode, *texts)
