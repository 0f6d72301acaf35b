"""Gradients, checkpointing, PEFT, initialisation, tied weights, recorded states and declared flags."""

import copy
import math

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from modeling_spectra import SpectraSumForConditionalGeneration
from modeling_spectra.modeling_spectra import SpectraSumPreTrainedModel
from tests.double_precision import EXACT
from tests.modeling_spectra.fusion_cases import CASES, case_model
from tests.tiny import SPREAD, VOCABULARY, pixels, tiny_model, tokens

LORA = LoraConfig(
    r=4,
    target_modules=r"language_model\.model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj",
    modules_to_save=["visual_path"],
)
FUSIONS = ["concat", "sampler", "dvp"]
pytestmark = pytest.mark.usefixtures("float64")


def batch(model, counts=(3, 2), labels=True):
    """A training batch; articles with `counts` images, padded on the right."""
    text = tokens(len(counts), 9)
    per_image = model.config.num_image_tokens
    if per_image:
        visual = torch.full((len(counts), max(counts) * per_image), VOCABULARY - 1)
        for row, count in enumerate(counts):
            visual[row, count * per_image :] = 6
        text = torch.cat([visual, text], dim=1)
    values, mask = pixels(*counts)
    inputs = {"input_ids": text, "pixel_values": values, "image_mask": mask}
    if labels:
        inputs["labels"] = torch.where(torch.arange(text.shape[1]) < text.shape[1] - 4, -100, text)
    return inputs


def whole_loss(model, inputs):
    """A loss that everything trainable feeds: text, selection, alignment and its temperature."""
    output = model(**inputs)
    logits = output.selection_logits[inputs["image_mask"]]
    head = model.get_submodule("visual_path.alignment_head") if not isinstance(model, PeftModel) else None
    head = head or model.base_model.model.visual_path.alignment_head
    similarity = (output.summary_embeds * output.image_embeds[:, 0]).sum(-1)
    return output.loss + logits.pow(2).mean() + (similarity / head.temperature).mean()


def gradients(model, inputs):
    model.zero_grad(set_to_none=True)
    whole_loss(model, inputs).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(gradients, expected):
    """Equal up to the order in which the contributions to a tensor are summed."""
    assert set(gradients) == set(expected)
    for name, gradient in expected.items():
        tolerance = 1e-9 * gradient.abs().max().item()
        torch.testing.assert_close(gradients[name], gradient, atol=tolerance, rtol=0, msg=name)


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def with_gradient(model):
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


