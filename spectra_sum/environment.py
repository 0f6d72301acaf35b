"""What a result was measured on: processor, threads and versions, for result files."""

import importlib.metadata
import os
import platform
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
