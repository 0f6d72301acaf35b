"""The command line: `spectra-sum COMMAND …`."""

import argparse
import os
import sys
from collections.abc import Sequence

from hub_upload.errors import HubError
from spectra_sum.commands import app, evaluate, human_eval, push, summarize, tables
from spectra_sum.commands.arguments import UsageError
from spectra_sum.model_sources import ModelError

COMMANDS = (summarize, evaluate, tables, human_eval, app, push)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands; each command module adds its own arguments and a `run` function."""
    parser = argparse.ArgumentParser(prog="spectra-sum", description="Multimodal summarization with SPeCTrA-Sum.")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
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
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone; the interpreter would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UsageError, ModelError, OSError) as error:
        print(f"spectra-sum: error: {error}", file=sys.stderr)
        return 2
    except HubError as error:
        print(f"spectra-sum: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("spectra-sum: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
