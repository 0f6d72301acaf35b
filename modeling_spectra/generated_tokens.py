"""Rules against repetition that leave the article alone: a summary may say what its article says."""

import torch
from transformers import LogitsProcessor, LogitsProcessorList, NoRepeatNGramLogitsProcessor
from transformers.generation import RepetitionPenaltyLogitsProcessor


class GeneratedTokensProcessor(LogitsProcessor):
    """
    A logits processor that sees the generated tokens alone. transformers' own rules also count the prompt's: with
    `no_repeat_ngram_size` a summary could not take a phrase from its article.

    Args:
        processor (`LogitsProcessor`): The rule.
        prompt_length (`int`): Width of the prompts, padding included.
    """

    def __init__(self, processor: LogitsProcessor, prompt_length: int):
        self.processor = processor
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        return self.processor(input_ids[:, self.prompt_length :], scores)


def repetition_rules(
    prompt_length: int, repetition_penalty: float | None = None, no_repeat_ngram_size: int | None = None
) -> LogitsProcessorList:
    """
    Rules for `generate(logits_processor=…)` on prompts of `prompt_length` tokens.

    Args:
        repetition_penalty (`float`, *optional*): Over 0; 1 is none.
        no_repeat_ngram_size (`int`, *optional*): Tokens of a phrase that may stand once; 0 is no rule.
    """
    rules: list[LogitsProcessor] = []
    if repetition_penalty not in (None, 1):
        rules.append(RepetitionPenaltyLogitsProcessor(float(repetition_penalty)))
    if no_repeat_ngram_size:
        rules.append(NoRepeatNGramLogitsProcessor(no_repeat_ngram_size))
    return LogitsProcessorList(GeneratedTokensProcessor(rule, prompt_length) for rule in rules)


__all__ = ["GeneratedTokensProcessor", "repetition_rules"]
