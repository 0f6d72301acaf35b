"""Prompts of a batch that are read one by one: the keys and values of each alone, and the same summaries."""

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, Gemma2Config, Gemma2ForCausalLM, Qwen2ForCausalLM

from spectra_sum.models.causal import TextModel
from spectra_sum.models.loading import load_any
from spectra_sum.models.row_prefill import prefill_rows
from tests import tiny

LENGTHS = (9, 30, 2, 17)
WIDTH = max(LENGTHS)
LAYERS = {"vocab_size": tiny.VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def qwen2():
    torch.manual_seed(0)
    return Qwen2ForCausalLM(tiny.text_config()).double().eval()


def prompts(lengths=LENGTHS):
    width = max(lengths)
    ids = torch.randint(5, tiny.VOCABULARY, (len(lengths), width), generator=torch.Generator().manual_seed(1))
    mask = torch.stack([(torch.arange(width) >= width - length).long() for length in lengths])
    return ids * mask, mask


def text_model(language_model, tmp_path):
    language_model.save_pretrained(tmp_path)
    tiny.tiny_tokenizer().save_pretrained(tmp_path)
    loaded = load_any(str(tmp_path))
    assert isinstance(loaded.model, TextModel)
    return loaded.model.double()


def bloom():
    torch.manual_seed(0)
    return BloomForCausalLM(BloomConfig(**LAYERS, initializer_range=tiny.SPREAD)).double().eval()


@pytest.mark.parametrize("make", [qwen2, bloom])
def test_keys_and_values_are_those_of_each_prompt_alone(make):
    model = make()
    ids, mask = prompts()
    with torch.no_grad():
        cache = prefill_rows(model, ids, mask)
        assert cache.get_seq_length() == WIDTH - 1 and len(cache) == model.config.num_hidden_layers
        for row, length in enumerate(LENGTHS):
            alone = model(ids[row : row + 1, -length:-1], use_cache=True).past_key_values
            for merged, own in zip(cache.layers, alone.layers, strict=True):
                for states, expected in ((merged.keys, own.keys), (merged.values, own.values)):
                    assert torch.allclose(states[row, :, WIDTH - length :], expected[0], atol=1e-12)
                    assert not states[row, :, : WIDTH - length].any()


@pytest.mark.parametrize("make", [qwen2, bloom])
def test_generation_goes_on_as_from_each_prompt_alone(make, tmp_path):
    model = text_model(make(), tmp_path)
    ids, mask = prompts()
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    details = {"output_logits": True, "return_dict_in_generate": True}
    together = model.generate(input_ids=ids, attention_mask=mask, **settings, **details)
    for row, length in enumerate(LENGTHS):
        alone = model.language_model.generate(ids[row : row + 1, -length:], **settings, **details)
        assert torch.equal(together.sequences[row, WIDTH - length :], alone.sequences[0])
        # `generate` returns its logits in float32.
        for step, expected in zip(together.logits, alone.logits, strict=True):
            assert torch.allclose(step[row], expected[0], atol=2e-6)


def test_padding_is_not_read(tmp_path):
    model = text_model(qwen2(), tmp_path)
    ids, mask = prompts()
    read = []
    model.language_model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: read.append(inputs[0].numel())
    )
    model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=1, pad_token_id=0)
    assert sum(read) == sum(LENGTHS)


def test_beams_and_several_sequences_are_the_language_models_own(tmp_path):
    model = text_model(qwen2(), tmp_path)
    ids, mask = prompts()
    for settings in ({"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}):
        settings |= {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
        own = model.language_model.generate(ids, attention_mask=mask, **settings)
        assert torch.equal(model.generate(ids, attention_mask=mask, **settings), own)


def sliding():
    config = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8}
    return Gemma2ForCausalLM(Gemma2Config(**LAYERS, **config))


@pytest.mark.parametrize(
    ("make", "lengths", "padding"),
    [(qwen2, (9, 9), "left"), (qwen2, (9, 1), "left"), (qwen2, (9, 4), "right"), (sliding, (9, 4), "left")],
    ids=["of one length", "one token", "right-padded", "sliding window"],
)
def test_what_cannot_be_read_one_by_one_is_left_to_generate(make, lengths, padding):
    ids, mask = prompts(lengths)
    if padding == "right":
        ids, mask = ids.flip(1), mask.flip(1)
    assert prefill_rows(make(), ids, mask) is None
