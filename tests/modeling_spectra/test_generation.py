"""Generation with a cache, in batches, with beams and in several calls against uncached runs of each article."""

import pytest
import torch
from transformers import DynamicCache

from tests.double_precision import EXACT
from tests.modeling_spectra.parity_setup import PLACEHOLDER, alone, bare_text_model, positions, prompts
from tests.tiny import pixels, tiny_model, tokens

BACKBONES = [("siglip", "qwen2"), ("clip", "llama")]
pytestmark = pytest.mark.usefixtures("float64")


def uncached_greedy(model, steps, **inputs):
    """Greedy decoding of one article by whole forward passes."""
    input_ids = inputs.pop("input_ids")
    for _ in range(steps):
        logits = model(input_ids=input_ids, use_cache=False, **inputs).logits[:, -1]
        input_ids = torch.cat([input_ids, logits.argmax(-1, keepdim=True)], dim=1)
    return input_ids


@torch.no_grad()
@pytest.mark.parametrize("context", ["none", "article"])
@pytest.mark.parametrize(("vision", "text"), BACKBONES)
@pytest.mark.parametrize("fusion", ["concat", "sampler", "dvp"])
def test_greedy_generation_of_a_batch_equals_uncached_runs_of_each_article(fusion, vision, text, context):
    model = tiny_model(fusion, vision, text, gate=0.9, vrp_context=context)
    counts = (0, 1, 5)
    inputs = prompts(model, counts)
    values, mask = pixels(*counts)
    images = {"pixel_values": values, "image_mask": mask}
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    cached = model.generate(**inputs, **images, **options)
    assert torch.equal(cached, model.generate(**inputs, **images, **options, use_cache=False))
    width = inputs["input_ids"].shape[1]
    for row, count in enumerate(counts):
        single = alone(inputs, values, row, count)
        if context == "article":
            # A growing text would change the mean of the article's embeddings; the article itself is the prompt.
            single["article_mask"] = torch.ones_like(single["input_ids"], dtype=torch.bool)
            if fusion == "concat":
                single["article_mask"] &= single["input_ids"] != PLACEHOLDER
        expected = uncached_greedy(model, 5, **single)
        assert cached[row, width:].tolist() == expected[0, -5:].tolist()


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["concat", "sampler", "dvp"])
@pytest.mark.parametrize("beams", [1, 3])
def test_sampling_and_beams_with_cache_equal_those_without(fusion, beams):
    model = tiny_model(fusion, gate=0.9)
    counts = (0, 1, 3)
    inputs = prompts(model, counts)
    values, mask = pixels(*counts)
    options = {"max_new_tokens": 6, "num_beams": beams, "do_sample": beams == 1, "pad_token_id": 0}
    results = []
    for use_cache in (True, False):
        torch.manual_seed(7)
        results.append(
            model.generate(
                **inputs,
                pixel_values=values,
                image_mask=mask,
                use_cache=use_cache,
                num_return_sequences=beams,
                **options,
            )
        )
    assert torch.equal(*results)
    text_only = model.generate(**inputs, **options) if fusion != "concat" else None
    assert text_only is None or not torch.equal(results[0][-1], text_only[-1]), "the images of this test must matter"


