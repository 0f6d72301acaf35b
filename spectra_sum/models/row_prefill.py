"""The prompts of a batch, each read by itself: on a CPU, padding costs as much as text."""

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


def prefill_rows(language_model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> DynamicCache | None:
    """
    The keys and values of left-padded prompts but for their last token, from which `generate` goes on: the decoder runs over
    each prompt without its padding, whose keys and values are zeros behind the mask.

    Args:
        language_model (`PreTrainedModel`): A causal language model.
        input_ids (`torch.LongTensor` of shape `(B, P)`): The prompts.
        attention_mask (`torch.Tensor` of shape `(B, P)`): 1 for their tokens.

    Returns:
        `DynamicCache`: Of P - 1 positions. `None` where there is nothing to gain, as without padding and on a GPU, which reads
        the rows at once, and where the model keeps anything but plain keys and values (sliding windows, states).
    """
    lengths = attention_mask.sum(1).tolist()
    width = input_ids.shape[1]
    left_padded = torch.equal(attention_mask.sort(dim=1).values, attention_mask)
    # A prompt of one token leaves nothing to read before it.
    if input_ids.device.type != "cpu" or min(lengths) in (0, 1, width) or not left_padded:
        return None
    if not _has_plain_cache(language_model):
        return None
    rows = [_cache_of(language_model, input_ids[row, width - length : -1]) for row, length in enumerate(lengths)]
    merged = DynamicCache(config=language_model.config)
    for layer in range(len(rows[0])):
        pairs = [(row.layers[layer].keys, row.layers[layer].values) for row in rows]
        merged.update(*(_right_aligned(states, width - 1) for states in zip(*pairs, strict=True)), layer)
        # Both copies of all layers would be twice the memory.
        for row in rows:
            row.layers[layer] = None
    return merged


def _has_plain_cache(language_model: PreTrainedModel) -> bool:
    if language_model._is_stateful or not language_model._supports_default_dynamic_cache():
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=language_model.config).layers)


def _cache_of(language_model: PreTrainedModel, tokens: Tensor) -> DynamicCache:
    cache = DynamicCache(config=language_model.config)
    language_model.base_model(input_ids=tokens[None], past_key_values=cache, use_cache=True)
    return cache


def _right_aligned(states: tuple[Tensor, ...], width: int) -> Tensor:
    """Keys or values (1, H, T, D) of rows of unlike T as (B, H, width, D)."""
    first = states[0]
    merged = first.new_zeros(len(states), first.shape[1], width, first.shape[3])
    for row, own in enumerate(states):
        merged[row, :, width - own.shape[2] :] = own[0]
    return merged
