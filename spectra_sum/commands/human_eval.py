"""`spectra-sum human-eval`: a batch for human raters, and the analysis of their answers."""

import argparse
import hashlib
import json
import os
import sys
from functools import partial
from pathlib import Path

from ..atomic_write import write_text_atomically
from ..documents.parts import printable
from .arguments import UsageError, add_own_data_arguments, natural, positive

SPLITS = ("train", "validation", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the command, and adds its arguments to its parser."""
    parser.description = "Human evaluation: four 5-point questions per summary, with attention checks."
    steps = parser.add_subparsers(title="steps", dest="step", metavar="STEP", required=True)
    export = steps.add_parser(
        "export",
        help="write the form, the table for a crowd platform and the key",
        description="Writes form.html (self-contained), items.csv with images/ (for a crowd platform) and key.json, which "
        "raters must not get.",
    )
    export.add_argument(
        "--predictions",
        nargs="+",
        action="extend",
        required=True,
        metavar="[NAME=]FILE",
        help="predictions of a system (JSON lines); the name defaults to the file's, for predictions.jsonl the folder's",
    )
    export.add_argument("--data", required=True, help="the articles: whatever spectra-sum evaluate --data takes")
    add_own_data_arguments(export)
    export.add_argument("--split", choices=SPLITS, default="test", help="split of the data (default: test)")
    export.add_argument(
        "--items", type=positive, default=200, help="articles, each rated once per system (default: 200)"
    )
    export.add_argument("--attention-checks", type=natural, default=10, help="items that test attention (default: 10)")
    export.add_argument("--seed", type=int, default=0, help="of the sampling and the order (default: 0)")
    export.add_argument("--closed-world-seed", type=int, default=0, help="the closed world's seed (default: 0)")
    export.add_argument(
        "--closed-world-articles", type=positive, default=200, help="articles of the closed world (default: 200)"
    )
    export.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    analyse = steps.add_parser(
        "analyse",
        help="filter and score the answers",
        description="Writes human_eval.json and human_eval.md: means, share of good ratings and agreement.",
    )
    analyse.add_argument("--key", type=Path, required=True, metavar="key.json", help="the key of the export")
    analyse.add_argument("--answers", type=Path, nargs="+", required=True, metavar="FILE", help="answers as CSV")
    analyse.add_argument(
        "--min-checks-passed",
        type=natural,
        metavar="N",
        help="attention checks a worker must pass (default: all that were answered, at least one; 0: keep everybody)",
    )
    analyse.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs a step of the command.

    Returns:
        0; bad input raises.

    Raises:
        UsageError: Data, predictions, key or answers cannot be used, or the output folder cannot take the files.
    """
    if arguments.step == "export":
        _export(arguments)
    else:
        _analyse(arguments)
    return 0


def _export(arguments: argparse.Namespace) -> None:
    files = _named_files(arguments.predictions)
    _check_folder(arguments.output)
    if arguments.output.is_dir() and any(arguments.output.iterdir()):
        raise UsageError(
            f"--output {printable(arguments.output)}: the folder is not empty, and may hold the key of another batch; name "
            "a new one."
        )

    # datasets takes a second to import, which --help and a wrong path need not cost.
    from ..evaluation.prediction_files import read_predictions
    from ..human_eval.export import FORM_FILE, ITEMS_FILE, KEY_FILE, write_batch
    from ..human_eval.items import build_batch
    from ..human_eval.questions import HumanEvalError
    from ..own_data.loading import load_split

    try:
        records = load_split(
            arguments.data,
            arguments.split,
            columns=arguments.columns,
            config=arguments.data_config,
            closed_world_seed=arguments.closed_world_seed,
            closed_world_articles=arguments.closed_world_articles,
            need_summaries=False,
            report=partial(print, file=sys.stderr),
        )
        predictions = {name: read_predictions(path, records) for name, path in files.items()}
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        batch = build_batch(
            records,
            predictions,
            items=arguments.items,
            attention_checks=arguments.attention_checks,
            seed=arguments.seed,
        )
    except HumanEvalError as error:
        raise UsageError(str(error)) from None
    settings = {
        "data": arguments.data,
        "split": arguments.split,
        "items": arguments.items,
        "attention_checks": arguments.attention_checks,
        "seed": arguments.seed,
        "articles_without_images": batch.articles_without_images,
        "predictions": {
            name: {"file": printable(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for name, path in files.items()
        },
    }
    if arguments.data == "closed_world":
        settings["closed_world_seed"] = arguments.closed_world_seed
        settings["closed_world_articles"] = arguments.closed_world_articles
    arguments.output.mkdir(exist_ok=True)
    guarded = write_batch(arguments.output, batch, settings)

    shown = printable(arguments.output)
    print(
        f"{len(batch.items)} items: {arguments.items} articles x {len(files)} systems and {arguments.attention_checks} "
        "attention checks."
    )
    if batch.articles_without_images:
        print(f"{batch.articles_without_images} articles without images were left out of the sampling.")
    if guarded:
        print(f"{guarded} cells of {ITEMS_FILE} begin like a spreadsheet formula and got an apostrophe in front.")
    print(f"For raters: {shown}/{FORM_FILE}, or {shown}/{ITEMS_FILE} with its images.")
    print(f"Not for raters: {shown}/{KEY_FILE}.")


def _analyse(arguments: argparse.Namespace) -> None:
    _check_folder(arguments.output)

    from ..human_eval.analysis import analyse
    from ..human_eval.answers import filter_answers, read_answers, read_key
    from ..human_eval.questions import HumanEvalError
    from ..human_eval.result_table import markdown, published_human_evaluation

    try:
        key = read_key(arguments.key)
        answers = read_answers(arguments.answers, key)
        filtered = filter_answers(answers, key, arguments.min_checks_passed)
    except HumanEvalError as error:
        raise UsageError(str(error)) from None
    published = published_human_evaluation()
    analysis = {
        **analyse(filtered, key),
        "settings": {
            "key": printable(arguments.key),
            "answers": [printable(path) for path in arguments.answers],
            "min_checks_passed": arguments.min_checks_passed,
        },
        "published": published,
    }
    arguments.output.mkdir(exist_ok=True)
    write_text_atomically(
        arguments.output / "human_eval.json", json.dumps(analysis, ensure_ascii=False, indent=1) + "\n"
    )
    table = markdown(analysis, published)
    write_text_atomically(arguments.output / "human_eval.md", table)
    # Where the terminal's encoding lacks a character, the rest of the table still counts.
    encoding = sys.stdout.encoding or "utf-8"
    print(table.encode(encoding, "replace").decode(encoding))
    print(f"Written: {printable(arguments.output)}/human_eval.json and human_eval.md")


def _named_files(arguments: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for argument in arguments:
        name, equals, rest = argument.partition("=")
        # A file whose own path holds the sign needs no name in front.
        path = Path(rest) if equals and not Path(argument).exists() else Path(argument)
        if not path.is_file():
            raise UsageError(
                f"--predictions {printable(argument)}: there is no file {printable(path)}; check the path."
            )
        if path == Path(argument):
            name = path.resolve().parent.name if path.stem == "predictions" else path.stem
        if not name:
            raise UsageError(f"--predictions {printable(argument)}: the name is empty; write NAME=FILE.")
        if name in files:
            raise UsageError(f"--predictions: two systems are called {name!r}; write NAME=FILE to tell them apart.")
        files[name] = path
    return files


def _check_folder(path: Path) -> None:
    shown = printable(path)
    if path.exists() and not path.is_dir():
        raise UsageError(f"--output {shown}: this is a file; name a folder.")
    if not path.exists() and not path.parent.is_dir():
        raise UsageError(f"--output {shown}: there is no folder {printable(path.parent)}; make it first.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"--output {shown}: the folder cannot be written; check the permissions.")
