"""The command line: `spectra-sum COMMAND …`."""

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from spectra_sum import __version__
from spectra_sum.errors import SpectraSumError

# A command's module is imported when that command runs: torch and datasets take seconds.
COMMANDS = {
    "summarize": ("spectra_sum.commands.summarize", "summarize documents with their images"),
    "data": ("spectra_sum.commands.data", "look at data before a training, and make data"),
    "evaluate": ("spectra_sum.commands.evaluate", "score a model, predictions or a baseline on a dataset"),
    "tables": ("spectra_sum.commands.tables", "put evaluated systems beside the published rows"),
    "human-eval": ("spectra_sum.commands.human_eval", "let people rate summaries, and analyse their answers"),
    "app": ("spectra_sum.commands.app", "summarize in the browser"),
    "serve": ("spectra_sum.commands.serve", "summarize for HTTP clients, OpenAI's among them"),
}
# Other packages add commands by entry points of this group: name = module:HELP, the module having `add_arguments`.
ENTRY_POINTS = "spectra_sum.commands"


class CommandParser(argparse.ArgumentParser):
    """A parser, and so its subparsers, that takes no abbreviated options: `--num-beam` is an error."""

    def __init__(self, *args: Any, allow_abbrev: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=allow_abbrev, **kwargs)


def build_parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """
    The parser of all commands; each command's module adds its own arguments and a `run` function.

    Args:
        argv (`Sequence[str]`, *optional*):
            Arguments that will be parsed: the module of the command that they name is imported, of the others only
            the help is there. By default all are imported.
    """
    parser = CommandParser(prog="spectra-sum", description="Multimodal summarization with SPeCTrA-Sum.")
    parser.add_argument("--version", action="version", version=f"spectra-sum {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    named = None if argv is None else next((text for text in argv if not text.startswith("-")), "")
    for name, module, summary in _commands(named):
        command = subparsers.add_parser(name, help=summary)
        if named in (None, name):
            import_module(module).add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """
    Runs a command.

    Args:
        argv (`Sequence[str]`, *optional*):
            Arguments without the program's name; those of the process by default.

    Returns:
        The exit code: 0 when all was done, 1 when some was or the Hub refused, 2 for bad input, 130 when interrupted.
    """
    # What imports make stays: at Python's threshold of 700, collections of garbage would be a fifth of the start.
    gc.set_threshold(100_000)
    argv = sys.argv[1:] if argv is None else argv
    arguments = build_parser(argv).parse_args(argv)
    try:
        return arguments.run(arguments)
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone; the interpreter would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (SpectraSumError, OSError) as error:
        print(f"spectra-sum: error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    except KeyboardInterrupt:
        print("spectra-sum: interrupted", file=sys.stderr)
        return 130


def _commands(named: str | None) -> Iterator[tuple[str, str, str]]:
    """Name, module and one-line help of each command."""
    for name, (module, summary) in COMMANDS.items():
        yield name, module, summary
    if named in COMMANDS:
        return
    # It takes a third of the time of --help.
    from importlib.metadata import entry_points

    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        yield entry.name, entry.module, entry.load()


if __name__ == "__main__":
    sys.exit(main())
