"""Models in 4 bits at inference: which layers, what the commands record, and what is refused; and what stays in float32."""

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration
from modeling_spectra.visual_layers import VisualRMSNorm
from spectra_sum import cli
from spectra_sum.models import quantization_choices
from spectra_sum.models.loading import LoadedModel, load_model
from spectra_sum.models.sources import ModelError
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests import tiny
from tests.double_precision import EPSILON
from tests.quantizable import FIELDS, quantizable_config, save_quantizable

DECODER = "language_model.model.layers"

# What two loads of the same weights compute differs by the order of sums that memory alignment decides (MKL_CBWR=COMPATIBLE),
# and there is no float64 in 4 bits: some roundings of values near 1, and of logits after all layers.
SELECTION = {"rtol": 0, "atol": 8 * EPSILON}
LOGITS = {"rtol": 0, "atol": 1600 * EPSILON}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_quantizable(tmp_path_factory.mktemp("model") / "float32")


def linear_names(config: SpectraSumConfig) -> tuple[set[str], set[str]]:
    """Of the decoder, and of sampler and DVP; from the configuration and the paper's description alone."""
    decoder = {
        f"{DECODER}.{layer}.{name}"
        for layer in range(config.text_config.num_hidden_layers)
        for name in (
            *(f"self_attn.{part}_proj" for part in "qkvo"),
            *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
        )
    }
    feed_forward = ("feed_forward.up_proj", "feed_forward.down_proj")
    new = {"visual_path.sampler.patch_proj"}
    if config.add_pooled_embedding:
        new.add("visual_path.sampler.pooled_proj")
    new |= {
        f"visual_path.sampler.blocks.{block}.{name}"
        for block in range(config.sampler_depth)
        for name in (
            *(f"{kind}_attention.{part}_proj" for kind in ("cross", "self") for part in "qkvo"),
            *feed_forward,
        )
    }
    if config.fusion == "dvp":
        new |= {
            f"visual_path.deep_visual_processor.blocks.{block}.{name}"
            for block in range(config.dvp_num_layers)
            for name in (*(f"attention.{part}_proj" for part in "qkvo"), *feed_forward)
        }
    return decoder, new


def inputs(model: nn.Module) -> dict[str, torch.Tensor]:
    values, mask = tiny.pixels(2, 3)
    ids = tiny.tokens(2, 12)
    return {"input_ids": ids, "pixel_values": values, "image_mask": mask, "labels": ids}


@pytest.mark.parametrize("fusion", ["dvp", "sampler"])
def test_exactly_these_layers_are_in_4_bits(tmp_path, fusion):
    folder = str(save_quantizable(tmp_path / "model", fusion))
    decoder, new = linear_names(quantizable_config(fusion))
    for quantize, expected in ((None, set()), ("language-model", decoder), ("new-modules", decoder | new)):
        model = load_model(folder, quantize=quantize).model
        found = {name for name, module in model.named_modules() if isinstance(module, Linear4bit)}
        assert found == expected
        assert not any(module.training for module in model.modules())


@torch.no_grad()
@pytest.mark.parametrize("quantize", ["language-model", "new-modules"])
def test_outputs_are_those_of_the_rounded_weights(folder, quantize):
    """The reference rounds each block of 64 weights to NF4's levels by itself, without bitsandbytes."""
    quantized = load_model(str(folder), quantize=quantize).model
    reference = load_model(str(folder)).model
    exact = reference(**inputs(reference))
    decoder, new = linear_names(reference.config)
    levels = quantized.get_submodule(f"{DECODER}.0.mlp.up_proj").weight.quant_state.code
    # QLoRA's appendix E, to four digits.
    assert levels.tolist() == pytest.approx(
        [-1, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0]
        + [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1],
        abs=1e-4,
    )
    for name in decoder | (new if quantize == "new-modules" else set()):
        weight = reference.get_submodule(name).weight
        blocks = weight.reshape(-1, 64)
        scales = blocks.abs().amax(1, keepdim=True)
        rounded = levels[(blocks / scales)[..., None].sub(levels).abs().argmin(-1)] * scales
        weight.copy_(rounded.view_as(weight))
    expected, found = reference(**inputs(reference)), quantized(**inputs(quantized))
    # Nested quantization rounds the scales, too, to 8 bits.
    scale = (expected.logits - exact.logits).norm()
    assert (found.logits - expected.logits).norm() < 0.2 * scale
    # The relevance predictor is never quantized, and does not read what is.
    torch.testing.assert_close(found.selection_logits, exact.selection_logits, **SELECTION)


