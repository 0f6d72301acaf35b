"""The sentences of a text, by the same rule as the evidence of a summary."""

from modeling_spectra.sentences import sentence_spans


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, by the rule of [`sentence_spans`]."""
    return [text[start:end] for start, end in sentence_spans(text)]


__all__ = ["sentence_spans", "split_sentences"]