# The frozen tower is checkpointed too, which torch notes; there is nothing to propagate there.
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("frozen_text", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradient_checkpointing_gives_the_same_gradients(fusion, reentrant, frozen_text):
    layers = {} if fusion == "concat" else {"gate_layers": [2, 3]}
    model = tiny_model(fusion, gate=0.5, vrp_dropout=0.0, gate_feed_forward=True, **layers).train()
    model.vision_tower.requires_grad_(False)
    model.language_model.requires_grad_(not frozen_text)
    inputs = batch(model)
    expected = gradients(model, inputs)
    assert set(expected) == trainable(model)

    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    calls = []
    watched = [layer.attention.q_proj for layer in (model.visual_path.cross_attentions or {}).values()]
    watched += [model.language_model.model.layers[2].self_attn.q_proj]
    if fusion == "dvp":
        watched += [block.attention.q_proj for block in model.visual_path.deep_visual_processor.blocks]
    for module in watched:
        module.register_forward_pre_hook(lambda *_: calls.append(1))
    checkpointed = gradients(model, inputs)
    # Once in the forward pass and once again in the backward pass.
    assert len(calls) == 2 * {"concat": 1, "sampler": 3, "dvp": 6}[fusion]
    assert_same_gradients(checkpointed, expected)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("vision", ["siglip", "clip"])
def test_a_frozen_tower_leaves_no_graph_and_a_trainable_one_does(vision, checkpointing):
    model = tiny_model("dvp", vision, gate=0.5).train()
    if checkpointing:
        model.activation_checkpointing_enable()
    inputs = batch(model)
    model.vision_tower.requires_grad_(False)
    graphs = []
    handle = model.vision_tower.register_forward_hook(
        lambda module, args, output: graphs.append(any(t.requires_grad for t in output.hidden_states if t is not None))
    )
    output = model(**inputs)
    assert not output.image_embeds.requires_grad and output.loss.requires_grad
    model.vision_tower.requires_grad_(True)
    whole_loss(model, inputs).backward()
    handle.remove()
    assert graphs == [False, True]
    assert model.vision_tower.get_input_embeddings().weight.grad.abs().sum() > 0


@pytest.mark.parametrize("fusion", FUSIONS)
def test_at_closed_gates_only_the_gates_learn_first_and_everything_within_two_steps(fusion):
    model = tiny_model(fusion, gate=0.0, gate_feed_forward=True, vrp_context="article_set").train()
    model.vision_tower.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    inputs = batch(model, counts=(3, 2))
    whole_loss(model, inputs).backward()
    moving = with_gradient(model)
    behind = {
        n for n in trainable(model) if n.startswith(("visual_path.sampler", "visual_path.deep", "visual_path.cro"))
    }
    gates = {name for name in behind if name.endswith("gate.alpha")}
    assert len(gates) == (0 if fusion == "concat" else 4)
    assert moving & behind == gates
    assert moving == trainable(model) - (behind - gates)
    optimizer.step()
    optimizer.zero_grad()
    whole_loss(model, inputs).backward()
    assert with_gradient(model) == trainable(model)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_text_only_article_adds_nothing_to_the_visual_paths_gradient(fusion, attention):
    model = tiny_model(fusion, gate=0.5, attention=attention).train()
    together = batch(model, counts=(2, 0))
    model(**together, num_items_in_batch=1).loss.backward()
    mixed = {n: p.grad.clone() for n, p in model.visual_path.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    model(**{name: tensor[:1] for name, tensor in together.items()}, num_items_in_batch=1).loss.backward()
    alone = {n: p.grad for n, p in model.visual_path.named_parameters() if p.grad is not None}
    assert any(gradient.abs().max() > 1e-3 for gradient in alone.values())
    assert_same_gradients(mixed, alone)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_peft_trains_and_uses_its_own_copy_of_the_visual_path(fusion, tmp_path):
    base = tiny_model(fusion, gate=0.0)
    state = copy.deepcopy(base.state_dict())
    inputs = batch(base)
    with torch.no_grad():
        before = base(**inputs).logits
    model = get_peft_model(base, LORA).train()
    copied = {n for n, _ in base.visual_path.modules_to_save["default"].named_parameters()}
    expected = {f"base_model.model.visual_path.modules_to_save.default.{name}" for name in copied}
    lora = {name for name in trainable(model) if ".lora_" in name}
    assert trainable(model) == expected | lora
    # 4 layers × (4 attention + 3 feed-forward projections) × (A, B), in the text model alone.
    assert len(lora) == 56 and all(name.startswith("base_model.model.language_model.") for name in lora)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        whole_loss(model, inputs).backward()
        optimizer.step()
    assert with_gradient(model) == trainable(model)

    model.eval()
    with torch.no_grad():
        trained = model(**inputs).logits
        assert (trained - before).abs().max() > 1e-3
        original = base.visual_path.original_module
        for parameter in original.parameters():
            parameter.fill_(7.0)
        assert torch.equal(model(**inputs).logits, trained)
    model.save_pretrained(tmp_path)

    fresh = tiny_model(fusion, gate=0.0)
    fresh.load_state_dict(state)
    loaded = PeftModel.from_pretrained(fresh, tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, trained, **EXACT)
        with loaded.disable_adapter():
            torch.testing.assert_close(loaded(**inputs).logits, before, **EXACT)
        prompt = batch(base, labels=False)
        options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "num_beams": 2}
        generated = loaded.generate(**prompt, **options)
        merged = loaded.merge_and_unload()
        torch.testing.assert_close(merged(**inputs).logits, trained, **EXACT)
        assert torch.equal(merged.generate(**prompt, **options), generated)


# The frozen tower is checkpointed too, which torch notes; there is nothing to propagate there.
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [False, True])
def test_peft_with_checkpointing_gives_the_same_gradients(reentrant):
    base = tiny_model("dvp", gate=0.5, vrp_dropout=0.0, gate_layers=[2, 3])
    model = get_peft_model(base, LORA).train()
    inputs = batch(base)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    expected = gradients(model, inputs)
    assert set(expected) == trainable(model)
    base.activation_checkpointing_enable({"use_reentrant": reentrant})
    assert_same_gradients(gradients(model, inputs), expected)


