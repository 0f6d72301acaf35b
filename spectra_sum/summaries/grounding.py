"""What of a written summary stands: sentences without support in what was read give way to the document's own (§12)."""

from collections.abc import Callable, Sequence

from ..documents.parts import Problem
from ..extraction.extract import Encoder
from ..extraction.support import replace_unsupported
from ..sentences import sentence_spans
from .degenerate import repetition
from .summary_sentences import EXTRACTED, WRITTEN, SummarySentence


def grounded(
    text: str,
    written: Sequence[str],
    source: Sequence[str],
    own_sentences: Callable[[], Sequence[str]],
    encoder: Encoder,
    threshold: float,
) -> tuple[list[SummarySentence], list[Problem]]:
    """
    The sentences of a summary, each written or extracted, and a remark where some were left out, or nothing of the written
    text stands.

    Args:
        text (`str`): What the model wrote.
        written (`Sequence[str]`): Its sentences.
        source (`Sequence[str]`): The sentences that the model read.
        own_sentences (`Callable`): Gives those that stand in for the whole where it is empty or degenerate, see
            `degenerate.py`.
        encoder (`TextEncoder`): Embeds sentences.
        threshold (`float`): Least support of a written sentence, a cosine; see [`replace_unsupported`].
    """
    repeated = repetition(text)
    if written and repeated is None:
        sentences = [SummarySentence(*entry) for entry in replace_unsupported(written, source, encoder, threshold)]
        missing = len(written) - len(sentences)
        noun = "1 sentence" if missing == 1 else f"{missing} sentences"
        detail = f"{noun} without support in the document, which has none left to stand in"
        return sentences, [Problem("left_out", detail)] if missing else []
    reason = "is empty" if repeated is None else f"repeats itself: {repeated}"
    detail = f"what the model wrote {reason}; sentences of the document stand in its place"
    sentences = [SummarySentence(sentence, EXTRACTED) for sentence in own_sentences()]
    return sentences, [Problem("degenerate_summary", detail)]


def grounded_text(text: str, sentences: Sequence[SummarySentence]) -> str:
    """
    The text of a summary some of whose sentences are extracted or left out: as the model wrote it up to the first of these,
    and one sentence after another from there.

    Args:
        text (`str`): What the model wrote.
        sentences (`Sequence[SummarySentence]`): Of [`grounded`].
    """
    spans = sentence_spans(text)
    leading = 0
    for sentence, (start, end) in zip(sentences, spans, strict=False):
        if sentence.origin != WRITTEN or sentence.text != text[start:end]:
            break
        leading += 1
    begun = [text[: spans[leading - 1][1]]] if leading else []
    return " ".join([*begun, *(sentence.text for sentence in sentences[leading:])])
