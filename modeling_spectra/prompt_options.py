"""How a batch of prompts is cut, padded and returned: transformers' own words, as far as an article's prompt allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any

from transformers.processing_utils import ImagesKwargs, TextKwargs
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy, TensorType

# §8: long inputs are cut to this many text tokens.
MAX_LENGTH = 2048

# Arguments that transformers' processors take and this one cannot, with the reason; these may be False or 0.
REFUSED_REQUESTS = {
    **dict.fromkeys(
        ("stride", "return_overflowing_tokens"),
        "only the end of the body is cut, and it makes no prompt of its own; split the article's text before",
    ),
    "is_split_into_words": "the text of an article is one string; join the words",
    **dict.fromkeys(
        (
            "return_length",
            "return_mm_token_type_ids",
            "return_offsets_mapping",
            "return_special_tokens_mask",
            "return_text_replacement_offsets",
            "return_token_type_ids",
        ),
        "the model does not read it; article_mask says where title and body are, attention_mask what is padding",
    ),
}
# These may only be None.
REFUSED_INPUTS = {
    **dict.fromkeys(("text_pair", "text_target", "text_pair_target"), "an article has text, title and summary"),
    **dict.fromkeys(
        ("images_kwargs", *sorted(set(ImagesKwargs.__annotations__) - set(TextKwargs.__annotations__))),
        "the vision tower was trained on the pixels of its own image processor; settings belong to "
        "processor.image_processor",
    ),
    **dict.fromkeys(("videos", "videos_kwargs", "audio", "audio_kwargs"), "an article has text and images only"),
}


@dataclass(frozen=True)
class PromptOptions:
    """The options of [`SpectraSumProcessor.__call__`], which documents them."""

    max_length: int | Sequence[int] | None = None
    padding: bool | str | PaddingStrategy | None = None
    truncation: bool | str | TruncationStrategy | None = None
    add_special_tokens: bool | None = None
    pad_to_multiple_of: int | None = None
    padding_side: str | None = None
    return_attention_mask: bool | None = None
    return_tensors: str | TensorType | None = "pt"

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> "PromptOptions":
        """Arguments of a call, also those in `text_kwargs` and `common_kwargs` → checked options.

        Raises:
            ValueError: for an option that an article's prompt cannot follow, with the reason.
            TypeError: for an unknown option.
        """
        given = {name: value for name, value in arguments.items() if name not in ("text_kwargs", "common_kwargs")}
        for group in ("text_kwargs", "common_kwargs"):
            for name, value in (arguments.get(group) or {}).items():
                if name in given:
                    raise ValueError(f"{name} is given twice, once in {group}; give it once.")
                given[name] = value
        for name, reason in {**REFUSED_REQUESTS, **REFUSED_INPUTS}.items():
            asked = given.get(name) if name in REFUSED_REQUESTS else given.get(name) is not None
            if asked:
                raise ValueError(f"{name} is not possible: {reason}.")
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(given) - known - set(REFUSED_REQUESTS) - set(REFUSED_INPUTS))
        if unknown:
            raise TypeError(f"unexpected arguments {unknown}.")
        return cls(**{name: value for name, value in given.items() if name in known})._checked()

    def _checked(self) -> "PromptOptions":
        for name, kind in (("padding", PaddingStrategy), ("truncation", TruncationStrategy)):
            value = getattr(self, name)
            if not isinstance(value, bool | None) and value not in list(kind):
                raise ValueError(
                    f"{name} must be True, False or one of {[each.value for each in kind]}, not {value!r}."
                )
        if self.truncation == TruncationStrategy.ONLY_SECOND:
            raise ValueError(
                "truncation='only_second' is not possible: a prompt has one text that may be cut, the article's body; "
                "use truncation=True."
            )
        if self.return_tensors is not None and self.return_tensors not in (TensorType.PYTORCH, TensorType.NUMPY):
            raise ValueError(f"return_tensors must be 'pt', 'np' or None, not {self.return_tensors!r}.")
        if self.return_attention_mask is False:
            raise ValueError("return_attention_mask=False is not possible: it alone says what is padding in a batch.")
        limits = [self.max_length] if isinstance(self.max_length, Integral | None) else self.max_length
        if isinstance(limits, str) or not isinstance(limits, Sequence):
            raise ValueError(f"max_length must be a whole number or a list of them, not {self.max_length!r}.")
        multiple = self.pad_to_multiple_of
        for name, value in (*(("max_length", limit) for limit in limits), ("pad_to_multiple_of", multiple)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
                raise ValueError(f"{name} must be a whole number from 1, not {value!r}.")
        if multiple is not None and self.padding_strategy == PaddingStrategy.DO_NOT_PAD:
            raise ValueError("pad_to_multiple_of needs padding; pass padding=True, too.")
        return self

    @property
    def padding_strategy(self) -> PaddingStrategy:
        if isinstance(self.padding, bool):
            return PaddingStrategy.LONGEST if self.padding else PaddingStrategy.DO_NOT_PAD
        return PaddingStrategy.LONGEST if self.padding is None else PaddingStrategy(self.padding)

    @property
    def cuts(self) -> bool:
        """Whether bodies are cut to `max_length`."""
        return self.truncation not in (False, TruncationStrategy.DO_NOT_TRUNCATE)

    def limits(self, count: int) -> list[int]:
        """`max_length` of each of `count` articles."""
        if isinstance(self.max_length, Integral | None):
            return [int(self.max_length or MAX_LENGTH)] * count
        if len(self.max_length) != count:
            raise ValueError(f"max_length must be a list with one entry per article ({count}).")
        return list(self.max_length)

    def check_padding_side(self, side: str) -> None:
        """Raise a ValueError when another side than the one that a batch needs is asked for."""
        if self.padding_side not in (None, side):
            reason = {
                "left": "generation goes on at the end of each row, and would go on after the padding",
                "right": "prompts with a summary are for training, where positions are counted from a row's start",
            }[side]
            raise ValueError(f"padding_side={self.padding_side!r} is not possible: {reason}; leave it out.")

    def widths(self, sizes: Sequence[int], most: int) -> list[int]:
        """The padded length of each row of `sizes` tokens, `most` being the length for `padding="max_length"`.

        Raises:
            ValueError: for rows longer than `most`, and for rows of different lengths that tensors cannot hold.
        """
        strategy = self.padding_strategy
        if strategy == PaddingStrategy.DO_NOT_PAD:
            if self.return_tensors is not None and len(set(sizes)) > 1:
                raise ValueError(
                    f"without padding the rows have different lengths ({sorted(set(sizes))} tokens), which "
                    f"return_tensors={self.return_tensors!r} cannot hold: pass padding=True or return_tensors=None."
                )
            return list(sizes)
        width = max(sizes)
        if strategy == PaddingStrategy.MAX_LENGTH:
            if width > most:
                raise ValueError(
                    f"article {list(sizes).index(width)} has {width} tokens, and padding='max_length' pads to {most}: "
                    "raise max_length, or cut with truncation=True."
                )
            width = most
        multiple = self.pad_to_multiple_of or 1
        return [-(-width // multiple) * multiple] * len(sizes)


__all__ = ["MAX_LENGTH", "PromptOptions"]
