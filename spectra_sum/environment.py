"""What a result was measured on: processor, threads, versions and commit, for result files."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch


def processor_name() -> str:
    """The processor as the operating system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def describe_hardware() -> dict[str, str | int | None]:
    """Processor, number of cores, threads that torch uses, and the GPU if there is one."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def describe_versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of Python and of the installed packages."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def describe_commit() -> str | None:
    """
    The commit of the checkout that this project runs from, with "+changes" after it where tracked files differ from
    it; `None` for an installed package.
    """
    root = Path(__file__).resolve().parents[1]
    # The folder of an installed package may lie inside somebody else's repository.
    if not (root / ".git").exists():
        return None
    commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        commit, changes = (
            subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changes else commit
