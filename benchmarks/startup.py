"""
Time until the command line answers, against the bare interpreter and against what it does not import:

    python benchmarks/startup.py --output benchmarks/results/startup.json

Each command is a process of its own. The commands take turns, so that what else the machine does meets all of them; the
first turn, which writes bytecode, does not count. Ratios are of medians within the one run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from spectra_sum.environment import describe_commit, describe_hardware, describe_versions

ROOT = Path(__file__).resolve().parents[1]
BARE = "bare interpreter"
HEAVY = "import transformers"
CLI = ("-m", "spectra_sum.cli")
COMMANDS: dict[str, tuple[str, ...]] = {
    BARE: ("-c", "import argparse"),
    "spectra-sum --version": (*CLI, "--version"),
    "spectra-sum --help": (*CLI, "--help"),
    "spectra-sum summarize --help": (*CLI, "summarize", "--help"),
    "import modeling_spectra": ("-c", "import modeling_spectra"),
    HEAVY: ("-c", "import transformers"),
}
# Of the medians, to the bare interpreter's.
BARS = {"spectra-sum --version": 3.0, "spectra-sum --help": 3.0}


def measure(turns: int) -> dict[str, list[float]]:
    """
    Seconds of each command, in every turn but the first.

    Args:
        turns (`int`): Turns that count.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(turns + 1):
        for name, arguments in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=True, capture_output=True)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def summarize(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, their ratios to the bare interpreter, and whether the bars are met."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: median / medians[BARE] for name, median in medians.items()}
    bars = {name: {"ratio": ratios[name], "at_most": bar, "met": ratios[name] <= bar} for name, bar in BARS.items()}
    return {"seconds": seconds, "medians": medians, "ratios": ratios, "bars": bars}


def render(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "| command | seconds (median) | × bare interpreter | × import transformers |",
        "| --- | --- | --- | --- |",
    ]
    for name, median in result["medians"].items():
        shares = f"{result['ratios'][name]:.2f} | {median / result['medians'][HEAVY]:.3f}"
        lines.append(f"| {name} | {median:.3f} | {shares} |")
    bars = [
        f"{name} at most {bar['at_most']:g} × the bare interpreter: {'met' if bar['met'] else 'missed'}"
        for name, bar in result["bars"].items()
    ]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    facts = f"{result['turns']} turns; {result['hardware']['processor']}; {versions}; commit {result['commit']}"
    return "\n".join([*lines, "", "; ".join(bars) + ".", "", facts])


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's own options."""
    parser = argparse.ArgumentParser(prog="startup.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--turns", type=int, default=11, help="turns that count (default: 11)")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the result."""
    options = parse_options(argv)
    result = {
        **summarize(measure(options.turns)),
        "turns": options.turns,
        "hardware": describe_hardware(),
        "commit": describe_commit(),
        "versions": describe_versions(("torch", "transformers")),
    }
    print(render(result))
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
