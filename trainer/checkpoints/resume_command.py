"""The command line that goes on with a training, as it was started."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

RESUME = "--resume_from_checkpoint"
# In the environment of what accelerate's and torch's launchers start.
LAUNCHED = {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"}


def resume_command(argv: Sequence[str] | None = None) -> str:
    """
    The command that goes on from the newest checkpoint, for a shell. Ask at the start: the launcher may be gone later.

    Args:
        argv (`Sequence[str]`, *optional*): Arguments of a training that was started by a call. By default those of the
            process, after the launcher that started it (`accelerate launch ...`, where the system shows it).

    Returns:
        `str`: With `--resume_from_checkpoint latest` in place of any such argument.
    """
    if argv is not None:
        return shlex.join(["python", "trainer/train.py", *_resumed(argv)])
    count = len(sys.argv)
    launcher = _parent() if LAUNCHED & os.environ.keys() else []
    # They take the script and its arguments as the last ones of their own.
    started = launcher if launcher[-count:] == sys.argv else sys.orig_argv
    return shlex.join([*started[: len(started) - count + 1], *_resumed(sys.argv[1:])])


def _resumed(argv: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for token in argv:
        if kept and kept[-1].replace("-", "_") == RESUME.replace("-", "_"):
            # Its value, whose argument goes.
            kept.pop()
        elif not token.replace("-", "_").startswith(f"{RESUME}=".replace("-", "_")):
            kept.append(token)
    return [*kept, RESUME, "latest"]


def _parent() -> list[str]:
    """The command line of the process that started this one; empty where the system does not show it."""
    try:
        return os.fsdecode(Path(f"/proc/{os.getppid()}/cmdline").read_bytes()).split("\0")[:-1]
    except OSError:
        return []
