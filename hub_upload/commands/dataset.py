"""`spectra-sum push dataset`: a local copy of MSMO as a dataset repository."""

import argparse
from pathlib import Path

from spectra_sum.commands.arguments import positive


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command's arguments to the command line."""
    parser = subparsers.add_parser(
        "dataset",
        help="publish a local copy of MSMO",
        description="Publishes a local copy of MSMO as Parquet files with the images in them, and a card. MSMO may not be "
        "redistributed: the repository is private unless you declare that you have the right.",
    )
    parser.add_argument(
        "root", type=Path, metavar="ROOT", help="the folder that holds train_data, valid_data, test_data"
    )
    parser.add_argument("--repo-id", required=True, metavar="NAMESPACE/NAME", help="the repository")
    visibility = parser.add_mutually_exclusive_group()
    visibility.add_argument("--private", action="store_true", help="make the repository private (default)")
    visibility.add_argument(
        "--public",
        action="store_true",
        help="make the repository public (default with --i-have-the-right-to-redistribute, and refused without)",
    )
    parser.add_argument(
        "--i-have-the-right-to-redistribute",
        action="store_true",
        dest="may_redistribute",
        help="declare that you may publish this data; the card says so",
    )
    parser.add_argument(
        "--license",
        metavar="ID",
        help="licence for the card, as the Hub names them, such as cc-by-4.0 (default: other)",
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        choices=["train", "validation", "test"],
        metavar="SPLIT",
        help="splits to publish, of train, validation, test (default: all that exist)",
    )
    parser.add_argument("--num-proc", type=positive, metavar="N", help="processes that decode the images (default: 1)")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to push to (default: the main one)")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request, do not push to the branch")
    parser.add_argument(
        "--dry-run", type=Path, metavar="DIR", help="write what would be pushed to this new folder, push nothing"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the command.

    Returns:
        0; what is refused or fails is an error.
    """
    # pyarrow and datasets take seconds to import, which --help and a wrong argument need not cost.
    from hub_upload.dataset.push import RIGHTS_OPTION, push_dataset, wanted_privacy
    from hub_upload.repository import Target

    private = wanted_privacy(arguments.private, arguments.public, arguments.may_redistribute)
    if not arguments.may_redistribute:
        print(
            f"{arguments.repo_id}: pushed as private only, since MSMO may not be redistributed. Who has the right passes "
            f"{RIGHTS_OPTION}.",
            flush=True,
        )
    target = Target(
        arguments.repo_id,
        repo_type="dataset",
        private=private,
        revision=arguments.revision,
        create_pr=arguments.create_pr,
    )
    push = push_dataset(
        arguments.root,
        target,
        splits=arguments.splits,
        may_redistribute=arguments.may_redistribute,
        license=arguments.license,
        num_proc=arguments.num_proc,
        dry_run=arguments.dry_run,
    )
    print(push if push else f"{arguments.dry_run}: what would be pushed to {arguments.repo_id}")
    return 0
