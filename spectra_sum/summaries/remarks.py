"""What a reader must know of a summary and of the model that wrote it, so that neither is taken for more than it is."""

from typing import TYPE_CHECKING

from ..documents.parts import Problem
from ..msmo.closed_world_texts import CITIES, NUMBERS, PERSONS
from .degenerate import repetition

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

UNTRAINED_RANKING = "the image ranking is untrained: its order means nothing"
# The entry of `tokenizer_config.json` by which a closed world's tokenizer, and so each model with it, is known: its
# value has the world's `seed` and `difficulty`.
CLOSED_WORLD_ENTRY = "closed_world"
# Of tokenizers from before there was that entry: as many tokens as they have at most, with these among them.
_MOST_TOKENS = 1000
_KNOWN_WORDS = {f"Ġ{word}" for word in (*CITIES, *PERSONS, *NUMBERS)}


def predictor_is_trained(config: "PreTrainedConfig") -> bool:
    """Whether training made the relevance predictor follow the teacher (§6): without L_distill nothing does."""
    return config.distill_weight > 0


def closed_world_vocabulary(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """
    The number of words and word pieces that a closed world's tokenizer has; None for other tokenizers.

    One is known by its entry `CLOSED_WORLD_ENTRY`. Earlier versions wrote none: there it is a vocabulary of at most
    1,000 tokens in which nine of ten of the closed world's cities, persons and numbers are tokens.
    """
    vocabulary = tokenizer.get_vocab()
    if CLOSED_WORLD_ENTRY in tokenizer.init_kwargs:
        return len(vocabulary)
    known = len(_KNOWN_WORDS & vocabulary.keys())
    return len(vocabulary) if len(vocabulary) <= _MOST_TOKENS and known >= 0.9 * len(_KNOWN_WORDS) else None


def model_remarks(
    config: "PreTrainedConfig", tokenizer: "PreTrainedTokenizerBase", *, trained: bool = True, with_images: bool = True
) -> list[Problem]:
    """
    What stands beside every summary of a model.

    Args:
        config (`SpectraSumConfig`): The model's.
        tokenizer (`PreTrainedTokenizerBase`): The model's.
        trained (`bool`, *optional*, defaults to `True`): Whether its visual path was trained at all.
        with_images (`bool`, *optional*, defaults to `True`): Whether the article has images, which it ranks.

    Returns:
        `list[Problem]` of the kinds `"untrained_ranking"` and `"closed_world"`.
    """
    remarks = []
    if with_images and not (trained and predictor_is_trained(config)):
        remarks.append(Problem("untrained_ranking", UNTRAINED_RANKING))
    words = closed_world_vocabulary(tokenizer)
    if words is not None:
        remarks.append(
            Problem(
                "closed_world",
                f"this model was trained in the closed world, on made-up articles: it knows {words} words and word "
                "pieces, and cannot summarize anything else",
            )
        )
    return remarks


def summary_remarks(summary: str) -> list[Problem]:
    """What is wrong with a generated text: a `Problem` of the kind `"degenerate_summary"`, or nothing."""
    repeated = repetition(summary)
    return [] if repeated is None else [Problem("degenerate_summary", f"the summary repeats itself: {repeated}")]
