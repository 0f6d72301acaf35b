"""One suite for every fusion: the base model at the start, masks, mixed batches, caches, kernels, training, saving, adapters."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from modeling_spectra import SpectraSumForConditionalGeneration
from spectra_sum.models.quantization import nf4_config, quantize_linear_layers
from tests.double_precision import EXACT
from tests.modeling_spectra.compiled_decoding import compiled, counting_backend
from tests.modeling_spectra.fusion_cases import CASES, INSIDE, case_model, open_zeros
from tests.modeling_spectra.parity_setup import alone, bare_text_model, positions, prompts
from tests.tiny import pixels

COUNTS = (0, 1, 3)
# Tokens that the greedy search adds; no end of text ends it.
NEW_TOKENS = 3
OPTIONS = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None}
pytestmark = pytest.mark.usefixtures("float64")
every_case = pytest.mark.parametrize("case", CASES)
inside_the_language_model = pytest.mark.parametrize("case", INSIDE)


def batch(model, counts=COUNTS):
    values, mask = pixels(*counts)
    return prompts(model, counts) | {"pixel_values": values, "image_mask": mask}


def training_batch(model):
    inputs = batch(model, (3, 2))
    return inputs | {"labels": torch.where(inputs["attention_mask"].bool(), inputs["input_ids"], -100)}


def real_logits(model, inputs):
    return model(**inputs).logits[inputs["attention_mask"].bool()]


@inside_the_language_model
@torch.no_grad()
def test_a_new_model_has_the_base_models_logits_bit_for_bit(case):
    model = case_model(case, opened=False)
    inputs = batch(model)
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    expected = bare_text_model(model)(**text, position_ids=positions(text["attention_mask"])).logits
    assert torch.equal(model(**inputs).logits, expected)


@every_case
@torch.no_grad()
def test_a_mixed_batch_equals_each_article_alone_and_a_text_only_one_its_base(case):
    model = case_model(case)
    inputs = batch(model)
    logits = model(**inputs).logits
    base = bare_text_model(model)
    for row, count in enumerate(COUNTS):
        single = alone(inputs, inputs["pixel_values"], row, count)
        real = inputs["attention_mask"][row].bool()
        torch.testing.assert_close(logits[row, real], model(**single).logits[0], **EXACT)
        text = base(single["input_ids"]).logits[0]
        if count:
            assert (model(**single).logits[0] - text).abs().max() > 0.1, "the images of this test must matter"
        else:
            torch.testing.assert_close(logits[row, real], text, **EXACT)
    noise = 100.0 * ~inputs["image_mask"][..., None, None, None]
    disturbed = model(**inputs | {"pixel_values": inputs["pixel_values"] + noise}).logits
    kept = inputs["attention_mask"].bool()
    assert torch.equal(disturbed[kept], logits[kept])


@every_case
@torch.no_grad()
def test_features_computed_before_give_the_same_logits(case):
    model = case_model(case)
    inputs = batch(model)
    expected = real_logits(model, inputs)
    patches, image_embeds = model.embed_images(inputs["pixel_values"], inputs["image_mask"])
    cached = {name: value for name, value in inputs.items() if name != "pixel_values"}
    torch.testing.assert_close(
        real_logits(model, cached | {"patches": patches, "image_embeds": image_embeds}), expected, **EXACT
    )


@every_case
@torch.no_grad()
def test_eager_equals_sdpa(case):
    inputs, logits = None, {}
    for attention in ("eager", "sdpa"):
        model = case_model(case, attention=attention)
        inputs = inputs or batch(model)
        logits[attention] = real_logits(model, inputs)
    torch.testing.assert_close(logits["eager"], logits["sdpa"], **EXACT)


@every_case
@torch.no_grad()
def test_cached_and_static_generation_equal_passes_over_the_whole_prompt(case):
    model = case_model(case)
    inputs = batch(model)
    grown = dict(inputs)
    for _ in range(NEW_TOKENS):
        following = model(**grown).logits[:, -1].argmax(dim=-1, keepdim=True)
        grown["input_ids"] = torch.cat([grown["input_ids"], following], dim=1)
        grown["attention_mask"] = torch.cat([grown["attention_mask"], torch.ones_like(following)], dim=1)
    assert torch.equal(model.generate(**inputs, **OPTIONS), grown["input_ids"])
    assert torch.equal(model.generate(**inputs, **OPTIONS, cache_implementation="static"), grown["input_ids"])
    beams = {"num_beams": 2, "num_return_sequences": 2}
    without_cache = model.generate(**inputs, **OPTIONS, **beams, use_cache=False)
    assert torch.equal(model.generate(**inputs, **OPTIONS, **beams), without_cache)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@every_case
def test_everything_learns_and_checkpointing_gives_the_same_gradients(case):
    model = case_model(case, vrp_dropout=0.0).train()
    model.vision_tower.requires_grad_(False)
    model.language_model.requires_grad_(False)
    model.visual_path.relevance_predictor.requires_grad_(False)
    model.visual_path.alignment_head.requires_grad_(False)
    inputs = training_batch(model)

    def gradients():
        model.zero_grad(set_to_none=True)
        model(**inputs).loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected = gradients()
    assert set(expected) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(gradient.any() for gradient in expected.values())
    for reentrant in (False, True):
        if reentrant and model.config.fusion == "modulation":
            with pytest.raises(ValueError, match="use_reentrant"):
                model.activation_checkpointing_enable({"use_reentrant": True})
            continue
        model.activation_checkpointing_enable({"use_reentrant": reentrant})
        again = gradients()
        assert set(again) == set(expected)
        for name, gradient in expected.items():
            tolerance = 1e-9 * gradient.abs().max().item()
            torch.testing.assert_close(again[name], gradient, atol=tolerance, rtol=0, msg=name)


# Loading computes rotary frequencies anew, in float32.
@pytest.mark.float32
@every_case
@torch.no_grad()
def test_a_saved_model_loads_whole(case, tmp_path):
    model = case_model(case)
    model.save_pretrained(tmp_path)
    loaded, report = SpectraSumForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    state = model.state_dict()
    assert set(loaded.state_dict()) == set(state)
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    inputs = batch(model)
    assert torch.equal(loaded.eval()(**inputs).logits, model(**inputs).logits)


@every_case
def test_lora_trains_its_own_copy_of_the_visual_path_and_merges(case, tmp_path):
    base = case_model(case)
    state, inputs = copy.deepcopy(base.state_dict()), training_batch(base)
    lora = LoraConfig(
        r=2, target_modules=r"language_model\..*\.(q_proj|up_proj)", modules_to_save=["visual_path"], lora_dropout=0.0
    )
    model = get_peft_model(base, lora).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        trained = model(**inputs).logits
        # What was there before plays no part any more.
        for parameter in base.visual_path.original_module.parameters():
            parameter.fill_(7.0)
        assert torch.equal(model(**inputs).logits, trained)
    model.save_pretrained(tmp_path)
    fresh = case_model(case, opened=False)
    fresh.load_state_dict(state)
    with torch.no_grad():
        before = fresh(**inputs).logits
        loaded = PeftModel.from_pretrained(fresh, tmp_path).eval()
        torch.testing.assert_close(loaded(**inputs).logits, trained, **EXACT)
        assert (trained - before).abs().max() > 1e-3
        torch.testing.assert_close(loaded.merge_and_unload()(**inputs).logits, trained, **EXACT)


@pytest.mark.float32
@every_case
@torch.no_grad()
def test_bfloat16_is_finite_and_near_float32(case):
    # The usual small weights: with large ones rounding errors of bfloat16 grow layer by layer.
    model = case_model(case, initializer_range=0.05)
    inputs = training_batch(model)
    expected = model(**inputs).loss
    model.cast_parameters(torch.bfloat16)
    output = model(**inputs)
    assert output.logits.dtype == torch.bfloat16 and output.logits.isfinite().all()
    torch.testing.assert_close(output.loss.float(), expected, atol=0.0, rtol=0.05)


@pytest.mark.float32
@every_case
def test_a_language_model_in_4_bits_takes_the_images_in_and_the_visual_path_learns(case):
    # bitsandbytes wants multiples of 64.
    model = case_model(case, opened=False, text_fields={"hidden_size": 64, "intermediate_size": 64}).train()
    model.requires_grad_(False)
    model.visual_path.requires_grad_(True)
    layers = model.language_model.get_decoder().layers
    quantize_linear_layers(layers, nf4_config(torch.float32), torch.device("cpu"))
    inputs = training_batch(model)
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    if case in INSIDE:
        expected = model(**text).logits
        assert torch.equal(model(**inputs).logits, expected)
    open_zeros(model)
    model(**inputs).loss.backward()
    heads = ("relevance_predictor", "alignment_head")
    for name, parameter in model.visual_path.named_parameters():
        if not name.startswith(heads):
            assert parameter.grad.any() and parameter.grad.isfinite().all(), name
    assert {type(layer.self_attn.q_proj).__name__ for layer in layers} == {"Linear4bit"}


# The gates themselves are compiled in `test_generation_speed.py`; adapters compute what modulation does.
@pytest.mark.parametrize("case", ["modulation", "parameter-free"])
@torch.no_grad()
def test_the_decode_step_compiles_as_one_graph(case):
    torch._dynamo.reset()
    model = case_model(case, text_fields={"num_hidden_layers": 2}, gate_layers=[1, 2])
    inputs = batch(model)
    backend, graphs = counting_backend()
    expected = model.generate(**inputs, **OPTIONS)
    assert torch.equal(model.generate(**inputs, **OPTIONS, **compiled(backend)), expected) and len(graphs) == 1
