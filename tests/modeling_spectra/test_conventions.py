"""What every model of transformers does: labels, recorded attentions, attention by part, positions, dtypes by name."""

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from transformers import LlavaOnevisionForConditionalGeneration
from transformers.core_model_loading import build_glob_alternation
from transformers.integrations import sdpa_attention
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.utils import find_labels

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration
from modeling_spectra.modeling_spectra import SpectraSumPreTrainedModel
from tests.modeling_spectra.parity_setup import alone, prompts
from tests.tiny import (
    VOCABULARY,
    pixels,
    text_config,
    tiny_config,
    tiny_model,
    tokens,
    vision_config,
)
from tests.tiny_llava_onevision import save_llava_onevision_folder, save_siglip_folder
from trainer.objectives.losses import distillation_loss

FUSIONS = ["concat", "sampler", "dvp"]


def batch(model, counts=(2, 5, 0)):
    inputs = prompts(model, counts)
    inputs["pixel_values"], inputs["image_mask"] = pixels(*counts)
    return inputs


def labelled(model):
    inputs = batch(model)
    width = inputs["input_ids"].shape[1]
    return inputs, torch.where(torch.arange(width) < width - 4, -100, inputs["input_ids"])


# Labels


@torch.no_grad()
@pytest.mark.parametrize("items", [None, 7])
def test_shift_labels_give_the_loss_of_labels_shifted_by_hand(items):
    model = tiny_model("dvp", gate=0.9, vrp_context="article_set")
    inputs, labels = labelled(model)
    expected = model(**inputs, labels=labels, num_items_in_batch=items)
    shifted = torch.cat([labels[:, 1:], torch.full((3, 1), -100)], dim=1)
    found = model(**inputs, shift_labels=shifted, num_items_in_batch=items)
    for name in ("loss", "summary_embeds", "selection_logits", "alignment_temperature"):
        assert torch.equal(found[name], expected[name]), name
    by_transformers = ForCausalLMLoss(found.logits, None, VOCABULARY, num_items_in_batch=items, shift_labels=shifted)
    assert torch.equal(found.loss, by_transformers)


@torch.no_grad()
def test_shift_labels_take_the_place_of_labels_and_may_end_with_a_token():
    """As a part of a longer sequence has them: the last position's label is the first token of the next part."""
    model = tiny_model("dvp", gate=0.9)
    inputs, labels = labelled(model)
    shifted = tokens(*labels.shape, seed=11)
    output = model(**inputs, labels=labels, shift_labels=shifted)
    expected = F.cross_entropy(output.logits.flatten(0, 1), shifted.flatten())
    torch.testing.assert_close(output.loss, expected)
    assert torch.equal(output.summary_embeds, model(**inputs, labels=labels).summary_embeds)
    with pytest.raises(ValueError, match=r"shift_labels has the shape \(3, 2\) and the input \(3, \d+\)"):
        model(**inputs, shift_labels=shifted[:, -2:])
    # The Trainer evaluates batches that have every label of the signature.
    assert find_labels(SpectraSumForConditionalGeneration) == ["labels"]
    kept = model(**inputs, labels=labels, shift_labels=shifted, logits_to_keep=3)
    expected = F.cross_entropy(output.logits[:, -3:].flatten(0, 1), shifted[:, -3:].flatten())
    torch.testing.assert_close(kept.loss, expected)


# Recorded attentions


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attentions_are_recorded_as_llava_onevision_records_them(tmp_path, monkeypatch, attention):
    folder = save_llava_onevision_folder(tmp_path / "llava", save_siglip_folder(tmp_path / "siglip"))
    llava = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, attn_implementation=attention).eval()
    model = tiny_model("dvp", gate=0.7, attention=attention)
    input_ids, values = tokens(1, 6), pixels(2)[0]
    expected = model(input_ids=input_ids, pixel_values=values).logits
    found, warnings = [], []
    logger = sdpa_attention.logger
    for each, images in ((llava, {}), (model, {"pixel_values": values})):
        # Said once per process otherwise.
        logged = []
        monkeypatch.setattr(logger, "warning_once", logged.append)
        outputs = each(input_ids=input_ids, output_attentions=True, **images)
        generated = each.generate(
            input_ids, max_new_tokens=2, output_attentions=True, return_dict_in_generate=True, pad_token_id=0, **images
        )
        found.append(
            (
                [weights.shape for weights in outputs.attentions],
                [[w.shape for w in step] for step in generated.attentions],
            )
        )
        warnings.append(sorted(set(logged)))
    assert found[0] == found[1] and warnings[0] == warnings[1]
    assert len(outputs.attentions) == (4 if attention == "eager" else 0) and len(warnings[1]) == (attention == "sdpa")
    assert len(outputs.cross_attentions) == (2 if attention == "eager" else 0)
    torch.testing.assert_close(outputs.logits, expected)