@torch.no_grad()
def test_a_deep_copy_uses_its_own_gates():
    model = tiny_model("dvp", gate=0.0)
    inputs = batch(model, labels=False)
    model(**inputs, output_hidden_states=True)
    closed = model(**inputs).logits
    twin = copy.deepcopy(model)
    for module in twin.visual_path.cross_attentions.values():
        module.gate.alpha.fill_(0.8)
    opened = twin(**inputs).logits
    assert (opened - closed).abs().max() > 0.1
    assert torch.equal(model(**inputs).logits, closed)
    assert twin.gate_openings() == pytest.approx({1: math.tanh(0.8), 3: math.tanh(0.8)})
    assert model.gate_openings() == {1: 0.0, 3: 0.0}


def save_without(model, folder, missing):
    """Save a checkpoint that lacks the tensors whose names `missing` accepts."""
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    dropped = {name for name in tensors if missing(name)}
    save_file({k: v for k, v in tensors.items() if k not in dropped}, file, metadata={"format": "pt"})
    return dropped


def assert_normal(tensor, std, name):
    """Five standard errors of mean and spread."""
    count = tensor.numel()
    assert tensor.mean().abs() < 5 * std / math.sqrt(count), name
    assert abs(tensor.std() / std - 1) < 5 / math.sqrt(2 * count), name


@pytest.mark.parametrize(
    ("fusion", "fields"),
    [
        ("concat", {"vrp_context": "article"}),
        ("sampler", {"gate_type": "channel", "gate_init": 0.25, "cross_attention_init_scale": 3.0}),
        ("dvp", {"gate_feed_forward": True, "vrp_context": "article_set", "alignment_temperature": 0.2}),
    ],
)
def test_a_checkpoint_without_the_visual_path_loads_with_an_initialised_one(fusion, fields, tmp_path):
    gate = fields.pop("gate_init", 0.0)
    model = tiny_model(fusion, gate=gate, **fields)
    with torch.no_grad():
        for parameter in model.visual_path.parameters():
            parameter.fill_(1e30)
    dropped = save_without(model, tmp_path, lambda name: name.startswith("visual_path."))
    torch.manual_seed(11)
    loaded, report = SpectraSumForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert (
        set(report["missing_keys"]) == dropped == {f"visual_path.{n}" for n, _ in model.visual_path.named_parameters()}
    )
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    fresh = loaded.state_dict()
    for name, tensor in model.state_dict().items():
        if name not in dropped:
            assert torch.equal(fresh[name], tensor), name
    scale = fields.get("cross_attention_init_scale", 2.0)
    for name, parameter in loaded.visual_path.named_parameters():
        kind = name.rsplit(".", 1)[-1]
        if kind == "alpha":
            assert (parameter == gate).all(), name
        elif kind == "log_temperature":
            assert parameter.item() == pytest.approx(math.log(fields.get("alignment_temperature", 0.1)))
        elif kind == "bias":
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        elif name.startswith("deep_visual_processor") and name.endswith(("o_proj.weight", "down_proj.weight")):
            assert_normal(parameter, 0.05 * SPREAD, name)
        elif name.startswith("cross_attentions") and name.endswith(("q_proj.weight", "k_proj.weight")):
            assert_normal(parameter, scale * SPREAD, name)
        else:
            assert_normal(parameter, SPREAD, name)
    openings = {} if fusion == "concat" else {1: math.tanh(gate), 3: math.tanh(gate)}
    assert loaded.gate_openings() == pytest.approx(openings)


