"""Assisted generation: the tokens of plain greedy decoding in fewer passes, whoever proposes them."""

import pytest
import torch

from tests.modeling_spectra.parity_setup import bare_text_model, prompts
from tests.tiny import pixels, tiny_model

OPTIONS = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def assistants(model):
    """What proposes tokens: another text model, the model's own text model, another model of ours, itself in part."""
    return {
        "stranger": {"assistant_model": tiny_model("sampler", seed=5).language_model},
        "text model": {"assistant_model": bare_text_model(model)},
        "summarizer": {"assistant_model": tiny_model("dvp", gate=0.9, seed=5)},
        "early exit": {"assistant_early_exit": 2},
        "whole early exit": {"assistant_early_exit": 4},
        "prompt lookup": {"prompt_lookup_num_tokens": 3},
    }


def inputs_of(model, count):
    inputs = prompts(model, (count,), length=9)
    # The prompt repeats itself, so that there is something to look up.
    inputs["input_ids"] = torch.cat([inputs["input_ids"], inputs["input_ids"][:, -8:]], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if count:
        inputs["pixel_values"] = pixels(count)[0]
    return inputs


@torch.no_grad()
@pytest.mark.parametrize("kind", ["stranger", "text model", "summarizer", "early exit", "prompt lookup"])
@pytest.mark.parametrize("fusion", ["concat", "sampler", "dvp"])
def test_assisted_generation_gives_the_tokens_of_plain_greedy_decoding(fusion, kind):
    model = tiny_model(fusion, gate=0.9)
    for count in (2, 5):
        inputs = inputs_of(model, count)
        expected = model.generate(**inputs, **OPTIONS)
        text_only = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        assert not torch.equal(expected, model.generate(**text_only, **OPTIONS)), "the images of this test must matter"
        assert torch.equal(model.generate(**inputs, **OPTIONS, **assistants(model)[kind]), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["text model", "whole early exit"])
def test_an_assistant_that_is_right_saves_passes(kind):
    """Closed gates leave the text model: all that it proposes is accepted, and each pass adds at least two tokens."""
    model = tiny_model("dvp", gate=0.0)
    inputs, passes = inputs_of(model, 2), []
    expected = model.generate(**inputs, **OPTIONS)
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    assistant = assistants(model)[kind]
    assert torch.equal(model.generate(**inputs, **OPTIONS, **assistant, num_assistant_tokens=5), expected)
    assert len(passes) <= OPTIONS["max_new_tokens"] / 2
    assert model.config.text_config.num_hidden_layers == 4


@torch.no_grad()
def test_a_proposed_placeholder_is_not_taken_for_an_image():
    """An assistant that would always say <image>, in front of a prompt that holds as many as its images need."""
    model = tiny_model("concat")
    assistant = bare_text_model(model)
    assistant.lm_head = torch.nn.Linear(32, 400)
    torch.nn.init.zeros_(assistant.lm_head.weight)
    assistant.lm_head.bias.copy_(torch.arange(400) == model.config.image_token_id)
    inputs = inputs_of(model, 2)
    expected = model.generate(**inputs, **OPTIONS)
    assert torch.equal(model.generate(**inputs, **OPTIONS, assistant_model=assistant), expected)
