"""`spectra-sum push metrics`: each metric of the project as a Space for `evaluate.load`."""

import argparse
import sys
from pathlib import Path

from spectra_sum.commands.arguments import UsageError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command's arguments to the command line."""
    parser = subparsers.add_parser(
        "metrics",
        help="publish the metrics",
        description="Publishes each metric as a Space NAMESPACE/NAME, so that evaluate.load takes it from there.",
    )
    parser.add_argument("--namespace", required=True, help="user or organisation")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="metrics to push (default: all)")
    parser.add_argument(
        "--private", action="store_true", help="make new Spaces private (default: existing ones stay as they are)"
    )
    parser.add_argument("--revision", metavar="BRANCH", help="branch to push to (default: the main one)")
    parser.add_argument("--create-pr", action="store_true", help="open pull requests, do not push to the branch")
    parser.add_argument(
        "--dry-run",
        type=Path,
        metavar="DIR",
        help="write what would be pushed to this new folder, one folder per metric; push nothing",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the command.

    Returns:
        0 when all metrics were pushed, 1 when one failed.
    """
    # evaluate takes seconds to import, which --help and a wrong argument need not cost.
    from hub_upload.metrics.push import find_metrics, push_metrics

    metrics = find_metrics()
    unknown = sorted(set(arguments.only or ()) - set(metrics))
    if unknown:
        raise UsageError(f"--only {' '.join(unknown)}: no such metric; there are {', '.join(metrics)}.")
    failures = push_metrics(
        {name: folder for name, folder in metrics.items() if not arguments.only or name in arguments.only},
        arguments.namespace,
        private=arguments.private or None,
        revision=arguments.revision,
        create_pr=arguments.create_pr,
        dry_run=arguments.dry_run,
        report=lambda line: print(line, flush=True),
    )
    for failure in failures:
        print(f"spectra-sum: error: {failure}", file=sys.stderr)
    if arguments.dry_run is not None:
        print(f"{arguments.dry_run}: what would be pushed")
    return 1 if failures else 0