def test_the_configuration_refuses_to_record_attentions_under_sdpa_as_transformers_does():
    for config in (tiny_config(), text_config()):
        config._attn_implementation = "sdpa"
        with pytest.raises(ValueError, match="set to sdpa. Please set it to 'eager'"):
            config.output_attentions = True
    model = tiny_model("dvp", gate=0.7, attention="eager")
    model.config.output_attentions = True
    output = model(input_ids=tokens(1, 5), pixel_values=pixels(2)[0])
    assert len(output.attentions) == 4 and len(output.cross_attentions) == 2


# Attention implementations


def implementations(model):
    """As each part's own configuration has them, found without the model's."""
    parts = {"text": model.language_model, "decoder": model.get_decoder(), "vision": model.vision_tower}
    if model.embedding_tower is not None:
        parts["embedding"] = model.embedding_tower
    parts["sampler"] = model.visual_path.sampler.blocks[0].self_attention
    return {name: part.config._attn_implementation for name, part in parts.items()}


def real_logits(model, inputs):
    return model(**inputs).logits[inputs["attention_mask"].bool()]


# Two orders of the same sums; eager attention has its softmax in float32 whatever the dtype. 200 epsilon of logits up to 10.
CLOSE = {"atol": 200 * torch.finfo(torch.float32).eps * 10, "rtol": 0}


def two_towers():
    torch.manual_seed(0)
    config = tiny_config("dvp", gate_init=0.9, embedding_vision_config=vision_config("clip"))
    return SpectraSumForConditionalGeneration(config).eval()


@torch.no_grad()
@pytest.mark.parametrize("vision", ["siglip", "clip", "two towers"])
def test_an_attention_implementation_reaches_every_part(vision):
    model = two_towers() if vision == "two towers" else tiny_model("dvp", vision, gate=0.9)
    inputs = batch(model)
    expected = real_logits(model, inputs)
    names = set(implementations(model))
    assert set(implementations(model).values()) == {"sdpa"}
    model.set_attn_implementation("eager")
    assert implementations(model) == dict.fromkeys(names, "eager")
    torch.testing.assert_close(real_logits(model, inputs), expected, **CLOSE)
    model.set_attn_implementation("sdpa")
    assert implementations(model) == dict.fromkeys(names, "sdpa")
    assert torch.equal(real_logits(model, inputs), expected)


@torch.no_grad()
def test_attention_implementations_by_part(tmp_path):
    model = two_towers()
    inputs = batch(model)
    expected = real_logits(model, inputs)
    sdpa = dict.fromkeys(implementations(model), "sdpa")
    for request, eager in (
        ({"text_config": "eager"}, {"text", "decoder"}),
        ({"vision_config": "eager"}, {"vision"}),
        ({"embedding_vision_config": "eager"}, {"embedding"}),
        ({"": "eager"}, {"sampler"}),
        ({"text_config": "eager", "": "eager"}, {"text", "decoder", "sampler"}),
    ):
        wanted = sdpa | dict.fromkeys(eager, "eager")
        model.set_attn_implementation(request)
        assert implementations(model) == wanted
        torch.testing.assert_close(real_logits(model, inputs), expected, **CLOSE)
        before = model.attn_implementations()
        model.set_attn_implementation("sdpa")
        assert implementations(model) == sdpa
        model.set_attn_implementation(before)
        assert implementations(model) == wanted
        model.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match=r"no parts \['language_model'\].*'text_config'"):
        model.set_attn_implementation({"language_model": "eager"})

    model.save_pretrained(tmp_path)
    load = SpectraSumForConditionalGeneration.from_pretrained
    loaded = load(tmp_path, attn_implementation={"text_config": "eager"})
    assert implementations(loaded) == sdpa | {"text": "eager", "decoder": "eager"}
    assert set(implementations(load(tmp_path, attn_implementation="eager")).values()) == {"eager"}


def test_a_ready_part_gets_the_implementation_that_is_set_for_it():
    """Its configuration is another object than the one that the whole was made with."""
    ready = tiny_model("dvp", attention="eager").language_model
    config = SpectraSumConfig(**{**tiny_config().to_dict(), "text_config": ready.config.to_dict()})
    model = SpectraSumForConditionalGeneration(config, language_model=ready)
    assert set(implementations(model).values()) <= {"sdpa", "eager"}
    model.set_attn_implementation({"text_config": "sdpa", "": "eager"})
    assert (ready.config._attn_implementation, implementations(model)["sampler"]) == ("sdpa", "eager")


# Entries that name modules


