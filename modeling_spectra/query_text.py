"""The text that a Q-Former reads beside its queries (§9): the prompt's, in tokens of its own."""

import copy
import os
from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer

FOLDER = "qformer_tokenizer"
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "trust_remote_code")


class QueryTextMixin:
    """Keeps the Q-Former's tokenizer, and makes its inputs; in front of `ProcessorMixin` in [`SpectraSumProcessor`].

    transformers would ask every processor for it that knows its name: it is saved and loaded here, where there is one.
    """

    @classmethod
    def get_attributes(cls) -> list[str]:
        return [name for name in super().get_attributes() if name != FOLDER]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """As of every processor."""
        processor = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        if processor.qformer_text_length:
            given = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
            processor.qformer_tokenizer = AutoTokenizer.from_pretrained(
                pretrained_model_name_or_path, subfolder=FOLDER, **given
            )
        return processor

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """As of every processor."""
        if self.qformer_tokenizer is not None:
            # First: what follows may push the folder.
            self.qformer_tokenizer.save_pretrained(os.path.join(save_directory, FOLDER))
        return super().save_pretrained(save_directory, *args, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """As of every processor, without the tokenizer, which has files of its own."""
        plain = copy.copy(self)
        del plain.qformer_tokenizer
        return super(QueryTextMixin, plain).to_dict()

    def query_inputs(self, texts: Sequence[str], titles: Sequence[str] | None) -> dict[str, list[list[int]]]:
        """`qformer_input_ids` and `qformer_attention_mask` (B, S) of a batch: the user's message of each article, without images
        and captions, cut to `qformer_text_length`; nothing where no Q-Former reads text.

        Raises:
            ValueError: The Q-Former's tokenizer is missing.
        """
        if not self.qformer_text_length:
            return {}
        if self.qformer_tokenizer is None:
            raise ValueError("the Q-Former reads the prompt's text, too: give the processor a qformer_tokenizer.")
        head, _, rest = self.prompt_template.partition("{title}")
        middle, _, after = rest.partition("{body}")
        messages = [
            f"{head}{title}{middle}{text}{after}"
            for text, title in zip(texts, titles or [""] * len(texts), strict=True)
        ]
        encoded = self.qformer_tokenizer(
            messages, padding=True, truncation=True, max_length=self.qformer_text_length, padding_side="right"
        )
        return {
            "qformer_input_ids": encoded["input_ids"],
            "qformer_attention_mask": encoded["attention_mask"],
        }


__all__ = ["QueryTextMixin"]
