"""`spectra-sum tables`: evaluated systems beside the published rows, in the paper's tables."""

import argparse
import sys
from pathlib import Path

from ..atomic_write import write_text_atomically
from ..documents.parts import printable
from ..tasks.task import SUMMARIZATION, TASKS
from .arguments import UsageError

FORMATS = {"markdown": "tables.md", "latex": "tables.tex", "html": "tables.html"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the command, and adds its arguments to its parser."""
    parser.description = (
        "Prints the paper's tables with the systems that `spectra-sum evaluate` scored: comparison with "
        "published systems, variants, language-modelling loss alone, and relevance against diversity. Of --layout another task "
        "its own table."
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", help="a folder that `spectra-sum evaluate` wrote")
    parser.add_argument(
        "--format", choices=[*FORMATS, "all"], default="markdown", help="format of the tables (default: markdown)"
    )
    parser.add_argument(
        "--layout",
        choices=tuple(TASKS),
        default=SUMMARIZATION.name,
        help="the tables of a task: that of the folders' evaluate --task (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write files to this folder, do not print")
    parser.add_argument(
        "--reference-system",
        metavar="NAME",
        help="evaluated system that the others are tested against (default: that of the first folder)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the command.

    Returns:
        0; bad input is an error.
    """
    if arguments.format == "all" and arguments.output is None:
        raise UsageError("--format all writes several files; name a folder by --output.")
    if arguments.output is not None and arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f"--output {printable(arguments.output)}: this is a file; name a folder.")

    # The metrics' libraries take seconds to import, which --help and a wrong argument need not cost.
    from ..tables import (
        EvaluationError,
        build_tables,
        build_task_tables,
        load_published,
        read_evaluations,
        render_html,
        render_latex,
        render_markdown,
    )

    renderers = {"markdown": render_markdown, "latex": render_latex, "html": render_html}
    try:
        evaluations, published, task = read_evaluations(arguments.folders), load_published(), TASKS[arguments.layout]
        if task.has_instructions:
            tables = build_task_tables(evaluations, published, task, arguments.reference_system)
        else:
            tables = build_tables(evaluations, published, arguments.reference_system)
    except EvaluationError as error:
        raise UsageError(str(error)) from None

    for format in FORMATS if arguments.format == "all" else (arguments.format,):
        text = renderers[format](tables)
        if arguments.output is None:
            _print(text)
            continue
        arguments.output.mkdir(parents=True, exist_ok=True)
        path = arguments.output / FORMATS[format]
        write_text_atomically(path, text)
        _print(f"Tables: {printable(path)}\n")
    return 0


def _print(text: str) -> None:
    # Where the terminal's encoding lacks a character, the rest of the table still counts.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