@pytest.mark.parametrize(
    ("fusion", "missing"),
    [
        ("dvp", "visual_path.sampler.latents"),
        ("dvp", "visual_path.cross_attentions.3.gate.alpha"),
        ("dvp", "visual_path.cross_attentions.3.attention.q_proj.weight"),
        ("dvp", "visual_path.alignment_head.log_temperature"),
        ("concat", "visual_path.projector.image_newline"),
        ("concat", "visual_path.projector.linear_1.bias"),
    ],
)
def test_a_missing_parameter_is_initialised_and_its_neighbours_are_kept(fusion, missing, tmp_path):
    model = tiny_model(fusion, gate=0.5)
    with torch.no_grad():
        for parameter in model.visual_path.parameters():
            parameter.add_(3.0)
    assert save_without(model, tmp_path, missing.__eq__) == {missing}
    loaded = SpectraSumForConditionalGeneration.from_pretrained(tmp_path).state_dict()
    for name, tensor in model.state_dict().items():
        if name == missing:
            assert loaded[name].isfinite().all() and (loaded[name] - tensor).abs().min() > 0.01
            assert loaded[name].abs().max() < 5
        else:
            assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize("text", ["qwen2", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied_output_embeddings_survive_a_round_trip(tied, text, tmp_path):
    model = tiny_model("dvp", text=text, gate=0.5, text_fields={"tie_word_embeddings": tied})
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    inputs = batch(model, labels=False)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert ("language_model.lm_head.weight" in saved) == (not tied)
    loaded, report = SpectraSumForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert (loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight) == tied
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    with torch.no_grad():
        # On some processors a sum's order depends on where weights lie in memory.
        torch.testing.assert_close(loaded.eval()(**inputs).logits, model(**inputs).logits, **EXACT)


def test_resized_embeddings_keep_the_model_whole():
    model = tiny_model("dvp", gate=0.5)
    inputs = batch(model)
    with torch.no_grad():
        before = model(**inputs)
        model.resize_token_embeddings(VOCABULARY + 8, mean_resizing=False)
        after = model(**inputs)
    assert model.config.text_config.vocab_size == VOCABULARY + 8
    assert after.logits.shape[-1] == VOCABULARY + 8 and after.loss.isfinite()
    torch.testing.assert_close(after.logits[..., :VOCABULARY], before.logits, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("gate_layers", [[1, 3], [2, 3]])
def test_hidden_states_are_taken_where_the_docstring_says(gate_layers):
    """Entry 0 behind the gate of layer 1, entry l behind layer l and before the gate of layer l + 1, the last normed."""
    model = tiny_model("dvp", gate=0.7, gate_layers=gate_layers)
    inputs = batch(model, labels=False)
    output = model(**inputs, output_hidden_states=True)
    bare = AutoModelForCausalLM.from_config(model.config.text_config).eval()
    bare.load_state_dict(model.language_model.state_dict())
    decoder, key_values = bare.model, output.visual_key_values
    blocked = torch.where(key_values.mask, 0.0, torch.finfo(torch.float64).min)[:, None, None]
    hidden = decoder.embed_tokens(inputs["input_ids"])
    rotary = decoder.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])
    states = []
    for layer, module in enumerate(decoder.layers, start=1):
        if layer > 1:
            states.append(hidden)
        if layer in gate_layers:
            index = gate_layers.index(layer)
            gated = model.visual_path.cross_attentions[str(layer)]
            hidden, _ = gated(
                hidden, key_values.keys[:, index], key_values.values[:, index], blocked, torch.tensor([True, True])
            )
        if layer == 1:
            states.append(hidden)
        hidden = module(hidden, position_embeddings=rotary)
    states.append(decoder.norm(hidden))
    assert len(output.hidden_states) == len(states) == 5
    for recorded, expected in zip(output.hidden_states, states, strict=True):
        torch.testing.assert_close(recorded, expected, **EXACT)
    torch.testing.assert_close(output.logits, bare.lm_head(states[-1]), **EXACT)
    assert model(**inputs).hidden_states is None


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_recorded_attention(fusion):
    model = tiny_model(fusion, gate=0.7, attention="eager")
    inputs = batch(model, counts=(3, 1, 0), labels=False)
    output = model(**inputs, output_attentions=True)
    length = inputs["input_ids"].shape[1]
    assert [tuple(weights.shape) for weights in output.attentions] == [(3, 4, length, length)] * 4
    for weights in output.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, length), **EXACT)
    if fusion == "concat":
        assert output.cross_attentions is None
        return
    assert [tuple(weights.shape) for weights in output.cross_attentions] == [(3, 2, length, 9)] * 2
    for weights in output.cross_attentions:
        totals = weights.sum(-1)
        torch.testing.assert_close(totals[:2], torch.ones_like(totals[:2]), **EXACT)
        assert weights[2].abs().max() == 0
        assert weights[1, ..., 3:].max() < 1e-9 and weights[1, ..., :3].min() > 0
    assert model(**inputs).cross_attentions is None and model(**inputs).attentions is None


