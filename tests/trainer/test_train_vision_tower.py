"""Training the vision tower (§10): exactly which parameters learn, how fast, and that image embeddings stay where they were."""

import json
import re
from pathlib import Path

import pytest
import torch
from datasets import DatasetDict
from peft import get_peft_model
from safetensors import safe_open
from torch.nn import functional as F
from transformers import PreTrainedModel, SiglipModel
from trl import ModelConfig

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration
from spectra_sum.errors import SpectraSumError
from spectra_sum.models.loading import load_model
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.double_precision import EXACT, double_precision
from tests.tiny import IMAGE_SIZE, SPREAD, pixels, text_config, tiny_model, tokens, vision_config
from tests.trainer.training_setup import save_setup, setup_arguments
from tests.vision_towers import KINDS, save_tower_folder, tiny_towers
from trainer.building import build_trainer
from trainer.checkpoints.resuming import checkpoint_to_resume
from trainer.parameter_counts import TRAINED, count_parameters
from trainer.spectra_trainer import SpectraTrainer
from trainer.train import parse_arguments
from trainer.trainable import lora_config, set_trainable
from trainer.vision_tower import lora_pattern

WITHOUT_LOSSES = ("--align_weight", "0", "--distill_weight", "0")
PEFT = ("--use_peft", "true", "--lora_r", "2", "--freeze_language_model", "true")
ALL_KINDS = ("siglip", "clip", *KINDS)
# Where the layers of a tower are, and whether the last of two is everything that it ends in, but for norm and pooling.
LAYERS = {
    **dict.fromkeys(("siglip", "clip", "dinov2", "dinov2_with_registers"), r"(.*\.)?encoder\.layers?\."),
    **dict.fromkeys(("vit", "vit with pooling layer", "deit"), r"(encoder\.)?layers?\."),
    **dict.fromkeys(("convnext", "convnextv2", "resnet"), r"encoder\.stages\."),
    "efficientnet": r"encoder\.blocks\.",
}
HEADS = r"(vision_model\.)?(post_layernorm|visual_projection|head|layernorm|pooler)\."


def model_on(kind: str, **fields) -> SpectraSumForConditionalGeneration:
    """A model with latents of the tower's last layer; without losses of its images."""
    torch.manual_seed(0)
    tower = tiny_towers()[kind].config if kind in KINDS else vision_config(kind)
    settings = {"fusion": "sampler", "num_latents": 3, "sampler_depth": 1, "gate_layers": [1, 3], "gate_init": 0.3}
    settings |= {"max_images": 3, "max_candidate_images": 6, "vrp_hidden_size": 16, "initializer_range": SPREAD}
    settings |= {"image_size": IMAGE_SIZE, "align_weight": 0.0, "distill_weight": 0.0, **fields}
    return SpectraSumForConditionalGeneration(
        SpectraSumConfig(vision_config=tower, text_config=text_config(), **settings)
    )


def run_backward(model: PreTrainedModel, *, images: bool = True) -> dict[str, torch.Tensor]:
    """{name in the vision tower: gradient} of L_lm in training mode, of those that have one."""
    pixel_values, image_mask = pixels(2, 1)
    ids = tokens(2, 12)
    model.zero_grad()
    torch.manual_seed(1)
    image_mask = image_mask & images
    model.train()(input_ids=ids, labels=ids, pixel_values=pixel_values, image_mask=image_mask).loss.backward()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {name: value.grad for name, value in base.vision_tower.named_parameters() if value.grad is not None}