def test_quantized_models_generate_and_move(folder):
    loaded = load_model(str(folder), quantize="new-modules")
    model = loaded.model.to("cpu")
    data = loaded.processor(tiny.SENTENCES[:2], images=[[tiny.picture(1), tiny.picture(2)], []])
    sequences = model.generate(**data, max_new_tokens=3, do_sample=False)
    assert sequences.shape == (2, data["input_ids"].shape[1] + 3)
    assert len(model.select_images(**data).indices[0]) == 2


def save_adapter(base: Path, adapter: Path, **options) -> PeftModel:
    """A LoRA adapter that changes its base's outputs; it has the visual path, too, unless `options` say otherwise."""
    torch.manual_seed(1)
    model = SpectraSumForConditionalGeneration.from_pretrained(base)
    model.name_or_path = str(base)
    options = {"modules_to_save": ["visual_path"], "init_lora_weights": False, **options}
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=r"language_model\..*\.q_proj", **options))
    adapted.save_pretrained(adapter)
    tiny.tiny_processor(max_candidate_images=6).save_pretrained(adapter)
    return adapted


def test_adapters_work_unmerged_inside_a_quantized_base(folder, tmp_path):
    adapted = save_adapter(folder, tmp_path / "adapter")
    with torch.no_grad():
        for parameter in adapted.get_base_model().visual_path.modules_to_save["default"].parameters():
            parameter.mul_(1.5)
    adapted.save_pretrained(tmp_path / "adapter")
    loaded = load_model(str(tmp_path / "adapter"), quantize="new-modules").model
    assert isinstance(loaded, SpectraSumForConditionalGeneration)
    decoder, new = linear_names(loaded.config)
    quantized = {
        name.removesuffix(".base_layer") for name, module in loaded.named_modules() if isinstance(module, Linear4bit)
    }
    assert quantized == decoder | new
    # The visual path is the adapter's, and there is one only.
    trained = adapted.get_base_model().visual_path.modules_to_save["default"].state_dict()
    found = dict(loaded.visual_path.named_parameters())
    unquantized = {name: value for name, value in found.items() if value.dtype != torch.uint8}
    assert set(found) == set(trained)
    for name, value in unquantized.items():
        assert torch.equal(value, trained[name]), name
    # The adapter is applied: without it the outputs change.
    with torch.no_grad():
        with_adapter = loaded(**inputs(loaded)).logits
        for module in loaded.modules():
            if hasattr(module, "lora_B"):
                module.lora_B["default"].weight.zero_()
        assert (loaded(**inputs(loaded)).logits - with_adapter).abs().max() > 0.01


