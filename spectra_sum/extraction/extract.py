"""The extract of a document: the sentences that carry it, without repetition, until a budget is full."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .body_sentences import BodySentence, body_sentences, joined
from .phrases import repeats_itself
from .salience import salience

# Of validation sections of msmo_openstax, see docs/results.md.
TRADE_OFF = 0.9
# Shorter ones are remains of lists and formulas.
FEWEST_WORDS = 5


class Encoder(Protocol):
    """What an extract needs of a sentence encoder."""

    def embed(self, texts: Sequence[str]) -> Tensor:
        """L2-normalised embeddings (N, d)."""


class Extract(NamedTuple):
    """
    An extract.

    Attributes:
        text (`str`): The chosen sentences in the body's order, with their headings if these were asked for.
        sentences (`list[str]`): The chosen sentences, in the same order.
        indices (`list[int]`): Their places among the body's sentences.
        total (`int`): How many sentences the body has.
    """

    text: str
    sentences: list[str]
    indices: list[int]
    total: int


def extract(
    body: str,
    encoder: Encoder,
    budget: int,
    size: Callable[[str], int],
    *,
    method: str = "centroid",
    headings: bool = True,
    repetition: bool = False,
) -> Extract:
    """
    Chooses sentences until the budget is full, by maximal marginal relevance (Carbonell and Goldstein 1998) on their
    [`salience`]; one that does not fit any more is passed over for the next that does.

    A body that fits whole is returned whole, and nothing is embedded. Of one whose sentences are all too long the most salient
    one is returned, cut by words to what fits.

    Args:
        body (`str`): The text; its paragraphs are parted by an empty line.
        encoder (`TextEncoder`): Embeds the sentences.
        budget (`int`): Most that the extract's text may have.
        size (`Callable`): Counts a text, in tokens or words, as the budget is counted.
        method (`str`, *optional*, defaults to `"centroid"`): Or `"lexrank"`.
        headings (`bool`, *optional*, defaults to `True`): Whether headings stand in the text.
        repetition (`bool`, *optional*, defaults to `False`): Whether a phrase of four words may come a third time, which a
            model may read and a summary should not have. Otherwise a sentence that would bring it is passed over, too.
    """
    sentences = body_sentences(body)
    everything = range(len(sentences))
    whole = joined(sentences, everything, headings=headings)
    if not sentences or size(whole) <= budget:
        return Extract(whole, [sentence.text for sentence in sentences], list(everything), len(sentences))
    order = _by_marginal_relevance(sentences, encoder, method)
    chosen = _filled(sentences, order, budget, size, headings, repetition)
    if not chosen:
        text = _cut(sentences[order[0]].text, budget, size)
        return Extract(text, [text] if text else [], [order[0]] if text else [], len(sentences))
    text = joined(sentences, chosen, headings=headings)
    return Extract(text, [sentences[index].text for index in chosen], chosen, len(sentences))


def _by_marginal_relevance(sentences: list[BodySentence], encoder: Encoder, method: str) -> list[int]:
    """All sentences in the order in which they are chosen: λ · salience - (1 - λ) · largest cosine to the chosen."""
    candidates = [index for index, one in enumerate(sentences) if len(one.text.split()) >= FEWEST_WORDS]
    candidates = candidates or list(range(len(sentences)))
    embeds = encoder.embed([sentences[index].text for index in candidates]).double()
    scores = TRADE_OFF * salience(embeds, method)
    cosines = embeds @ embeds.mT
    redundancy = torch.zeros_like(scores)
    order: list[int] = []
    left = torch.ones(len(candidates), dtype=torch.bool)
    for _ in candidates:
        # Equal ones are taken in the document's order on every processor.
        marginal = (scores - (1 - TRADE_OFF) * redundancy).mul(1e6).round().masked_fill(~left, -torch.inf)
        best = int(marginal.argmax())
        left[best] = False
        order.append(candidates[best])
        redundancy = torch.maximum(redundancy, cosines[best])
    return order


def _filled(
    sentences: list[BodySentence],
    order: list[int],
    budget: int,
    size: Callable[[str], int],
    headings: bool,
    repetition: bool,
) -> list[int]:
    sizes = [size(one.text) for one in sentences]
    chosen: list[int] = []
    used = 0
    for index in order:
        # The sum of the parts is near the whole; the whole decides, and is counted only where it may fit.
        if used + sizes[index] <= budget + len(chosen):
            tried = sorted([*chosen, index])
            if not repetition and repeats_itself(" ".join(sentences[one].text for one in tried)):
                continue
            if size(joined(sentences, tried, headings=headings)) <= budget:
                chosen = tried
                used += sizes[index]
    return chosen


def _cut(sentence: str, budget: int, size: Callable[[str], int]) -> str:
    words = sentence.split()
    count = len(words)
    while count and size(" ".join(words[:count])) > budget:
        count -= 1
    return " ".join(words[:count])
