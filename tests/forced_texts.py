"""Lets a tiny model write given texts, token by token, through the real `generate`."""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase


class ForcedTexts(LogitsProcessor):
    """Row i writes the tokens of text i, and then the end token. A text that is over goes on at its end."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], prompt_length: int):
        self.tokens = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self.prompt_length
        forced = torch.full_like(scores, -1e4)
        beams = len(input_ids) // len(self.tokens)
        for index in range(len(input_ids)):
            tokens = self.tokens[index // beams]
            forced[index, tokens[min(step, len(tokens) - 1)]] = 0.0
        return forced


def force_texts(monkeypatch, tokenizer: PreTrainedTokenizerBase, *batches: Sequence[str]) -> None:
    """The texts of each batch that is generated from now on, and those of the last one again and again."""
    waiting = list(batches)

    def rules(prompt_length, *_):
        texts = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return LogitsProcessorList([ForcedTexts(tokenizer, texts, prompt_length)])

    monkeypatch.setattr("modeling_spectra.summarization.repetition_rules", rules)
