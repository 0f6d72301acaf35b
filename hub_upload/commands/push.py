"""`spectra-sum push KIND`: publishes a model, the dataset, the metrics or a demo Space on the Hugging Face Hub."""

import argparse

from . import dataset, metrics, model, space

KINDS = (model, dataset, metrics, space)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command's arguments to the command line."""
    parser = subparsers.add_parser(
        "push",
        help="publish on the Hugging Face Hub",
        description="Publishes on the Hugging Face Hub, each repository in one commit. The token is that of the "
        "environment variable HF_TOKEN or of `hf auth login`.",
    )
    kinds = parser.add_subparsers(title="what to push", metavar="KIND", required=True)
    for kind in KINDS:
        kind.add_parser(kinds)