def trained_names(model: PreTrainedModel) -> set[str]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {name for name, value in base.vision_tower.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_can_get_a_gradient_is_trained_and_nothing_else(kind, pooled):
    model = model_on(kind, add_pooled_embedding=pooled)
    # What a backward pass reaches where nothing at all is frozen.
    model.requires_grad_(True)
    reached = set(run_backward(model))
    set_trainable(model, train_language_model=False, train_vision_tower="all")
    assert trained_names(model) == reached
    # In a batch without images, too, which data-parallel training needs.
    assert set(run_backward(model, images=False)) == reached

    layer = re.compile(LAYERS[kind] + r"(\d+)\.")
    numbers = {int(found[found.lastindex]) for name in reached if (found := layer.match(name))}
    last = max(numbers)
    expected = {
        name
        for name in reached
        if ((found := layer.match(name)) and int(found[found.lastindex]) == last)
        or re.match(rf"{HEADS}|encoder\.top_", name)
    }
    set_trainable(model, train_language_model=False, train_vision_tower="last-1")
    assert trained_names(model) == expected == set(run_backward(model))
    if not pooled:
        assert not any(re.match(HEADS, name) for name in expected)
    set_trainable(model, train_language_model=False, train_vision_tower="none")
    assert trained_names(model) == set() == set(run_backward(model))
    message = f"last-99: .* has {len(numbers)} layers that can learn; pass at most last-{len(numbers)}"
    with pytest.raises(SpectraSumError, match=message):
        set_trainable(model, train_language_model=False, train_vision_tower="last-99")


def test_the_names_of_a_siglip_tower():
    """By hand, of two layers."""
    second = tiny_model("sampler", add_pooled_embedding=False, align_weight=0.0, distill_weight=0.0)
    set_trainable(second, train_language_model=False, train_vision_tower="last-1")
    projections = [f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")]
    modules = [*projections, "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"]
    names = {f"encoder.layers.{{}}.{module}.{kind}" for module in modules for kind in ("weight", "bias")}
    assert trained_names(second) == {name.format(1) for name in names}
    # Of the first layer's output nothing behind it is read.
    first = tiny_model("sampler", add_pooled_embedding=False, vision_feature_layer=-2)
    set_trainable(first, train_language_model=False, train_vision_tower="last-1")
    assert trained_names(first) == {name.format(0) for name in names}
    with pytest.raises(
        SpectraSumError, match=r"last-2: this tower \(siglip_vision_model\) has 1 layers that can learn"
    ):
        set_trainable(first, train_language_model=False, train_vision_tower="last-2")
    # With the pooled embedding the head is read, and through it the last layer.
    pooled = tiny_model("sampler", vision_feature_layer=-2, align_weight=0.0, distill_weight=0.0)
    set_trainable(pooled, train_language_model=False, train_vision_tower="last-1")
    heads = {name for name in trained_names(pooled) if not name.startswith("encoder.")}
    assert trained_names(pooled) - heads == {name.format(1) for name in names}
    assert {name.split(".")[0] for name in heads} == {"post_layernorm", "head"} and "head.probe" in heads


@pytest.mark.parametrize("kind", ["siglip", "clip", "vit", "dinov2", "convnext"])
def test_lora_stands_in_the_linear_layers_that_are_read(kind):
    model = model_on(kind, add_pooled_embedding=False)
    expected = {
        name
        for name, module in model.vision_tower.named_modules()
        if isinstance(module, torch.nn.Linear) and re.match(LAYERS[kind], name)
    }
    assert expected
    set_trainable(model, train_language_model=False, train_vision_tower="lora")
    config = lora_config(ModelConfig(lora_r=2), tower_layers=lora_pattern(model))
    adapted = get_peft_model(model, config)
    names = trained_names(adapted)
    assert {name.partition(".lora_")[0] for name in names} == expected
    assert len(names) == 2 * len(expected) and all(".lora_" in name for name in names)
    assert set(run_backward(adapted)) == names
    assert set(run_backward(adapted, images=False)) == names


@pytest.mark.parametrize("kind", ["resnet", "efficientnet"])
def test_lora_without_linear_layers_is_refused(kind):
    with pytest.raises(SpectraSumError, match=rf"lora: this tower \({kind}\) has no linear layers"):
        lora_pattern(model_on(kind))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("mode", ["last-1", "all", "lora"])
def test_gradients_are_the_same_with_checkpointing(mode, reentrant):
    model = model_on("siglip")
    set_trainable(model, train_language_model=False, train_vision_tower=mode)
    if mode == "lora":
        config = lora_config(ModelConfig(lora_r=2), tower_layers=lora_pattern(model))
        config.init_lora_weights = False
        model = get_peft_model(model, config)
    expected = run_backward(model)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    tower = (model.get_base_model() if mode == "lora" else model).vision_tower
    assert all(layer.gradient_checkpointing and layer.training for layer in tower.encoder.layers)
    found = run_backward(model)
    assert found.keys() == expected.keys() and any(value.abs().max() > 1e-6 for value in found.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **EXACT)


@pytest.fixture(scope="module")
def records() -> DatasetDict:
    return closed_world_dataset({"train": 6, "validation": 2, "test": 2}, seed=5)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float64: `vision`, a SigLIP, is tower and teacher."""
    folder = tmp_path_factory.mktemp("setup")
    fields = {"dtype": "auto", "freeze_language_model": True, "fusion": "sampler", "predict_with_generate": False}
    with double_precision():
        save_setup(folder, fields)
        save_tower_folder(folder / "resnet", "resnet")
    return folder


@pytest.fixture
def make_trainer(tmp_path: Path, records: DatasetDict, setup: Path):
    def make(mode: str, *argv: str, output: str = "run") -> SpectraTrainer:
        argv = ("--train_vision_tower", mode, *argv)
        return build_trainer(*parse_arguments(setup_arguments(setup, tmp_path / output, *argv)), records)

    return make


def tower_state(tower: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in tower.state_dict().items()}


def changed(tower: torch.nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in tower.state_dict().items() if not torch.equal(value, before[name])}


def logged(trainer: SpectraTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss_lm" in entry]


def logits_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    names = ("input_ids", "attention_mask", "article_mask", "pixel_values", "image_mask")
    with torch.no_grad():
        return model.eval()(**{name: batch[name] for name in names}).logits


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", ["last-1", "all"])
def test_embeddings_stay_those_of_the_frozen_tower(make_trainer, setup, mode):
    trainer = make_trainer(mode)
    model = trainer.model
    before = tower_state(model.vision_tower)
    assert all(torch.equal(value, before[name]) for name, value in model.embedding_tower.state_dict().items())
    # With an embedding tower nobody reads the pooling head of the one that learns.
    assert not any(name.startswith(("head.", "post_layernorm.")) for name in trained_names(model))
    groups = {(group["part"], group["lr"]) for group in trainer.create_optimizer().param_groups}
    assert groups == {("vision_tower", 0.01 * 0.1), ("visual_path", 0.01), ("gates", 0.1)}
    tower_groups = [group for group in trainer.optimizer.param_groups if group["part"] == "vision_tower"]
    assert sum(len(group["params"]) for group in tower_groups) == len(trained_names(model))
    batch = next(iter(trainer.get_eval_dataloader()))
    labels = trainer._teacher_labels(batch, trainer.run_model(model.eval(), batch))
    trainer.train()

    moved = changed(model.vision_tower, before)
    assert moved <= trained_names(model) and "encoder.layers.1.mlp.fc1.weight" in moved
    assert ("embeddings.patch_embedding.weight" in moved) == (mode == "all")
    assert changed(model.embedding_tower, before) == set()
    outputs = trainer.run_model(model.eval(), batch)
    for now, then in zip(trainer._teacher_labels(batch, outputs), labels, strict=True):
        assert torch.equal(now, then)
    teacher = SiglipModel.from_pretrained(setup / "vision", dtype="auto").eval()
    images = batch["pixel_values"][batch["image_mask"]]
    with torch.no_grad():
        expected = F.normalize(teacher.vision_model(images.to(teacher.dtype)).pooler_output, dim=-1)
    torch.testing.assert_close(outputs.image_embeds[batch["image_mask"]], expected, **EXACT)

    trainer.save_model()
    loaded = SpectraSumForConditionalGeneration.from_pretrained(trainer.args.output_dir)
    assert changed(loaded.embedding_tower, before) == set() and changed(loaded.vision_tower, before) == moved
    torch.testing.assert_close(logits_of(loaded, batch), logits_of(model, batch), **EXACT)


@pytest.mark.usefixtures("float64")
def test_without_losses_of_the_images_no_copy_is_made_and_statistics_stay(make_trainer, setup):
    trainer = make_trainer("last-1", *WITHOUT_LOSSES, "--vision_backbone", str(setup / "resnet"))
    model = trainer.model
    assert model.embedding_tower is None and model.config.embedding_vision_config is None
    before = tower_state(model.vision_tower)
    trainer.train()
    moved = changed(model.vision_tower, before)
    assert moved == trained_names(model) and all(name.startswith("encoder.stages.1.") for name in moved)
    # Scale and shift of its batch norms learn, mean and variance do not.
    assert any("normalization.weight" in name for name in moved) and not any("running" in name for name in moved)
    parameters = count_parameters(model)["vision_tower"][TRAINED]
    assert parameters == sum(before[name].numel() for name in moved)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("mode", "options"), [("last-1", ()), ("lora", ("--lora_r", "2"))])
def test_resuming_is_as_if_nothing_had_stopped_it(make_trainer, mode, options):
    saving = ("--save_strategy", "steps", "--save_steps", "1", "--lr_scheduler_type", "constant", *options)
    whole = make_trainer(mode, *saving, output="whole")
    whole.train()
    make_trainer(mode, *saving, "--max_steps", "1", output="parts").train()
    second = make_trainer(mode, *saving, "--resume_from_checkpoint", "latest", output="parts")
    second.train(resume_from_checkpoint=checkpoint_to_resume(second.args))
    assert logged(second) == logged(whole) and len(logged(whole)) == 2
    state = second.model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(state[name], value), name


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("mode", "options"),
    [("last-1", PEFT), ("lora", (*PEFT, "--train_vision_tower", "lora")), ("lora", ("--lora_r", "2"))],
)
def test_an_adapter_holds_what_was_trained_of_the_tower(make_trainer, mode, options):
    trainer = make_trainer(mode, *options)
    before = tower_state(trainer.base_model.vision_tower)
    counts = count_parameters(trainer.model)
    trainer.train()
    trainer.save_model()
    folder = Path(trainer.args.output_dir)
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        names = [name.removeprefix("base_model.model.") for name in file.keys()]  # noqa: SIM118
    of_tower = {name for name in names if name.startswith("vision_tower.")}
    adapts_text = "--use_peft" in options
    assert any(name.startswith("language_model.") for name in names) == adapts_text
    if mode == "lora":
        assert of_tower and all(".lora_" in name for name in of_tower)
        assert "vision tower before training" not in counts
    else:
        state = trainer.base_model.vision_tower.modules_to_save["default"].state_dict()
        assert {name.removeprefix("vision_tower.") for name in of_tower} == set(state)
        assert counts["vision tower before training"][TRAINED] == 0 < counts["vision_tower"][TRAINED]
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 2

    loaded = load_model(str(folder)).model
    assert changed(trainer.base_model.vision_tower, before)
    if mode == "lora":
        plain = {name.replace(".base_layer", ""): value for name, value in before.items() if ".lora_" not in name}
        # Merged.
        assert changed(loaded.vision_tower, plain)
    else:
        assert changed(loaded.vision_tower, state) == set()
    # The frozen copy came with the base.
    assert loaded.embedding_tower is not None
    batch = next(iter(trainer.get_eval_dataloader()))
    torch.testing.assert_close(logits_of(loaded, batch), logits_of(trainer.model, batch), **EXACT)


@pytest.mark.usefixtures("float64")
def test_embeddings_from_the_cache_give_the_same_losses(make_trainer, tmp_path):
    cached = ("--cache", "embeddings", "--cache_dir", str(tmp_path / "cache"))
    expected = make_trainer("last-1")
    expected.train()
    trainer = make_trainer("last-1", *cached, output="cached")
    before = tower_state(trainer.model.vision_tower)
    trainer.train()
    assert logged(trainer) == pytest.approx(logged(expected), rel=1e-9)
    assert changed(trainer.model.vision_tower, before)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", ["last-1", "lora"])
def test_features_of_a_tower_that_learns_are_not_cached(make_trainer, tmp_path, mode):
    cached = ("--cache_dir", str(tmp_path / "cache"))
    with pytest.raises(SpectraSumError, match=f"train_vision_tower {mode}: the patches .* set cache to none"):
        make_trainer(mode, "--cache", "patches", *cached)
    message = rf"cache 'embeddings': the vision tower is trained \(train_vision_tower {mode}\)"
    with pytest.raises(SpectraSumError, match=message):
        make_trainer(mode, "--cache", "embeddings", *cached, *WITHOUT_LOSSES)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--train_vision_tower", "last"],
            r"train_vision_tower is 'last'; pass lora, none, last-N \(as last-2\) or all",
        ),
        (["--train_vision_tower", "last-0"], "train_vision_tower is 'last-0'"),
        (["--vision_tower_learning_rate_factor", "0"], "vision_tower_learning_rate_factor is 0.0; pass a positive"),
        (["--vision_tower_learning_rate_factor", "nan"], "vision_tower_learning_rate_factor is nan"),
        (["--train_vision_tower", "all", "--use_images", "false"], "train_vision_tower all: without images"),
        (["--train_vision_tower", "all", "--train", "guidance"], "train guidance .* leave train_vision_tower all out"),
        (
            ["--train_vision_tower", "lora", "--freeze_language_model", "false"],
            "train_vision_tower lora .* leave freeze_language_model true",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_loaded(tmp_path, argv, message):
    common = ["--dataset", "closed_world", "--closed_world_backbones", "b", "--use_cpu", "true"]
    with pytest.raises(SpectraSumError, match=message):
        parse_arguments([*common, "--output_dir", str(tmp_path), *argv])
