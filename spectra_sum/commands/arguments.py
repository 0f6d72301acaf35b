"""What the commands share: the error for bad input, and types of arguments that say what is wrong."""

import argparse
import re
import sys
from dataclasses import fields
from typing import Any

from ..errors import SpectraSumError
from ..models.kinds import DEFAULT, SMOLLM2
from ..models.quantization_choices import QUANTIZATIONS, check_bitsandbytes
from ..models.sources import DEFAULT_TEXT_ENCODER
from ..summaries.options import (
    CAPTIONS,
    LENGTHS,
    LONG_DOCUMENTS,
    MODES,
    SELECTIONS,
    TRAINED_NEW_TOKENS,
    OptionsError,
    SummaryOptions,
)
from ..tasks.task import INSTRUCTED, SUMMARIZATION, TASKS


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


def number(text: str) -> float:
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def add_model_arguments(parser: argparse._ActionsContainer, default: str = f"default: {DEFAULT}") -> None:
    """Adds `--model`, of every kind, and `--text-model`, which [`named_model`] reads; a mutually exclusive group."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="folder or Hub id of a SPeCTrA-Sum, a LLaVA-OneVision or a causal language model; a .gguf file; smollm2; default "
        f"({default})",
    )
    parser.add_argument(
        "--text-model", choices=[SMOLLM2], action=_TextModel, help="deprecated: the same as --model smollm2"
    )


class _TextModel(argparse.Action):
    """Takes the argument, and says that there is another."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, values)
        print(f"spectra-sum: note: --text-model is deprecated; pass --model {values}", file=sys.stderr)


def named_model(arguments: argparse.Namespace) -> str:
    """The model that the arguments name, or the default one."""
    return arguments.model or arguments.text_model or DEFAULT


def add_summary_arguments(parser: argparse._ActionsContainer, trained_tokens: int = TRAINED_NEW_TOKENS) -> None:
    """Adds the options of [`SummaryOptions`], which [`summary_options`] reads, and the encoders that they need; a trained
    SPeCTrA-Sum writes at most `trained_tokens` unless told otherwise."""
    group = parser.add_argument_group("length and decoding")
    group.add_argument(
        "--length",
        choices=LENGTHS,
        help="at most 60, 120 or 240 tokens; a summary that is stopped there ends with its last whole sentence (default: "
        f"medium; of a trained SPeCTrA-Sum {trained_tokens} tokens)",
    )
    group.add_argument("--max-new-tokens", type=positive, help="most tokens of a summary, in place of the length's")
    group.add_argument("--num-beams", type=positive, help="beams of the search (default: 1, greedy)")
    group.add_argument("--do-sample", action="store_true", help="sample; each document by itself, whatever the batch")
    group.add_argument("--temperature", type=number, help="of sampling (default: the model's, or 1)")
    group.add_argument(
        "--top-p", type=number, help="sample from the most probable tokens with this share (default: all)"
    )
    group.add_argument("--seed", type=natural, help="of sampling (default: 0)")
    group.add_argument(
        "--repetition-penalty",
        type=number,
        help="of tokens that the summary has, not of the document's; 1 is none (default: 1.1; of a trained SPeCTrA-Sum none)",
    )
    group.add_argument(
        "--no-repeat-ngram-size",
        type=natural,
        help="no phrase of as many tokens twice in a summary; 0: no such rule (default: 4; of a trained SPeCTrA-Sum 0)",
    )
    group = parser.add_argument_group("what is read, and what is selected")
    group.add_argument(
        "--long",
        choices=LONG_DOCUMENTS,
        help="of a document that does not fit the model: select reads the sentences that carry it, sections summaries of its "
        "parts, which are written first, cut its beginning (default: select; of a trained SPeCTrA-Sum cut)",
    )
    group.add_argument(
        "--captions",
        choices=CAPTIONS,
        help="prompt reads captions, or else alternative texts, with the text (default: prompt; a trained SPeCTrA-Sum does as "
        "it was trained)",
    )
    group.add_argument(
        "--mode",
        choices=MODES,
        default="write",
        help="extractive takes the sentences that carry the document, without a language model (default: write; of summarize "
        "without --model extractive)",
    )
    group.add_argument(
        "--select",
        choices=SELECTIONS,
        help="images by the model's trained predictor (vrp), or by the finished summary: the most relevant ones (relevance) "
        "or also different ones (dpp-map, mmr) (default: vrp where it is trained, else dpp-map)",
    )
    group.add_argument(
        "--threshold", type=share, help="least probability of an image that vrp selects (default: none)"
    )
    group.add_argument(
        "--text-encoder",
        metavar="FOLDER_OR_ID",
        default=DEFAULT_TEXT_ENCODER,
        help="sentence encoder for select, extractive, and captions and alternative texts (default: %(default)s)",
    )
    group.add_argument(
        "--vision",
        metavar="FOLDER_OR_ID",
        help="a SigLIP, SigLIP 2 or CLIP model that compares images with the finished summary, or default, a small one for "
        "textbooks (default: none)",
    )


def summary_options(arguments: argparse.Namespace) -> SummaryOptions:
    """
    The [`SummaryOptions`] of the command line.

    Raises:
        UsageError: They contradict each other.
    """
    try:
        return SummaryOptions(**{field.name: getattr(arguments, field.name) for field in fields(SummaryOptions)})
    except OptionsError as error:
        raise options_error(error) from None


def options_error(error: OptionsError) -> UsageError:
    """The error with the options as the command line names them."""
    return UsageError(re.sub(r"`(\w+)`", lambda match: "--" + match[1].replace("_", "-"), str(error)))


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


def add_own_data_arguments(parser: argparse._ActionsContainer) -> None:
    """Adds `--columns` and `--data-config`, which say how data of the user's own are read."""
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="OURS=THEIRS",
        help="columns of files, folders and Hub datasets: text=article images=figures summary=highlights title=… captions=… "
        "alt_texts=… gold_images=… id=…, or for another --task instruction=… answer=…; usual names are found without it",
    )
    parser.add_argument("--data-config", metavar="NAME", help="configuration of a Hub dataset that has several")


def add_task_argument(parser: argparse._ActionsContainer) -> None:
    """Adds `--task`."""
    parser.add_argument(
        "--task",
        choices=tuple(TASKS),
        default=SUMMARIZATION.name,
        help=f"what the data are for; of {', '.join(INSTRUCTED)} a record is an instruction about its images and an answer "
        "(default: %(default)s)",
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
