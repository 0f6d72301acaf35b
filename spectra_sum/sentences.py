"""The sentences of a text, by the same rule as the evidence of a summary."""

from collections.abc import Sequence

from modeling_spectra.sentences import sentence_spans


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, by the rule of [`sentence_spans`]."""
    return [text[start:end] for start, end in sentence_spans(text)]


def reference_sentences(summary: Sequence[str]) -> list[str]:
    """The sentences of a reference summary: a record has it in lines, one of which may be a whole paragraph.

    Args:
        summary (`list[str]`): The lines. Blank ones hold no sentence.
    """
    return [sentence for line in summary for sentence in split_sentences(line)]


__all__ = ["reference_sentences", "sentence_spans", "split_sentences"]
