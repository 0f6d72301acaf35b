"""Predictions with one or several reference texts each: what the metrics that read them check, and what they leave out."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Referenced(NamedTuple):
    """The articles that have a reference with text, in order."""

    indices: list[int]
    """Which of the articles they are."""
    references: list[list[Any]]
    """Per article its references, those without text left out."""
    empty_references: int
    """How many references without text were left out of these articles."""


def as_lists(metric: str, predictions: Sequence[str], references: Sequence[str | Sequence[str]]) -> list[list[str]]:
    """
    Every article's references as a list, of one where a single text is given.

    Raises:
        ValueError: A prediction is None, an article's list of references is empty, or something in it is no text. The
            message begins with `metric`.
    """
    for index, prediction in enumerate(predictions):
        if prediction is None:
            raise ValueError(f"{metric}: predictions of article {index} is None; give an empty text if it is empty.")
    lists = []
    for index, given in enumerate(references):
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list | tuple):
            raise ValueError(
                f"{metric}: references of article {index} are of type {type(texts).__name__}; give a text or a list of texts."
            )
        if not texts:
            raise ValueError(
                f'{metric}: references of article {index} are an empty list; give at least one text, "" where there is none.'
            )
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(
                    f"{metric}: references of article {index} hold something of type {type(text).__name__}; all are texts."
                )
        lists.append(list(texts))
    return lists


def leave_out_empty(metric: str, references: Sequence[Sequence[Any]]) -> Referenced:
    """
    Leaves out references without text, and articles that have no others.

    Args:
        metric (`str`): Begins the message of an error.
        references (`Sequence[Sequence]`): Per article its references, as texts or lists of words; what is false is empty.

    Raises:
        ValueError: No article is left.
    """
    indices, kept, left_out = [], [], 0
    for index, given in enumerate(references):
        with_text = [reference for reference in given if reference]
        if with_text:
            indices.append(index)
            kept.append(with_text)
            left_out += len(given) - len(with_text)
    if not indices:
        raise ValueError(
            f"{metric}: none of the {len(references)} articles has a reference with text; there is nothing to average over."
        )
    return Referenced(indices, kept, left_out)
