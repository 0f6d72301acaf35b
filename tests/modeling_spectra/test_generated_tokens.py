"""Rules against repetition, against an enumeration of what they forbid; the prompt never counts."""

import pytest
import torch
from transformers import NoRepeatNGramLogitsProcessor

from modeling_spectra.generated_tokens import GeneratedTokensProcessor, repetition_rules
from modeling_spectra.summarization import generate_summaries, prepare_articles
from tests import tiny

BODIES = ["The harbour reopened on Monday after the storm had passed.", "Two bridges.", "Four million euros, he said."]
NEW_TOKENS = 16


def forbidden(generated, size):
    """The tokens that would complete an n-gram of `size` tokens which stands in `generated` already."""
    grams = {tuple(generated[start : start + size]) for start in range(len(generated) - size + 1)}
    tail = tuple(generated[len(generated) - size + 1 :]) if size > 1 else ()
    return {gram[-1] for gram in grams if gram[:-1] == tail and len(tail) == size - 1}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_row_forbids_the_phrases_that_it_generated_and_none_of_its_prompt(size):
    """As beams come: several rows per prompt, each with a history of its own; two prompts, the second one padded."""
    generator = torch.Generator().manual_seed(0)
    prompts = torch.tensor([[1, 2, 1, 2, 1], [0, 0, 3, 4, 3]]).repeat_interleave(3, dim=0)
    generated = torch.randint(1, 5, (6, 7), generator=generator)
    scores = torch.randn(6, 8, generator=generator)
    got = repetition_rules(5, no_repeat_ngram_size=size)(torch.cat([prompts, generated], dim=1), scores.clone())
    banned = [forbidden(row, size) for row in generated.tolist()]
    assert any(banned) and len(set(map(frozenset, banned))) > 1
    for row, tokens in enumerate(banned):
        for token in range(8):
            expected = -torch.inf if token in tokens else scores[row, token].item()
            assert got[row, token].item() == expected


def test_transformers_own_rule_forbids_phrases_of_the_prompt():
    """What the wrapper is for."""
    ids = torch.tensor([[1, 2, 3, 1, 2]])
    scores = torch.zeros(1, 5)
    assert NoRepeatNGramLogitsProcessor(3)(ids, scores)[0, 3] == -torch.inf
    assert torch.equal(GeneratedTokensProcessor(NoRepeatNGramLogitsProcessor(3), 3)(ids, scores), scores)


def test_the_penalty_is_of_generated_tokens():
    ids, scores = torch.tensor([[1, 2, 3, 3, 4]]), torch.tensor([[0.0, 1.0, 1.0, 1.0, -1.0]])
    got = repetition_rules(2, repetition_penalty=2.0)(ids, scores)
    assert got.tolist() == [[0.0, 1.0, 1.0, 0.5, -2.0]]


def test_without_a_rule_nothing_is_added():
    assert repetition_rules(3) == repetition_rules(3, 1.0, 0) == []


@pytest.fixture
def model_and_processor(float64):
    """A model that says few things again and again: the first tokens of its first article."""
    model, processor = tiny.tiny_model(gate=0.8), tiny.tiny_processor()
    head = model.get_output_embeddings().weight.data
    likely = articles(model, processor, BODIES[:1])["input_ids"][0, 1:6]
    head[likely] *= 40
    return model, processor


def articles(model, processor, bodies):
    inputs, _ = prepare_articles(model, processor, bodies, [""] * len(bodies), [[]] * len(bodies), NEW_TOKENS)
    return inputs


def searched(model, inputs, size, penalty):
    """Greedy search by whole forward passes, one token after another."""
    ids, generated = inputs["input_ids"], []
    for _ in range(NEW_TOKENS):
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        for token in set(generated):
            logits[token] = logits[token] * penalty if logits[token] < 0 else logits[token] / penalty
        logits[list(forbidden(generated, size))] = -torch.inf
        generated.append(int(logits.argmax()))
        if generated[-1] == 1:
            return generated[:-1]
        ids = torch.cat([ids, torch.tensor([[generated[-1]]])], dim=1)
    return generated


@pytest.mark.parametrize("size, penalty", [(2, 1.0), (1, 1.0), (3, 1.3)])
def test_greedy_search_of_a_padded_batch(model_and_processor, size, penalty):
    model, processor = model_and_processor
    inputs = articles(model, processor, BODIES)
    assert not inputs["attention_mask"].all()
    rules = {"no_repeat_ngram_size": size, "repetition_penalty": penalty}
    got = generate_summaries(model, processor.tokenizer, inputs, NEW_TOKENS, **rules)
    free = generate_summaries(model, processor.tokenizer, inputs, NEW_TOKENS)
    for body, summary in zip(BODIES, got, strict=True):
        assert summary.tokens.tolist() == searched(model, articles(model, processor, [body]), size, penalty)
    # The rules change something here.
    assert [summary.tokens.tolist() for summary in got] != [summary.tokens.tolist() for summary in free]


def test_beams_of_a_padded_batch(model_and_processor):
    model, processor = model_and_processor
    inputs = articles(model, processor, BODIES)
    beams = generate_summaries(model, processor.tokenizer, inputs, NEW_TOKENS, 3, no_repeat_ngram_size=2)
    free = generate_summaries(model, processor.tokenizer, inputs, NEW_TOKENS, 3)

    def repeats(tokens):
        pairs = list(zip(tokens, tokens[1:], strict=False))
        return len(pairs) > len(set(pairs))

    assert any(repeats(summary.tokens.tolist()) for summary in free)
    for body, summary in zip(BODIES, beams, strict=True):
        assert not repeats(summary.tokens.tolist())
        [alone] = generate_summaries(
            model, processor.tokenizer, articles(model, processor, [body]), NEW_TOKENS, 3, no_repeat_ngram_size=2
        )
        assert summary.text == alone.text


def test_a_model_keeps_its_own_settings_until_others_are_given(model_and_processor):
    model, processor = model_and_processor
    inputs = articles(model, processor, BODIES[:1])
    given = generate_summaries(model, processor.tokenizer, inputs, NEW_TOKENS, no_repeat_ngram_size=1)
    free = generate_summaries(model, processor.tokenizer, inputs, NEW_TOKENS)
    model.generation_config.no_repeat_ngram_size = 1
    own = generate_summaries(model, processor.tokenizer, inputs, NEW_TOKENS)
    # transformers' rule counts the prompt, ours does not; 0 is none.
    prompt = set(inputs["input_ids"][0].tolist())
    assert not prompt & set(own[0].tokens.tolist()) and prompt & set(given[0].tokens.tolist())
    none = generate_summaries(model, processor.tokenizer, inputs, NEW_TOKENS, no_repeat_ngram_size=0)
    assert none[0].text == free[0].text
