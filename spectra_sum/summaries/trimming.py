"""Summaries that were stopped at their limit end with their last whole sentence."""

import re

from ..sentences import sentence_spans

_END_MARK = re.compile(r"[.!?…。！？]['\"”’»)\]」』]*$")


def trimmed(text: str) -> str | None:
    """
    The text without the sentence that was not finished; the whole text where its last sentence was.

    Args:
        text (`str`): A text that was stopped at a limit.

    Returns:
        `str`, or `None` where no whole sentence would be left.
    """
    text = text.strip()
    spans = sentence_spans(text)
    # What could open a sentence tells whether the text's end is one's.
    if spans and _END_MARK.search(text) and sentence_spans(f"{text} A")[-1] == (len(text) + 1, len(text) + 2):
        return text
    whole = spans[:-1]
    # A line that no mark ends, such as "Summary:", is no sentence by itself.
    if not any(_END_MARK.search(text[start:end]) for start, end in whole):
        return None
    return text[: whole[-1][1]]
