"""`spectra-sum push space`: a Gradio Space that shows a published model."""

import argparse
from pathlib import Path


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command's arguments to the command line."""
    parser = subparsers.add_parser(
        "space",
        help="publish a demo of a model",
        description="Publishes a Gradio Space: a text or document with images goes in, its summary with the selected "
        "images comes out. It loads the model from the Hub, at the commit that the model has now.",
    )
    parser.add_argument("--repo-id", required=True, metavar="NAMESPACE/NAME", help="the Space")
    parser.add_argument("--model", required=True, metavar="NAMESPACE/NAME", help="the model on the Hub")
    parser.add_argument(
        "--revision-of-model", metavar="REVISION", help="the model's branch, tag or commit (default: its main branch)"
    )
    visibility = parser.add_mutually_exclusive_group()
    visibility.add_argument(
        "--private", action="store_true", help="make the Space private (default for a private model)"
    )
    visibility.add_argument(
        "--public", action="store_true", help="make the Space public, though its files name a private model"
    )
    parser.add_argument("--revision", metavar="BRANCH", help="branch of the Space to push to (default: the main one)")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request, do not push to the branch")
    parser.add_argument(
        "--dry-run",
        type=Path,
        metavar="DIR",
        help="write what would be pushed to this new folder, push nothing; the model is still looked up",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the command.

    Returns:
        0; what is refused or fails is an error.
    """
    # Pillow and huggingface_hub take a moment to import, which --help and a wrong argument need not cost.
    from hub_upload.repository import Target
    from hub_upload.space.push import push_space

    target = Target(
        arguments.repo_id,
        repo_type="space",
        private=True if arguments.private else False if arguments.public else None,
        revision=arguments.revision,
        create_pr=arguments.create_pr,
        space_sdk="gradio",
    )
    push, model = push_space(
        target, arguments.model, model_revision=arguments.revision_of_model, dry_run=arguments.dry_run
    )
    print(f"Model: {model.repo_id} at {model.commit}")
    if model.private:
        space = "the Space is public and names it" if arguments.public else "so is the Space, unless you pass --public"
        print(f"The model is private, {space}; give the Space a secret HF_TOKEN that may read the model.")
    print(push if push else f"{arguments.dry_run}: what would be pushed to {arguments.repo_id}")
    return 0
