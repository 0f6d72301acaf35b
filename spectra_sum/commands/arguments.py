"""What the commands share: the error for bad input, and types of arguments that say what is wrong."""

import argparse

from ..errors import SpectraSumError
from ..models.quantization_choices import QUANTIZATIONS, check_bitsandbytes


class UsageError(SpectraSumError):
    """Arguments that contradict each other, or a place that cannot be read or written. The message is one line."""


def positive(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, 0)


def share(text: str) -> float:
    """A number in [0, 1]."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def add_quantize_argument(parser: argparse._ActionsContainer) -> None:
    """Adds `--quantize`."""
    parser.add_argument(
        "--quantize",
        choices=QUANTIZATIONS,
        help="4 bits (NF4) for the language model, or also for the new modules: Vision Sampler and Deep Visual Processor "
        "(default: none; extra [quantization])",
    )


def add_verify_argument(parser: argparse._ActionsContainer) -> None:
    """Adds `--verify`."""
    parser.add_argument(
        "--verify",
        choices=("header", "full"),
        default="header",
        help="full decodes every image before any work; header opens the files of an MSMO folder, and an image whose pixels "
        "are broken is left out when it is met (default: header)",
    )


def check_quantize_argument(quantize: str | None, model: str | None) -> None:
    """
    Checks, without loading anything, that `--quantize` can be done.

    Raises:
        UsageError: There is no model that it could be done to.
        ModelError: bitsandbytes is not installed.
    """
    if quantize is None:
        return
    if model is None:
        raise UsageError("--quantize puts a trained model in 4 bits; pass --model, or leave it out.")
    check_bitsandbytes()


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is not at least {least}")
    return value
