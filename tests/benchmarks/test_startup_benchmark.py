"""The startup benchmark, and what the command line imports before it answers."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import startup

ROOT = Path(__file__).parents[2]


def test_ratios_and_bars_are_those_of_the_medians():
    seconds = {name: [9.0, 1.0, 1.0] for name in startup.COMMANDS}
    seconds[startup.BARE] = [0.1, 0.5, 0.5]
    seconds["spectra-sum --help"] = [1.6, 1.4, 1.6]
    result = startup.summarize(seconds)
    assert result["ratios"]["import transformers"] == 2.0
    assert result["bars"]["spectra-sum --version"] == {"ratio": 2.0, "at_most": 3.0, "met": True}
    assert result["bars"]["spectra-sum --help"] == {"ratio": pytest.approx(3.2), "at_most": 3.0, "met": False}


def modules_after(*arguments: str) -> set[str]:
    code = (
        f"import sys; sys.argv = ['spectra-sum', *{arguments!r}]\n"
        "from spectra_sum.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "usage:" in done.stdout or "spectra-sum 0" in done.stdout, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_the_command_line_answers_without_a_commands_module(arguments):
    loaded = modules_after(*arguments)
    assert "spectra_sum.cli" in loaded
    assert not {name for name in loaded if name.startswith("spectra_sum.commands")} - {
        # Of the entry point that adds `push`.
        "spectra_sum.commands"
    }
    assert not loaded & {"torch", "transformers", "datasets", "pandas", "numpy", "jinja2"}


def test_the_help_of_a_command_needs_no_torch_and_no_datasets():
    loaded = modules_after("summarize", "--help")
    assert "spectra_sum.commands.summarize" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "pandas", "spectra_sum.commands.evaluate"}