def test_what_holds_an_unmerged_adapter_is_not_saved(folder, tmp_path):
    """PEFT's layers would be written under names that no model has."""
    save_adapter(folder, tmp_path / "adapter")
    model = load_model(str(tmp_path / "adapter"), quantize="language-model").model
    with pytest.raises(ValueError, match=r"q_proj\.base_layer\..* not merged, and could not be loaded again"):
        model.save_pretrained(tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@torch.no_grad()
def test_an_adapter_without_a_visual_path_keeps_the_bases(folder, tmp_path):
    save_adapter(folder, tmp_path / "adapter", modules_to_save=None)
    base, model = (load_model(str(each), quantize="new-modules").model for each in (folder, tmp_path / "adapter"))
    found, expected = model(**inputs(model)), base(**inputs(base))
    torch.testing.assert_close(found.selection_logits, expected.selection_logits, **SELECTION)
    assert (found.logits - expected.logits).abs().max() > 0.01


@torch.no_grad()
def test_a_folder_in_4_bits_loads_with_the_same_care(folder, tmp_path, monkeypatch):
    packed = load_model(str(folder), quantize="language-model").model
    packed.save_pretrained(tmp_path / "packed")
    tiny.tiny_processor(max_candidate_images=6).save_pretrained(tmp_path / "packed")
    loaded = load_model(str(tmp_path / "packed")).model
    layers = [module for module in loaded.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == len(linear_names(loaded.config)[0])
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    parameters = dict(loaded.named_parameters())
    assert parameters.keys() == {name for name, _ in packed.named_parameters()}
    assert all(torch.equal(parameters[name], value) for name, value in packed.named_parameters())
    torch.testing.assert_close(loaded(**inputs(loaded)).logits, packed(**inputs(packed)).logits, **LOGITS)
    # Merging would round the sum of weights and adapter to 4 bits again.
    save_adapter(tmp_path / "packed", tmp_path / "adapter")
    adapted = load_model(str(tmp_path / "adapter")).model
    assert any(name.endswith("q_proj.lora_A.default.weight") for name, _ in adapted.named_parameters())
    monkeypatch.setattr(quantization_choices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'spectra-sum\[quantization\]'"):
        load_model(str(tmp_path / "packed"))


def test_what_stays_in_float32_in_half_precision(folder, tmp_path):
    """Whichever way the model comes to bfloat16; and it computes, trains and saves with both."""
    exact = ("visual_path.relevance_predictor.", "visual_path.alignment_head.log_temperature")
    vision = tiny.save_vision_folder(tmp_path / "vision")
    text = tiny.save_text_folder(tmp_path / "text")
    tiny_fields = {**FIELDS, "sampler_depth": 1, "gate_feed_forward": True}
    fresh, _ = SpectraSumForConditionalGeneration.from_backbones(
        str(vision), str(text), dtype=torch.bfloat16, **tiny_fields
    )
    fresh.save_pretrained(tmp_path / "fresh")
    models = {
        "from_backbones": fresh,
        "reloaded": SpectraSumForConditionalGeneration.from_pretrained(tmp_path / "fresh"),
        "loaded in bfloat16": SpectraSumForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16),
    }
    for origin, model in models.items():
        kept = {name for name, value in model.named_parameters() if value.dtype == torch.float32}
        norms = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, VisualRMSNorm)}
        # By hand: 2 in each block of the DVP, 3 in each gate with its feed-forward, 4 in each block of the sampler
        # and its last one.
        assert len(norms) == 3 * 2 + 2 * 3 + 1 + 4 * model.config.sampler_depth - (origin == "loaded in bfloat16") * 2
        assert kept == norms | {
            name for name, _ in model.named_parameters() if name.startswith(exact) or name.endswith(".alpha")
        }, origin
        assert any(name.endswith("gate.alpha") for name in kept), origin
        assert {value.dtype for name, value in model.named_parameters() if name not in kept} == {torch.bfloat16}
        assert model.dtype == torch.bfloat16
        outputs = model.train()(**inputs(model))
        assert outputs.logits.dtype == torch.bfloat16
        (outputs.loss + outputs.selection_logits.sum()).backward()
        assert model.visual_path.cross_attentions["1"].gate.alpha.grad is not None
    reloaded = models["reloaded"].state_dict()
    for name, value in fresh.state_dict().items():
        assert torch.equal(reloaded[name], value), name


def test_half_precision_backbones_keep_their_logits(tmp_path):
    """Casting the whole module would round the rotary frequencies, which the language model alone keeps."""
    vision = tiny.save_vision_folder(tmp_path / "vision")
    text = tiny.save_text_folder(tmp_path / "text")
    model, _ = SpectraSumForConditionalGeneration.from_backbones(
        str(vision), str(text), dtype=torch.bfloat16, **FIELDS
    )
    alone = AutoModelForCausalLM.from_pretrained(text, dtype=torch.bfloat16)
    ids = tiny.tokens(2, 200)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, alone(input_ids=ids).logits)


