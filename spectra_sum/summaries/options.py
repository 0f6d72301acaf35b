"""How documents are summarized: length, decoding, long documents, and which images are selected."""

from dataclasses import asdict, dataclass, replace
from typing import Any

# Most new tokens; a summary that is stopped there ends with its last whole sentence.
LENGTHS = {"short": 60, "medium": 120, "long": 240}
LONG_DOCUMENTS = ("select", "sections", "cut")
MODES = ("write", "extractive")
CAPTIONS = ("none", "prompt")
# `vrp` is the model's own predictor; the others read the finished summary.
SELECTIONS = ("dpp-map", "mmr", "relevance", "vrp")
# A trained SPeCTrA-Sum writes as it learned to: to its end token, without penalties.
TRAINED_NEW_TOKENS = 128
# Of pretrained models, which were never trained to stop in time. Both count what was generated, not the document.
REPETITION_PENALTY = 1.1
NO_REPEAT_NGRAM_SIZE = 4
# English words of a token, for extracts: no language model's tokenizer is there.
WORDS_PER_TOKEN = 0.75

_SAMPLING = ("temperature", "top_p", "seed")
_WRITING = ("num_beams", "do_sample", *_SAMPLING, "repetition_penalty", "no_repeat_ngram_size", "long", "captions")


class OptionsError(ValueError):
    """Options that contradict each other, or one out of its range. The message names them in backquotes."""


