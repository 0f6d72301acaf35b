"""QLoRA on a CPU: what is in 4 bits, what trains, and that adapters come back the same, resumed or merged."""

import json
import re
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from datasets import DatasetDict
from peft import PeftModel
from torch import nn

from modeling_spectra import SpectraSumForConditionalGeneration
from spectra_sum.models.loading import load_model
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.double_precision import EPSILON
from tests.tiny import TEXT_LAYERS
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.building import build_trainer
from trainer.checkpoints.resuming import checkpoint_to_resume
from trainer.checkpoints.run_record import write_run_record
from trainer.parameter_counts import count_parameters, parameter_table
from trainer.spectra_trainer import SpectraTrainer
from trainer.train import parse_arguments

SETTINGS = {
    "vrp_dropout": None,
    "gate_init": None,
    "freeze_language_model": None,
    "use_peft": True,
    "lora_r": 2,
    "load_in_4bit": True,
    "use_bnb_nested_quant": True,
    "generation_max_new_tokens": 4,
    "lr_scheduler_type": "constant",
}
# bitsandbytes needs multiples of 64.
WIDTHS = {"hidden_size": 64, "intermediate_size": 128}
NOT_THE_MODELS = ("summary_sentences", "negative_keys", "article_ids")
NO_DROPOUT = ("--lora_dropout", "0", "--vrp_dropout", "0")
DECODER = "base_model.model.language_model.model.layers"
# Independent of the code: what a Qwen2 decoder layer consists of.
LINEAR = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
LINEAR_NAMES = [
    f"{DECODER}.{layer}.{block}.{name}" for layer in range(TEXT_LAYERS) for block in LINEAR for name in LINEAR[block]
]


@pytest.fixture(scope="module")
def records() -> DatasetDict:
    return closed_world_dataset({"train": 8, "validation": 2, "test": 2}, seed=5)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_setup(tmp_path_factory.mktemp("setup"), SETTINGS, **WIDTHS)


@pytest.fixture
def arguments(tmp_path: Path, setup: Path):
    def make(*argv: str, output: str = "run") -> tuple:
        return parse_arguments(setup_arguments(setup, tmp_path / output, *argv))

    return make


@pytest.fixture
def make_trainer(arguments, records: DatasetDict):
    return lambda *argv, **options: build_trainer(*arguments(*argv, **options), records)


def is_4bit(parameter: nn.Parameter) -> bool:
    return parameter.dtype == torch.uint8