@pytest.mark.parametrize("gate_feed_forward", [False, True])
@pytest.mark.parametrize("visual_norm", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_entry_of_what_stays_in_float32_names_a_parameter(fusion, visual_norm, gate_feed_forward):
    model = tiny_model(fusion, visual_norm=visual_norm, gate_feed_forward=gate_feed_forward)
    names = [name for name, _ in model.named_parameters()]
    entries = model._keep_in_fp32_modules_strict
    for entry in entries:
        # transformers' own rule.
        pattern = build_glob_alternation([entry])[0]
        assert any(pattern.search(name) for name in names), entry
    whole = set(SpectraSumPreTrainedModel._keep_in_fp32_modules_strict)
    assert entries <= whole and (entries == whole) == (fusion != "concat")


# Positions


def positions_by_hand(attention_mask):
    return [[sum(row[:index]) for index in range(len(row)) if row[index]] for row in attention_mask.tolist()]


@torch.no_grad()
@pytest.mark.parametrize(
    ("attention", "dtype", "close"),
    # Eager attention has its softmax in float32, where the mask of a row without any token overflows in float64.
    [("sdpa", torch.float64, {"atol": 1e-9, "rtol": 0}), ("eager", torch.float32, CLOSE)],
)
@pytest.mark.parametrize("text", ["qwen2", "llama"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_left_padded_article_gets_the_positions_that_it_has_alone(fusion, text, attention, dtype, close):
    """With a cache, too: the prompt and then one more token."""
    model = tiny_model(fusion, text=text, gate=0.9, attention=attention).to(dtype)
    seen = []
    model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    counts = (0, 1, 3)
    inputs, (values, mask) = prompts(model, counts), pixels(*counts)
    values = values.to(dtype)
    first = model(**inputs, pixel_values=values, image_mask=mask, use_cache=True)
    real = inputs["attention_mask"].bool()
    assert [row[keep].tolist() for row, keep in zip(seen[-1], real, strict=True)] == positions_by_hand(real.int())
    longer = torch.cat([inputs["attention_mask"], torch.ones(3, 1, dtype=torch.long)], dim=1)
    more = tokens(3, 1, seed=9)
    second = model(
        more,
        attention_mask=longer,
        past_key_values=first.past_key_values,
        visual_key_values=first.visual_key_values,
    )
    assert seen[-1].tolist() == [[int(row.sum()) - 1] for row in longer]
    for row, count in enumerate(counts):
        single = alone(inputs, values, row, count)
        torch.testing.assert_close(first.logits[row, real[row]], model(**single).logits[0], **close)
        single["input_ids"] = torch.cat([single["input_ids"], more[row][None]], dim=1)
        torch.testing.assert_close(second.logits[row, -1], model(**single).logits[0, -1], **close)


@torch.no_grad()
def test_given_positions_are_taken():
    model = tiny_model("dvp", gate=0.9)
    input_ids = tokens(1, 5)
    given = torch.tensor([[0, 1, 5, 9, 20]])
    found = model(input_ids, attention_mask=torch.ones_like(input_ids), position_ids=given).logits
    assert torch.equal(found, model.language_model(input_ids, position_ids=given).logits)
    assert not torch.equal(found, model(input_ids).logits)


# Finite logits


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_selection_logits_of_padding_are_the_least_finite_value(dtype):
    model = tiny_model("dvp", gate=0.9)
    if dtype != torch.float32:
        model.to(dtype)
        assert model.visual_path.relevance_predictor.down_proj.weight.dtype == dtype
    inputs = batch(model)
    mask = inputs["image_mask"]
    logits = model(**inputs).selection_logits
    assert logits.dtype == dtype and logits.isfinite().all()
    assert (logits[~mask] == torch.finfo(dtype).min).all() and (logits[mask] > torch.finfo(dtype).min).all()
    assert (logits.sigmoid()[~mask] == 0).all()
    assert logits.softmax(-1).isfinite().all() and logits.log_softmax(-1).isfinite().all()
    targets = torch.full_like(logits, 0.5).masked_fill(~mask, 0.0)
    terms = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    assert terms.isfinite().all() and (terms[~mask] == 0).all()
    distill = distillation_loss(logits, targets.float(), mask, gamma=0.01)
    assert distill.isfinite().all() and distill[2] == 0
    assert [len(row) for row in model.select_images(**inputs).indices] == [2, 3, 0]


# The teacher's numbers


@pytest.mark.parametrize("kappa", [0.0, 0.5, -2.0])
def test_a_teacher_that_expects_less_than_one_image_is_refused(kappa):
    with pytest.raises(StrictDataclassError, match=rf"teacher_kappa is {kappa};.*set teacher_kappa to at least 1"):
        tiny_config(teacher_kappa=kappa)
    assert tiny_config(teacher_kappa=1.0).teacher_kappa == 1.0
    config = tiny_config()
    with pytest.raises(StrictDataclassError, match="teacher_kappa"):
        SpectraSumConfig(**{**config.to_dict(), "teacher_kappa": kappa})
