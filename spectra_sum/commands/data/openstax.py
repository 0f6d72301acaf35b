"""`spectra-sum data openstax CHECKOUT … --output FOLDER`: OpenStax books as articles in the MSMO layout."""

import argparse
import sys
from pathlib import Path

from ...documents.parts import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the step, and adds its arguments to its parser."""
    parser.description = (
        "Makes a dataset in the MSMO layout of checkouts of OpenStax books (CNXML): each section with a summary at its end "
        "becomes an article, with its figures, captions, alternative texts and credits. Only books under CC BY are read. Exit "
        "code 0; 1 where modules or image files are damaged, which are named."
    )
    parser.add_argument(
        "checkouts",
        type=Path,
        nargs="+",
        metavar="CHECKOUT",
        help="folder of a checkout of github.com/openstax/osbooks-…, whose name the book has; or a folder of checkouts",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")
    parser.add_argument(
        "--books", nargs="+", default=[], metavar="BOOK", help="only these, of a checkout of several (default: all)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier run has written to FOLDER")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the step.

    Returns:
        0, or 1 where modules or figures are damaged.

    Raises:
        SpectraSumError: A checkout or the output cannot be used.
    """
    # rouge_score takes a second to import, which --help need not cost.
    from ...openstax.conversion import convert
    from ...openstax.counts import MAX_EXAMPLES

    conversion = convert(arguments.checkouts, arguments.output, wanted=arguments.books, overwrite=arguments.overwrite)
    for book in conversion.books:
        commit = f"commit {book.checkout.commit}" if book.checkout.commit else "commit unknown, as there is no .git"
        print(printable(f"{book.name}: {book.title}, {book.licence}, {commit}"))
    for line in conversion.counts.lines():
        print(line)
    damage = conversion.counts.damage
    for line in damage[:MAX_EXAMPLES]:
        print(f"spectra-sum: left out: {line}", file=sys.stderr)
    if len(damage) > MAX_EXAMPLES:
        print(f"spectra-sum: left out: {len(damage) - MAX_EXAMPLES:,} more", file=sys.stderr)
    splits = ", ".join(f"{conversion.splits[split]:,} {split}" for split in ("train", "validation", "test"))
    print(f"Written: {printable(arguments.output)} ({splits})")
    return 1 if damage else 0