def test_layers_that_bitsandbytes_computes_wrongly_are_refused(tmp_path):
    tiny.tiny_model().save_pretrained(tmp_path)
    tiny.tiny_processor().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="reads 32 values, no multiple of 64"):
        load_model(str(tmp_path), quantize="language-model")


def test_a_visual_path_in_4_bits_is_not_saved(folder, tmp_path):
    model = load_model(str(folder), quantize="new-modules").model
    with pytest.raises(ValueError, match="visual_path.* is in 4 bits, and could not be loaded again"):
        model.save_pretrained(tmp_path / "quantized")
    assert not (tmp_path / "quantized").exists()


def test_weights_from_before_the_temperature_had_a_dimension(folder, tmp_path):
    """The error says how to repair them, and that works in a shell, whatever the folder is called."""
    base, adapter = tmp_path / "base's $(touch harm) `touch harm`", tmp_path / "adapter"
    shutil.copytree(folder, base)
    save_adapter(base, adapter)
    for place, file in ((base, "model.safetensors"), (adapter, "adapter_model.safetensors")):
        weights = load_file(place / file)
        (key,) = [name for name in weights if name.endswith("log_temperature")]
        save_file({**weights, key: weights[key].reshape(())}, place / file, metadata={"format": "pt"})
        with pytest.raises(ModelError, match="repair the file once") as error:
            load_model(str(place))
        _, command = str(error.value).split("repair the file once, with: python ")
        subprocess.run(f"{sys.executable} {command}", shell=True, check=True, cwd=tmp_path)
        assert not (tmp_path / "harm").exists()
        found = load_model(str(place)).model.visual_path.alignment_head.log_temperature
        assert torch.equal(found, weights[key])


def test_another_quantization_than_in_training_is_warned_of(folder, tmp_path):
    save_adapter(folder, adapter := tmp_path / "adapter")
    record = adapter / "base_quantization.json"
    for nested, quantize, warned in (
        (None, None, False),
        (False, None, True),
        (False, "new-modules", True),
        (False, "language-model", False),
        (True, "language-model", False),
    ):
        if nested is not None:
            record.write_text(json.dumps({"load_in_4bit": True, "bnb_4bit_use_double_quant": nested}))
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            model = load_model(str(adapter), quantize=quantize).model
        messages = [str(warning.message) for warning in found]
        assert any("trained on the language model in 4 bits" in message for message in messages) == warned
        # The scales are in 8 bits where they were so in training.
        for layer in (module for module in model.language_model.modules() if isinstance(module, Linear4bit)):
            assert layer.weight.quant_state.nested == nested