@dataclass(frozen=True)
class SummaryOptions:
    """
    How a [`~spectra_sum.summaries.summarizer.Summarizer`] works. `None` stands for the default of the model, which depends
    on whether it is a trained SPeCTrA-Sum; [`SummaryOptions.filled`] puts it in.

    Args:
        length (`str`, *optional*): `"short"`, `"medium"` or `"long"`: at most 60, 120 or 240 tokens (in extracts three words
            for four tokens). Medium by default; a trained SPeCTrA-Sum writes at most 128 tokens.
        max_new_tokens (`int`, *optional*): Most tokens of a summary, in place of the length's.
        num_beams (`int`, *optional*): Beams of the search; 1, the default, is greedy.
        do_sample (`bool`, *optional*, defaults to `False`): Sample, one document at a time.
        temperature (`float`, *optional*): Of sampling; over 0. By default that of the model's `generation_config`, or 1.
        top_p (`float`, *optional*): Sample from the most probable tokens that have this share together, in (0, 1].
        seed (`int`, *optional*): Of sampling; 0 by default. A document's summary depends on it and the document alone.
        repetition_penalty (`float`, *optional*): Over 0; 1 is none. It counts generated tokens, not the document's. 1.1 by
            default; none for a trained SPeCTrA-Sum.
        no_repeat_ngram_size (`int`, *optional*): No phrase of as many generated tokens twice; 0 is no such rule. 4 by
            default; 0 for a trained SPeCTrA-Sum.
        long (`str`, *optional*): What is read of a document that does not fit the model: `"select"`, the sentences that
            carry it; `"sections"`, summaries of its parts, which the model writes first; or `"cut"`, its beginning. Select
            by default; cut for a trained SPeCTrA-Sum.
        captions (`str`, *optional*): Whether captions (or else alternative texts) are read with the body: `"prompt"` or
            `"none"`. Prompt by default; a trained SPeCTrA-Sum does as it was trained.
        mode (`str`, *optional*, defaults to `"write"`): `"extractive"` takes sentences of the document instead of writing;
            it needs no language model.
        select (`str`, *optional*): How images are selected: `"vrp"` by the model's own predictor, which is the default where
            it was trained; `"dpp-map"`, the default elsewhere, `"mmr"` or `"relevance"` by the finished summary.
        threshold (`float`, *optional*): Least probability of a selected image, in [0, 1]; of `"vrp"` alone.

    Raises:
        OptionsError: a value out of its range, or options that contradict each other.
    """

    length: str | None = None
    max_new_tokens: int | None = None
    num_beams: int | None = None
    do_sample: bool = False
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    long: str | None = None
    captions: str | None = None
    mode: str = "write"
    select: str | None = None
    threshold: float | None = None

    def __post_init__(self):
        for name, choices in (
            ("length", LENGTHS),
            ("long", LONG_DOCUMENTS),
            ("captions", CAPTIONS),
            ("mode", MODES),
            ("select", SELECTIONS),
        ):
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise OptionsError(f"`{name}` must be one of {', '.join(choices)}, not {value!r}.")
        for name, holds, range_ in (
            ("max_new_tokens", lambda value: value >= 1, "at least 1"),
            ("num_beams", lambda value: value >= 1, "at least 1"),
            ("temperature", lambda value: value > 0, "over 0"),
            ("top_p", lambda value: 0 < value <= 1, "over 0 and at most 1"),
            ("seed", lambda value: value >= 0, "at least 0"),
            ("repetition_penalty", lambda value: value > 0, "over 0"),
            ("no_repeat_ngram_size", lambda value: value >= 0, "at least 0"),
            ("threshold", lambda value: 0 <= value <= 1, "between 0 and 1"),
        ):
            value = getattr(self, name)
            if value is not None and not holds(value):
                raise OptionsError(f"`{name}` must be {range_}, not {value}.")
        if self.mode == "extractive":
            for name in _WRITING:
                if getattr(self, name) not in (None, False):
                    raise OptionsError(
                        f"`{name}` is for summaries that are written; pass `mode` write, or leave it out."
                    )
            if self.select == "vrp":
                raise OptionsError("`select` vrp needs a trained model; `mode` extractive loads none.")
        if not self.do_sample:
            for name in _SAMPLING:
                if getattr(self, name) is not None:
                    raise OptionsError(f"`{name}` is for sampling; add `do_sample`, or leave it out.")
        if self.threshold is not None and self.select not in (None, "vrp"):
            raise OptionsError(
                f"`threshold` is a probability of the model's own predictor, `select` vrp; {self.select} has none."
            )

    def filled(self, *, trained: bool, ranks: bool) -> "SummaryOptions":
        """
        These options with the defaults of a model in the place of `None`.

        Args:
            trained (`bool`): Whether the model is a trained SPeCTrA-Sum.
            ranks (`bool`): Whether its relevance predictor was trained.

        Raises:
            OptionsError: The model cannot do what is asked for.
        """
        if self.select == "vrp" and not ranks:
            raise OptionsError(
                "`select` vrp needs a model whose relevance predictor was trained, and this one's was not; use dpp-map, mmr "
                "or relevance."
            )
        select = self.select or ("vrp" if ranks else "dpp-map")
        if self.threshold is not None and select != "vrp":
            raise OptionsError(
                "`threshold` is a probability of a trained relevance predictor, and this model has none; leave it out."
            )
        values: dict[str, Any] = {"select": select}
        if self.max_new_tokens is None:
            own = trained and self.length is None
            values["max_new_tokens"] = TRAINED_NEW_TOKENS if own else LENGTHS[self.length or "medium"]
        if self.mode == "write":
            values["num_beams"] = self.num_beams or 1
            if self.do_sample:
                values["seed"] = self.seed or 0
            if self.long is None:
                values["long"] = "cut" if trained else "select"
            if not trained:
                values["captions"] = self.captions or "prompt"
                if self.repetition_penalty is None:
                    values["repetition_penalty"] = REPETITION_PENALTY
                if self.no_repeat_ngram_size is None:
                    values["no_repeat_ngram_size"] = NO_REPEAT_NGRAM_SIZE
        return replace(self, **values)

    @property
    def extract_words(self) -> int:
        """Words of an extract, of filled options: three for four tokens."""
        return max(1, round(WORDS_PER_TOKEN * self.max_new_tokens))

    def to_dict(self) -> dict[str, Any]:
        """The options that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}
