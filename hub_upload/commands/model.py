"""`spectra-sum push model`: publishes a trained model or LoRA adapter with its code and card."""

import argparse
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from spectra_sum.errors import SpectraSumError

# What says something of a trained model.
OF_A_RUN = ("adapter", "merge", "base", "evaluation", "license", "dataset")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command's arguments to the command line."""
    parser = subparsers.add_parser(
        "model",
        help="a trained model or LoRA adapter",
        description="Publishes a trained model with its code and a card made from the run's own facts. It is first loaded "
        "in a fresh process without this project and compared with the source; files to resume training stay here.",
    )
    parser.add_argument(
        "source", nargs="?", type=Path, metavar="RUN_OR_FOLDER", help="output of a training run, checkpoint or model"
    )
    parser.add_argument(
        "--tiny-random", action="store_true", help="instead of one: a tiny model with random weights, for tests"
    )
    parser.add_argument("--repo-id", required=True, metavar="NS/NAME", help="the repository")
    parser.add_argument("--private", action="store_const", const=True, help="a private repository")
    destination = parser.add_mutually_exclusive_group()
    destination.add_argument(
        "--dry-run",
        type=Path,
        metavar="DIR",
        help="write what would be uploaded into this new folder, and upload nothing",
    )
    destination.add_argument("--create-pr", action="store_true", help="open a pull request instead of committing")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to push to, made when missing (default: main)")
    lora = parser.add_mutually_exclusive_group()
    lora.add_argument("--adapter", action="store_true", help="of a LoRA run: the adapter alone, pointing at --base")
    lora.add_argument("--merge", action="store_true", help="of a LoRA run: whole weights, the adapter merged in")
    parser.add_argument(
        "--base", metavar="NS/NAME[@REVISION]", help="the adapter's base on the Hub; its commit is pinned"
    )
    parser.add_argument(
        "--evaluation", nargs="+", type=Path, default=[], metavar="FOLDER", help="results of spectra-sum evaluate"
    )
    parser.add_argument(
        "--license", metavar="ID", help="license for the card, such as apache-2.0, where the backbones' is not known"
    )
    parser.add_argument("--dataset", metavar="NS/NAME", help="Hub id of the training data, for the card")
    parser.add_argument(
        "--message", metavar="TEXT", default="Upload the model with its code and card", help="commit message"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the command.

    Returns:
        0 when the model was pushed, or written by a dry run.

    Raises:
        SpectraSumError: There is neither a folder nor `--tiny-random`, or what goes with a folder alone beside that.
    """
    _check_source(arguments)
    # Torch and transformers take seconds to import, which --help need not cost.
    from transformers.utils import logging

    from hub_upload.cards.tiny_random import tiny_random_card
    from hub_upload.model.push import push_model
    from hub_upload.model.tiny_random import save_tiny_random
    from hub_upload.repository import Target

    # Libraries warn their developers here, about each other.
    warnings.simplefilter("ignore", FutureWarning)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with ExitStack() as made:
        source, card = arguments.source, None
        if arguments.tiny_random:
            source = Path(made.enter_context(TemporaryDirectory(prefix="spectra-sum-tiny-random-")))
            save_tiny_random(source)
            card = tiny_random_card(arguments.repo_id)
        pushed = push_model(
            source,
            Target(
                arguments.repo_id,
                private=arguments.private,
                revision=arguments.revision,
                create_pr=arguments.create_pr,
            ),
            card=card,
            lora="adapter" if arguments.adapter else "merge" if arguments.merge else None,
            base=arguments.base,
            evaluations=arguments.evaluation,
            license=arguments.license,
            dataset_id=arguments.dataset,
            dry_run=arguments.dry_run,
            message=arguments.message,
            report=lambda step: print(f"… {step}", file=sys.stderr, flush=True),
        )
    for what, names in (
        ("files to resume training", pushed.resume_files),
        ("other files", pushed.left_out),
        ("replaced by this project's own", pushed.replaced),
    ):
        if names:
            print(f"left out, {what} ({len(names)}): {', '.join(names)}")
    for note in pushed.notes:
        print(f"note: {note}")
    if pushed.push is None:
        size = sum(pushed.files.values()) / 1e6
        print(f"{arguments.dry_run}: {len(pushed.files)} files, {size:.1f} MB; nothing was uploaded.")
    else:
        print(pushed.push)
    return 0


def _check_source(arguments: argparse.Namespace) -> None:
    if arguments.source is None and not arguments.tiny_random:
        raise SpectraSumError("push model: name the folder of a training run or a model, or pass --tiny-random.")
    if arguments.source is not None and arguments.tiny_random:
        raise SpectraSumError(f"push model: --tiny-random makes its own model; leave {arguments.source} out.")
    given = [f"--{name}" for name in OF_A_RUN if getattr(arguments, name)]
    if arguments.tiny_random and given:
        raise SpectraSumError(f"push model: --tiny-random makes its own model; leave {', '.join(given)} out.")
