"""Summaries that are streamed while they are generated, and rows that are stopped."""

import pytest
import torch
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from modeling_spectra.summarization import generate_summaries, prepare_articles
from tests import tiny


class Collected(BaseStreamer):
    def __init__(self):
        self.values, self.ended = [], False

    def put(self, value):
        self.values.append(value)

    def end(self):
        self.ended = True


class StopsFirst(StoppingCriteria):
    """Row 0 after two tokens."""

    def __init__(self, prompt_length):
        self.length = prompt_length + 2

    def __call__(self, input_ids, scores, **kwargs):
        return torch.tensor([input_ids.shape[1] >= self.length, False])


@pytest.fixture(scope="module")
def model_and_inputs():
    model, processor = tiny.tiny_model(gate=0.8), tiny.tiny_processor()
    inputs, _ = prepare_articles(model, processor, tiny.SENTENCES[:2], ["One", ""], [[], []], 8)
    return model, processor.tokenizer, inputs


def test_a_streamer_is_put_the_prompts_and_then_each_step(model_and_inputs):
    model, tokenizer, inputs = model_and_inputs
    streamer = Collected()
    got = generate_summaries(model, tokenizer, inputs, 8, streamer=streamer)
    plain = generate_summaries(model, tokenizer, inputs, 8)
    prompts, *steps = streamer.values
    assert torch.equal(prompts, inputs["input_ids"]) and streamer.ended
    written = torch.stack(steps, dim=1)
    for row, summary, expected in zip(written, got, plain, strict=True):
        assert summary.text == expected.text and torch.equal(row[: len(expected.tokens)], expected.tokens)


def test_a_row_that_is_stopped_has_no_end_and_the_other_goes_on(model_and_inputs):
    model, tokenizer, inputs = model_and_inputs
    criteria = StoppingCriteriaList([StopsFirst(inputs["input_ids"].shape[1])])
    first, second = generate_summaries(model, tokenizer, inputs, 8, stopping_criteria=criteria)
    plain = generate_summaries(model, tokenizer, inputs, 8)
    assert not first.ended and len(plain[0].tokens) > 2
    assert torch.equal(first.tokens[:2], plain[0].tokens[:2]) and set(first.tokens[2:].tolist()) <= {0}
    assert second.text == plain[1].text


def test_beams_have_no_streamer(model_and_inputs):
    model, tokenizer, inputs = model_and_inputs
    streamer = Collected()
    with pytest.raises(ValueError, match="^a streamer needs num_beams 1, not 2: no beam is the summary"):
        generate_summaries(model, tokenizer, inputs, 8, 2, streamer=streamer)
    assert streamer.values == []
