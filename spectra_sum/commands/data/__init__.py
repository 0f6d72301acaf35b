"""`spectra-sum data STEP`: data for training and evaluation."""

import argparse
from importlib import import_module

STEPS = {
    "check": "say what would be read of any data, and what would be dropped",
    "linked-pairs": "make pairs of images that share an object",
    "openstax": "make articles in the MSMO layout of OpenStax books",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the command, and adds its arguments to its parser."""
    parser.description = "Data for training and evaluation."
    steps = parser.add_subparsers(title="steps", dest="step", metavar="STEP", required=True)
    for name, summary in STEPS.items():
        # The modules themselves import what takes seconds when they run.
        import_module(f"{__name__}.{name.replace('-', '_')}").add_arguments(steps.add_parser(name, help=summary))
