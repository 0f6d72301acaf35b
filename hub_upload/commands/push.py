"""`spectra-sum push KIND`: publishes a model, the dataset, the metrics or a demo Space on the Hugging Face Hub."""

import argparse

HELP = "publish on the Hugging Face Hub"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the command, and adds its arguments to its parser."""
    parser.description = (
        "Publishes on the Hugging Face Hub, each repository in one commit. The token is that of the "
        "environment variable HF_TOKEN or of `hf auth login`."
    )
    # Not at the top: every `spectra-sum --help` reads HELP.
    from . import dataset, metrics, model, space

    kinds = parser.add_subparsers(title="what to push", metavar="KIND", required=True)
    for kind in (model, dataset, metrics, space):
        kind.add_parser(kinds)
