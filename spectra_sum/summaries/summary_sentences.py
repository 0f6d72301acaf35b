"""The sentences of a summary: who wrote them, and which images belong to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..documents.parts import Problem
from ..extraction.origins import EXTRACTED, WRITTEN
from ..report.contents import SentenceEvidence


@dataclass
class SummarySentence:
    """
    A sentence of a summary.

    Attributes:
        text (`str`): The sentence.
        origin (`str`): `"written"` by the model, or `"extracted"`, the document's own.
        images (`list[int]`): The selected images that belong to it, best first, as indices into the document's.
    """

    text: str
    origin: str = WRITTEN
    images: list[int] = field(default_factory=list)


def sentences_by_attention(evidence: Sequence[SentenceEvidence], num_images: int) -> list[int | None]:
    """
    Per image the place of the sentence that attended to it most, the first one of equals; `None` for an image that no
    sentence could attend to.
    """
    places: list[int | None] = []
    for image in range(num_images):
        weights = [(entry.image_weights[image], place) for place, entry in enumerate(evidence)]
        read = [(weight, -place) for weight, place in weights if weight is not None]
        places.append(-max(read)[1] if read else None)
    return places


def origin_remarks(sentences: Sequence[SummarySentence]) -> list[Problem]:
    """Says which sentences are the document's own: a `Problem` of the kind `"extracted"`, or nothing."""
    own = [number for number, sentence in enumerate(sentences, start=1) if sentence.origin == EXTRACTED]
    if not own:
        return []
    if len(own) == len(sentences):
        return [Problem("extracted", "all sentences are the document's own")]
    noun, verb = ("sentence", "is") if len(own) == 1 else ("sentences", "are")
    return [Problem("extracted", f"{noun} {', '.join(map(str, own))} {verb} the document's own")]
