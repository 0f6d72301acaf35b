"""The memory of this process, as the system tells it."""

import gc
from pathlib import Path


def resident_memory() -> tuple[int, int] | None:
    """Bytes of this process in memory, now and at most so far; None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    # Not getrusage, whose maximum a process inherits from the one that started it.
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))


def forget_peak_memory() -> None:
    """From here on `resident_memory` tells the most that this process has held since this call."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