@torch.no_grad()
@pytest.mark.float32
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("vision", ["siglip", "clip"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_bfloat16_is_finite_and_near_float32(fusion, vision, attention):
    # The usual small weights: with large ones rounding errors of bfloat16 grow layer by layer.
    model = tiny_model(fusion, vision, gate=0.5, attention=attention, initializer_range=0.05)
    inputs = batch(model, counts=(3, 1, 0))
    expected = model(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(**inputs)
    half = model.to(torch.bfloat16)(**inputs)
    assert half.logits.dtype == torch.bfloat16
    for output in (mixed, half):
        assert output.logits.isfinite().all() and output.summary_embeds.isfinite().all()
        torch.testing.assert_close(output.loss.float(), expected.loss, atol=0.0, rtol=0.05)
        torch.testing.assert_close(output.image_embeds.float(), expected.image_embeds, atol=0.05, rtol=0.0)
    prompt = batch(model, counts=(3, 1, 0), labels=False)
    assert model.generate(**prompt, max_new_tokens=2, num_beams=2, pad_token_id=0).shape[0] == 3


@pytest.mark.float32
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_training_step_under_autocast(fusion):
    model = tiny_model(fusion, gate=0.5).train()
    model.vision_tower.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        loss = whole_loss(model, batch(model))
    loss.backward()
    assert with_gradient(model) == trainable(model)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_declared_flags_are_true():
    model = tiny_model("dvp")
    models = [case_model(case) for case in CASES]
    classes = {type(module).__name__ for each in models for module in each.modules()}
    assert set(SpectraSumPreTrainedModel._no_split_modules) <= classes
    assert {"Qwen2DecoderLayer", "SiglipEncoderLayer"} <= set(model._no_split_modules)
    assert SpectraSumPreTrainedModel._supports_sdpa and SpectraSumPreTrainedModel.supports_gradient_checkpointing
    assert SpectraSumPreTrainedModel._can_compile_fullgraph and model._can_compile_fullgraph
    assert model.config._attn_implementation == "sdpa"
    assert model.language_model.config._attn_implementation == model.vision_tower.config._attn_implementation == "sdpa"
    with pytest.raises(ValueError, match="[Ff]lash"):
        model.set_attn_implementation("flash_attention_2")
    assert SpectraSumForConditionalGeneration.can_generate()


@torch.no_grad()
def test_a_static_cache_is_used_without_compiling():
    model = tiny_model("dvp", gate=0.9)
    prompt = batch(model, counts=(3, 1), labels=False)
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    static = model.generate(**prompt, **options, cache_implementation="static")
    assert torch.equal(static, model.generate(**prompt, **options))


@torch.no_grad()
def test_attention_implementation_reaches_the_copy_that_peft_trains():
    model = tiny_model(gate=0.5)
    values, mask = pixels(2, 0)
    inputs = {"input_ids": tokens(2, 6), "pixel_values": values, "image_mask": mask}
    expected = model(**inputs).logits
    adapted = get_peft_model(
        model, LoraConfig(target_modules=r"language_model\..*\.q_proj", modules_to_save=["visual_path"])
    ).eval()
    adapted.set_attn_implementation("eager")
    outputs = adapted(**inputs, output_attentions=True)
    torch.testing.assert_close(outputs.logits, expected, **EXACT)
    for weights in outputs.cross_attentions:
        torch.testing.assert_close(weights[0].sum(-1), torch.ones_like(weights[0].sum(-1)), **EXACT)
