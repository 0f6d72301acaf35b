"""What loading gives, and the errors of the libraries that do it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor

from .kinds import SPECTRA_SUM
from .sources import ModelError

# What transformers raises for folders that are incomplete, damaged, of another kind, or not to be fetched.
LOADING_ERRORS = (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError)
# What it stumbles over where a setting has a type or value that it does not check; the message alone tells little.
DAMAGED_SETTINGS_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError)


class LoadedModel(NamedTuple):
    """
    A model in evaluation mode with its processor.

    Attributes:
        model (`SpectraSumForConditionalGeneration`): The model.
        processor (`SpectraSumProcessor`): Its processor.
        trained (`bool`): False when the visual path is fresh.
        kind (`str`): One of `kinds.KINDS`.
        notice (`str`): What it is and what it cannot do, in one sentence; nothing for a trained SPeCTrA-Sum.
        revision (`str`, *optional*): Commit of its repository; None for what lies in a folder.
        extract_words (`int`, *optional*): It reads extracts of as many words of longer bodies; None for what it has room for.
        support_threshold (`float`, *optional*): Least cosine of a written sentence to a sentence that was read; one that has
            less is replaced by the document's own, and so is a summary that repeats itself. None: what it writes stands.
    """

    model: SpectraSumForConditionalGeneration
    processor: SpectraSumProcessor
    trained: bool
    kind: str = SPECTRA_SUM
    notice: str = ""
    revision: str | None = None
    extract_words: int | None = None
    support_threshold: float | None = None


@contextmanager
def loading(name: str) -> Iterator[None]:
    """
    What the libraries raise while a pretrained model is read, as a `ModelError`. Fresh weights are the same in every run, and
    the caller's random state stays as it is.

    Args:
        name (`str`): The model's name in the message.
    """
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            yield
    except ModelError:
        raise
    except (*LOADING_ERRORS, ImportError) as error:
        raise ModelError(f"{name}: the model cannot be loaded: {one_line(error)}") from error
    except DAMAGED_SETTINGS_ERRORS as error:
        raise ModelError(
            f"{name}: the model cannot be loaded, a value in its files is damaged: {type(error).__name__}: {one_line(error)}"
        ) from error


def one_line(error: Exception) -> str:
    """What an error of a library says, without its advice to developers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The first line of these only names the field; elsewhere, what follows it is advice to developers.
    shown = " ".join(lines) if isinstance(error, StrictDataclassError) else next(iter(lines), "")
    return shown or type(error).__name__