@torch.no_grad()
def test_beams_of_a_batch_equal_beams_of_each_article():
    model = tiny_model("dvp", gate=0.9)
    counts = (0, 2, 1)
    inputs = prompts(model, counts)
    values, mask = pixels(*counts)
    options = {"max_new_tokens": 5, "num_beams": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    batch = model.generate(**inputs, pixel_values=values, image_mask=mask, **options)
    for row, count in enumerate(counts):
        single = model.generate(**alone(inputs, values, row, count), **options)
        assert batch[row, -5:].tolist() == single[0, -5:].tolist()


@torch.no_grad()
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("fusion", ["concat", "sampler", "dvp"])
def test_images_are_encoded_once_per_article_whatever_the_beams(fusion, use_cache):
    model = tiny_model(fusion, gate=0.9)
    counts = (2, 0, 3)
    inputs = prompts(model, counts)
    values, mask = pixels(*counts)
    calls = []

    def count(name):
        return lambda module, args: calls.append((name, args[0].shape[0]))

    path = model.visual_path
    watched = {"tower": model.vision_tower, "projector": path.projector, "sampler": path.sampler}
    watched |= {"processor": path.deep_visual_processor, "predictor": path.relevance_predictor}
    for layer, module in (path.cross_attentions or {}).items():
        watched |= {f"keys {layer}": module.attention.k_proj, f"values {layer}": module.attention.v_proj}
    for name, module in watched.items():
        if module is not None:
            module.register_forward_pre_hook(count(name))
    model.generate(
        **inputs,
        pixel_values=values,
        image_mask=mask,
        num_beams=3,
        max_new_tokens=4,
        use_cache=use_cache,
        pad_token_id=0,
    )
    expected = [("tower", 5), ("predictor", 3)]
    if fusion == "concat":
        expected += [("projector", 3)]
    else:
        expected += [("sampler", 9)] + [(f"{kind} {layer}", 3) for layer in (1, 3) for kind in ("keys", "values")]
    if fusion == "dvp":
        expected += [("processor", 3)]
    assert sorted(calls) == sorted(expected)


@torch.no_grad()
@pytest.mark.parametrize("with_images", ["pixel_values", "visual_key_values", None])
@pytest.mark.parametrize("fusion", ["sampler", "dvp"])
def test_continuing_from_a_cache(fusion, with_images):
    """With the images the same as one uncached pass; with neither, the later tokens are those of a text-only article."""
    model = tiny_model(fusion, gate=0.9)
    counts = (0, 1, 3)
    inputs = prompts(model, counts)
    images = dict(zip(("pixel_values", "image_mask"), pixels(*counts), strict=True))
    first = model(**inputs, **images, use_cache=True)
    more = tokens(3, 4, seed=9)
    later = {
        "pixel_values": images,
        "visual_key_values": {"visual_key_values": first.visual_key_values},
        None: {},
    }[with_images]
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(more)], dim=1)
    whole_ids = torch.cat([inputs["input_ids"], more], dim=1)
    whole = model(input_ids=whole_ids, attention_mask=mask, use_cache=False, **images).logits[:, -4:]
    if with_images is None:
        # An independent text-only continuation: the bare text model on top of the same cache.
        cache = model(**inputs, **images, use_cache=True).past_key_values
        options = {"attention_mask": mask, "position_ids": positions(mask)[:, -4:], "past_key_values": cache}
        expected = bare_text_model(model)(input_ids=more, **options).logits
        assert ((whole - expected).abs().amax((1, 2)) > 0.1).tolist() == [False, True, True]
    else:
        expected = whole
    cache = first.past_key_values
    together = model(input_ids=more, attention_mask=mask, past_key_values=cache, **later).logits
    torch.testing.assert_close(together, expected, **EXACT)


@torch.no_grad()
def test_continuing_step_by_step_equals_one_pass():
    model = tiny_model("dvp", gate=0.9)
    values, _ = pixels(2)
    input_ids = tokens(1, 9)
    whole = model(input_ids=input_ids, pixel_values=values, use_cache=False).logits
    cache, key_values, steps = DynamicCache(config=model.config.text_config), None, []
    for position in range(9):
        output = model(
            input_ids=input_ids[:, position : position + 1],
            past_key_values=cache,
            use_cache=True,
            **({"visual_key_values": key_values} if key_values else {"pixel_values": values}),
        )
        key_values = output.visual_key_values
        steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("later", ["pixel_values", "visual_key_values"])
def test_generation_that_continues_from_a_cache_equals_one_without(later, beams):
    model = tiny_model("dvp", gate=0.9)
    values, mask = pixels(3, 1)
    images = {"pixel_values": values, "image_mask": mask}
    input_ids = tokens(2, 7)
    first = model(input_ids=input_ids, **images, use_cache=True)
    again = images if later == "pixel_values" else {"visual_key_values": first.visual_key_values}
    longer = torch.cat([input_ids, tokens(2, 3, seed=9)], dim=1)
    options = {"max_new_tokens": 5, "num_beams": beams, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expected = model.generate(input_ids=longer, **images, **options, use_cache=False)
    cache = first.past_key_values
    if beams > 1:
        cache.batch_repeat_interleave(beams)
    assert torch.equal(model.generate(input_ids=longer, past_key_values=cache, **again, **options), expected)


@torch.no_grad()
@pytest.mark.parametrize("context", ["none", "article"])
def test_generation_from_input_embeddings_equals_generation_from_ids(context):
    model = tiny_model("dvp", gate=0.9, vrp_context=context)
    values, mask = pixels(3, 1)
    input_ids = tokens(2, 7)
    options = {"max_new_tokens": 5, "num_beams": 2, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    embeds = model.get_input_embeddings()(input_ids)
    images = {"pixel_values": values, "image_mask": mask}
    generated = model.generate(inputs_embeds=embeds, **images, **options)
    assert torch.equal(generated, model.generate(input_ids=input_ids, **images, **options)[:, 7:])