def snapshot(trainer: SpectraTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def inputs_of(trainer: SpectraTrainer, records: DatasetDict) -> dict[str, torch.Tensor]:
    batch = trainer.data_collator([records["validation"][index] for index in range(2)])
    return {name: value for name, value in batch.items() if name not in NOT_THE_MODELS}


@torch.no_grad()
def outputs_of(model: nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    outputs = model.eval()(**inputs)
    return outputs.logits, outputs.selection_logits


def assert_same_trained_weights(reloaded: nn.Module, trainer: SpectraTrainer) -> None:
    """Bit for bit. Outputs need not be so: on some processors a sum's order depends on where weights lie in memory."""
    found = {name: value for name, value in reloaded.named_parameters() if name.startswith("visual_path.")}
    found |= {name: value for name, value in reloaded.named_parameters() if ".lora_" in name}
    trained = {
        name.removeprefix("base_model.model.").replace("modules_to_save.default.", ""): value
        for name, value in trainer.model.named_parameters()
        if value.requires_grad
    }
    assert found.keys() == trained.keys()
    for name, value in trained.items():
        assert torch.equal(found[name], value), name


def losses(trainer: SpectraTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss_lm" in entry]


def test_exact_sets_of_4bit_of_trained_and_of_float32_parameters(make_trainer):
    model = make_trainer("--bf16", "true").model
    named = dict(model.named_parameters())
    assert {name for name, value in named.items() if is_4bit(value)} == {
        f"{name}.base_layer.weight" for name in LINEAR_NAMES
    }
    visual_path = "base_model.model.visual_path"
    lora = {f"{name}.lora_{side}.default.weight" for name in LINEAR_NAMES for side in "AB"}
    new = {name.replace("original_module", "modules_to_save.default") for name in named if "original_module" in name}
    assert {name for name, value in named.items() if value.requires_grad} == lora | new
    # PEFT makes adapters in float32; of the new modules only these and the norms are.
    exact = (
        f"{visual_path}.modules_to_save.default.relevance_predictor.",
        f"{visual_path}.modules_to_save.default.cross_attentions.1.gate.alpha",
        f"{visual_path}.modules_to_save.default.cross_attentions.3.gate.alpha",
        f"{visual_path}.modules_to_save.default.alignment_head.log_temperature",
    )
    float32 = lora | {name for name in new if name.startswith(exact) or name.endswith("norm.weight")}
    trained = {name: value.dtype for name, value in named.items() if value.requires_grad}
    assert {name for name, dtype in trained.items() if dtype == torch.float32} == float32
    assert {dtype for name, dtype in trained.items() if name not in float32} == {torch.bfloat16}
    assert named["base_model.model.language_model.model.embed_tokens.weight"].dtype == torch.bfloat16


def test_training_moves_what_trains_and_the_adapter_comes_back_bit_for_bit(make_trainer, records, tmp_path):
    trainer = make_trainer("--save_strategy", "steps", "--save_steps", "2")
    trainer.negative_queue.push(nn.functional.normalize(torch.randn(3, 24), dim=-1), torch.tensor([1, 2, 3]))
    start = snapshot(trainer)
    trainer.train()
    end = snapshot(trainer)
    trained = {name for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert {name for name in start if not torch.equal(start[name], end[name])} == trained

    inputs = inputs_of(trainer, records)
    logits, selection = outputs_of(trainer.model, inputs)
    checkpoint = str(tmp_path / "run" / "checkpoint-2")
    # For those who read it without the run's record.
    quantization = json.loads(Path(checkpoint, "base_quantization.json").read_text())
    assert quantization == {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    reloaded = load_model(checkpoint, quantize="language-model").model
    assert isinstance(reloaded, SpectraSumForConditionalGeneration)
    assert_same_trained_weights(reloaded, trainer)
    found = outputs_of(reloaded, inputs)
    torch.testing.assert_close(found[0], logits, rtol=0, atol=1600 * EPSILON)
    torch.testing.assert_close(found[1], selection, rtol=0, atol=8 * EPSILON)

    # What merging changes is the base: the adapter is the same on the full-precision weights (up to the order of
    # additions in float32, which 4 bits are computed in, on logits of size 10 behind four layers) ...
    merged = load_model(checkpoint).model
    unmerged = outputs_of(load_model(checkpoint, merge=False).model, inputs)[0]
    torch.testing.assert_close(outputs_of(merged, inputs)[0], unmerged, rtol=0, atol=1600 * EPSILON)
    # ... and on those that come out of the 4-bit ones, where it gives the outputs of the training.
    dequantized = SpectraSumForConditionalGeneration.from_pretrained(tmp_path / "run" / "base")
    for name in LINEAR_NAMES:
        weight = trainer.model.get_submodule(name).base_layer.weight
        linear = dequantized.get_submodule(name.removeprefix("base_model.model."))
        linear.weight.data = dequantize_4bit(weight.data, weight.quant_state)
    on_dequantized = PeftModel.from_pretrained(dequantized, checkpoint).merge_and_unload()
    found = outputs_of(on_dequantized, inputs)
    torch.testing.assert_close(found[0], logits, rtol=0, atol=1600 * EPSILON)
    torch.testing.assert_close(found[1], selection, rtol=0, atol=80 * EPSILON)
    # The two bases differ by the quantization error, which for normal weights in blocks of 64 is 0.09.
    base = SpectraSumForConditionalGeneration.from_pretrained(tmp_path / "run" / "base")
    for name in LINEAR_NAMES:
        name = name.removeprefix("base_model.model.")
        exact, rounded = base.get_submodule(name).weight, on_dequantized.get_submodule(name).weight
        adapted = merged.get_submodule(name).weight - exact
        error = (rounded - adapted - exact).norm() / exact.norm()
        assert 0.08 < error < 0.1, name


def test_small_updates_in_bf16(make_trainer):
    """At 1e-4 the norms move, which start at 1; linear layers only where their weights are small, or all in float32."""
    moved = {}
    for dtype, argv in (("default", ()), ("float32", ("--dtype", "float32"))):
        trainer = make_trainer("--bf16", "true", *argv, "--learning_rate", "1e-4", output=dtype)
        start = snapshot(trainer)
        trainer.train()
        end = snapshot(trainer)
        trained = {name: value for name, value in trainer.model.named_parameters() if value.requires_grad}
        norms = [name for name in trained if name.endswith("norm.weight")]
        # Sampler, blocks of the Deep Visual Processor, gates.
        assert len(norms) == 5 + 3 * 2 + 2 * 2
        assert all((start[name] != end[name]).any() for name in norms)
        linear = [name for name in trained if re.search(r"(sampler|processor)\..*_proj\.weight", name)]
        large = [(start[name].abs() > 1 / 16) & (start[name] != 0) for name in linear]
        changed = [(start[name] != end[name])[mask] for name, mask in zip(linear, large, strict=True)]
        moved[dtype] = torch.cat(changed).float().mean().item()
        dtypes = {torch.float32, torch.bfloat16} if dtype == "default" else {torch.float32}
        assert {value.dtype for value in trained.values()} == dtypes
        assert all(torch.tensor(losses(trainer)).isfinite())
    assert moved["default"] < 0.01 and moved["float32"] > 0.9


@pytest.mark.parametrize("argv", [("--dtype", "bfloat16"), ("--bf16", "true")])
def test_half_precision_trains_and_comes_back_bit_for_bit(make_trainer, records, tmp_path, argv):
    trainer = make_trainer(*argv, "--save_strategy", "steps", "--save_steps", "2")
    start = {name: value.dtype for name, value in trainer.model.named_parameters()}
    trainer.train()
    assert {name: value.dtype for name, value in trainer.model.named_parameters()} == start
    assert all(torch.tensor(losses(trainer)).isfinite())
    inputs = inputs_of(trainer, records)
    # The Trainer leaves its autocast on the model; a loaded model has none.
    with torch.autocast("cpu", torch.bfloat16, enabled="--bf16" in argv):
        expected = outputs_of(trainer.model, inputs)
        reloaded = load_model(str(tmp_path / "run" / "checkpoint-2"), quantize="language-model").model
        found = outputs_of(reloaded, inputs)
    assert_same_trained_weights(reloaded, trainer)
    # Logits up to 16, whose neighbours in bfloat16 are 8 of its epsilons apart; selection from embeddings up to 1.
    epsilon = torch.finfo(torch.bfloat16).eps
    torch.testing.assert_close(found[0].float(), expected[0].float(), rtol=0, atol=16 * epsilon)
    torch.testing.assert_close(found[1].float(), expected[1].float(), rtol=0, atol=2 * epsilon)
    trained = {name: dtype for name, dtype in start.items() if "modules_to_save.default." in name}
    loaded = {name: value.dtype for name, value in reloaded.visual_path.named_parameters()}
    assert loaded == {name.split("modules_to_save.default.")[1]: dtype for name, dtype in trained.items()}


def test_resuming_and_evaluating_in_between_change_nothing(make_trainer):
    # An evaluation draws random numbers, which would change the dropout of the next step.
    common = (*NO_DROPOUT, "--align_weight", "0", "--distill_weight", "0")
    common += ("--predict_with_generate", "false", "--max_steps")
    saving = ("--save_strategy", "steps", "--save_steps", "1")
    whole = make_trainer(*common, "2", output="whole")
    whole.train()
    # bitsandbytes repacks weights in evaluation where it can, and would train no more after it.
    evaluated = make_trainer(*common, "2", "--eval_strategy", "steps", "--eval_steps", "1", output="evaluated")
    evaluated.train()
    make_trainer(*common, "1", *saving, output="parts").train()
    resumed = make_trainer(*common, "2", "--resume_from_checkpoint", "latest", *saving, output="parts")
    resumed.train(resume_from_checkpoint=checkpoint_to_resume(resumed.args))
    assert losses(whole) == losses(evaluated) == losses(resumed)
    for other in (evaluated, resumed):
        found = snapshot(other)
        for name, value in snapshot(whole).items():
            assert torch.equal(found[name], value), name


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_layers_train_as_others_do(make_trainer, reentrant):
    # SGD: the parameters move in proportion to the gradient, where AdamW would blow up what rounding leaves of a zero.
    # The same operations twice, but for the order in which the gradients of a tensor are added, in float32.
    lm_only = (*NO_DROPOUT, "--align_weight", "0", "--distill_weight", "0", "--gate_init", "0.5")
    lm_only += ("--optim", "sgd", "--learning_rate", "1")
    plain = make_trainer(*lm_only)
    start = snapshot(plain)
    plain.train()
    options = json.dumps({"use_reentrant": reentrant})
    checkpointing = ("--gradient_checkpointing", "true", "--gradient_checkpointing_kwargs", options)
    other = make_trainer(*lm_only, *checkpointing, output="checkpointing")
    other.train()
    decoder = other.base_model.get_decoder()
    assert all(layer.gradient_checkpointing for layer in decoder.layers)
    assert losses(other) == pytest.approx(losses(plain), rel=8 * EPSILON)
    found = snapshot(other)
    for name, value in snapshot(plain).items():
        torch.testing.assert_close(found[name], value, rtol=80 * EPSILON, atol=8 * EPSILON, msg=name)
        if "lora_B" in name:
            assert (value - start[name]).abs().max() > 1e-4, name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--use_peft", "false"], "load_in_4bit freezes the language model .* pass use_peft"),
        (["--freeze_language_model", "false"], "use_peft trains adapters on a frozen language model"),
        (["--load_in_4bit", "false"], "use_bnb_nested_quant belongs to load_in_4bit"),
        (["--load_in_4bit", "false", "--load_in_8bit", "true"], "no use for load_in_8bit"),
        (["--bnb_4bit_quant_type", "fp4"], "no use for bnb_4bit_quant_type"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(arguments, argv, message):
    with pytest.raises(ValueError, match=message):
        arguments(*argv)


def test_fsdp_is_refused_at_once(arguments, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="load_in_4bit: FSDP2 does not shard 4-bit weights: launch with .*ddp.yaml"):
        arguments("--bf16", "true")


def test_counts_by_part_stand_in_the_table_and_in_the_record(make_trainer, arguments):
    trainer = make_trainer("--bf16", "true")
    counts = count_parameters(trainer.model)
    # By hand: width 64, 32 for keys and values, 128 inside the feed-forward.
    linear = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128
    assert counts["language_model"]["4-bit"] == TEXT_LAYERS * linear
    # LoRA of rank 2: 2 · (in + out) of each of the seven.
    adapters = 2 * (2 * 128 + 2 * 96 + 3 * 192) * TEXT_LAYERS
    assert counts["LoRA adapters"] == {"float32": adapters, "trained": adapters}
    assert counts["gates"] == {"float32": 2, "trained": 2}
    # The norms: 4 of the sampler's block, 2 of each of the DVP's three, all 64 wide.
    assert counts["sampler"]["float32"] == 5 * 64 and counts["deep_visual_processor"]["float32"] == 6 * 64
    assert set(counts["sampler"]) == {"bfloat16", "float32", "trained"}
    assert counts["relevance_predictor"]["float32"] == counts["relevance_predictor"]["trained"] > 0
    assert [counts[part]["trained"] for part in ("language_model", "vision_tower", "visual path before training")] == [
        0
    ] * 3
    assert sum(part["trained"] for part in counts.values()) == sum(
        value.numel() for value in trainer.model.parameters() if value.requires_grad
    )
    row = next(line for line in parameter_table(counts).splitlines() if line.startswith("LoRA adapters"))
    assert row.split()[2:] == ["0", "0", f"{adapters:,}", f"{adapters:,}"]
    given = arguments("--bf16", "true")
    write_run_record(*given, {}, None, counts)
    record = json.loads((Path(given[2].output_dir) / "run.json").read_text())
    assert record["parameters"] == counts
    assert "bitsandbytes" in record["versions"]