def test_what_makes_no_sense_is_refused(folder, tmp_path, monkeypatch):
    concat = save_quantizable(tmp_path / "concat", "concat")
    with pytest.raises(ModelError, match='fusion="concat" has neither .* choose --quantize language-model'):
        load_model(str(concat), quantize="new-modules")
    with pytest.raises(ModelError, match="'int8'; choose one of language-model, new-modules"):
        load_model(str(folder), quantize="int8")
    load_model(str(folder), quantize="language-model").model.save_pretrained(tmp_path / "quantized")
    tiny.tiny_processor(max_candidate_images=6).save_pretrained(tmp_path / "quantized")
    with pytest.raises(ModelError, match="quantized already; leave --quantize out"):
        load_model(str(tmp_path / "quantized"), quantize="language-model")
    monkeypatch.setattr(quantization_choices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'spectra-sum\[quantization\]'"):
        load_model(str(folder), quantize="language-model")


@pytest.mark.parametrize(
    ("fields", "has"),
    [
        ({"fusion": "adapter", "adapter_reads": "patches"}, False),
        ({"fusion": "sampler", "visual_states": "tower"}, False),
        ({"fusion": "sampler", "sampler_type": "kmeans"}, False),
        ({"fusion": "modulation"}, True),
        ({"fusion": "adapter", "visual_states": "dvp", "sampler_type": "kmeans"}, True),
        ({"fusion": "dvp", "sampler_type": "kmeans"}, True),
        ({"fusion": "concat", "concat_tokens": "latents"}, True),
    ],
)
def test_new_modules_are_there_by_what_is_read(fields, has):
    model = tiny.tiny_model(**fields)
    path = model.visual_path
    assert has == (path.deep_visual_processor is not None or hasattr(path.sampler, "blocks"))
    config = model.config.to_dict()
    if has:
        quantization_choices.check_quantization("new-modules", config, "model")
    else:
        with pytest.raises(ModelError, match="has neither a Vision Sampler nor a Deep Visual Processor"):
            quantization_choices.check_quantization("new-modules", config, "model")


def test_evaluate_records_it_and_mixes_nothing(folder, tmp_path, capsys, monkeypatch):
    loads = []

    def load(*args, **options):
        loads.append(load_model(*args, **options).model)
        return LoadedModel(loads[-1], tiny.tiny_processor(max_candidate_images=6), True)

    monkeypatch.setattr("spectra_sum.evaluation.run.load_model", load)
    closed_world_dataset({"test": 3}, seed=5).save_to_disk(tmp_path / "data")
    common = ["evaluate", "--model", str(folder), "--data", str(tmp_path / "data"), "--max-new-tokens", "3"]
    common += ["--max-length", "200", "--output", str(tmp_path / "results")]
    assert cli.main([*common, "--quantize", "new-modules"]) == 0
    assert isinstance(loads[0].visual_path.sampler.patch_proj, Linear4bit)
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert metrics["settings"]["quantize"] == "new-modules"
    assert metrics["system"] == f"{folder} 4-bit new-modules"
    assert "bitsandbytes" in metrics["versions"]
    for other in (common, [*common, "--quantize", "language-model"]):
        # Under another name the results' folder is refused anyway; the predictions must be, by themselves.
        (tmp_path / "results" / "system.json").unlink(missing_ok=True)
        assert cli.main(other) == 2
        assert "other settings (quantize)" in capsys.readouterr().err
    # An unquantized run has the settings of the runs from before there was a choice.
    (tmp_path / "results" / "system.json").unlink(missing_ok=True)
    assert cli.main([*common[:-1], str(tmp_path / "unquantized")]) == 0
    for name in ("batches/settings.json", "metrics.json"):
        content = json.loads((tmp_path / "unquantized" / name).read_text())
        assert "quantize" not in content and "quantize" not in content.get("settings", {})


def test_the_app_loads_it_quantized(folder, monkeypatch):
    pytest.importorskip("gradio")
    loads = []

    def load(name, **options):
        loads.append((name, options))
        raise ModelError("enough")

    monkeypatch.setattr("spectra_sum.models.loading.load_model", load)
    assert cli.main(["app", "--model", str(folder), "--quantize", "new-modules"]) == 2
    assert loads == [(str(folder), {"quantize": "new-modules"})]


def test_summarize_does_not_go_on_with_other_weights(folder, tmp_path, capsys):
    (tmp_path / "note.txt").write_text("A few words.\n\nAnd more of them.")
    common = ["summarize", str(tmp_path / "note.txt"), "--model", str(folder), "--max-new-tokens", "2"]
    common += ["--json", str(tmp_path / "summaries.jsonl")]
    assert cli.main([*common, "--quantize", "language-model"]) == 0
    assert cli.main([*common, "--resume"]) == 2
    assert "was made by another model or with other options" in capsys.readouterr().err
    assert cli.main([*common, "--resume", "--quantize", "language-model"]) == 0


def test_commands_refuse_it_without_a_model(tmp_path, capsys):
    (tmp_path / "note.txt").write_text("A few words.")
    output = ["--data", "closed_world", "--output", str(tmp_path / "results")]
    for argv in (
        ["summarize", str(tmp_path / "note.txt"), "--text-model", "smollm2"],
        ["evaluate", "--baseline", "lead-3", *output],
    ):
        assert cli.main([*argv, "--quantize", "language-model"]) == 2
        assert "--quantize puts a trained model in 4 bits; pass --model" in capsys.readouterr().err
