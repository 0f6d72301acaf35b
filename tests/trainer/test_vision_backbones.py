"""Training on towers without a text encoder, of each type: two steps, saving, loading, generation; cached features."""

from pathlib import Path

import pytest
import torch
from datasets import DatasetDict
from peft import AutoPeftModel

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor, register_auto_classes
from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.double_precision import double_precision
from tests.trainer.training_setup import save_setup, setup_arguments
from tests.vision_towers import BATCH_NORM, KINDS, save_tower_folder
from trainer.building import build_trainer
from trainer.cache_features import main as cache_features
from trainer.spectra_trainer import SpectraTrainer
from trainer.train import parse_arguments

WITHOUT_A_TEACHER = ("--align_weight", "0", "--distill_weight", "0")


@pytest.fixture(scope="module")
def records() -> DatasetDict:
    return closed_world_dataset({"train": 6, "validation": 2, "test": 2}, seed=5)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float64."""
    folder = tmp_path_factory.mktemp("setup")
    with double_precision():
        world = {"closed_world_articles": 6, "closed_world_eval_articles": 2, "closed_world_seed": 5}
        save_setup(folder, {"freeze_language_model": True, **world})
        for kind in KINDS:
            save_tower_folder(folder / kind, kind)
    return folder


@pytest.fixture
def make_trainer(tmp_path: Path, records: DatasetDict, setup: Path):
    def make(kind: str, *argv: str, output: str = "run", teacher: bool = False) -> SpectraTrainer:
        weights = () if teacher else WITHOUT_A_TEACHER
        argv = ("--vision_backbone", str(setup / kind), *weights, *argv)
        return build_trainer(*parse_arguments(setup_arguments(setup, tmp_path / output, *argv)), records)

    return make


def tower_state(model) -> dict[str, torch.Tensor]:
    """Parameters and statistics."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    return {name: value.clone() for name, value in model.vision_tower.state_dict().items()}


def logged_losses(trainer: SpectraTrainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss_lm" in entry]


@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_saving_loading_and_generation(make_trainer, records, kind):
    trainer = make_trainer(kind)
    before, start = tower_state(trainer.model), trainer.model.visual_path.sampler.patch_proj.weight.detach().clone()
    trainer.train()
    assert trainer.state.global_step == 2
    # All of it is frozen, the statistics of batch norms too.
    assert all(torch.equal(value, before[name]) for name, value in tower_state(trainer.model).items())
    assert not torch.equal(trainer.model.visual_path.sampler.patch_proj.weight, start)
    trainer.save_model()

    folder = Path(trainer.args.output_dir)
    loaded = SpectraSumForConditionalGeneration.from_pretrained(folder)
    processor = SpectraSumProcessor.from_pretrained(folder)
    state = trainer.model.state_dict()
    assert set(loaded.state_dict()) == set(state)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in state.items())
    article = records["test"][0]
    inputs = processor(article["article"], images=[article["images"]], max_length=400)
    tokens = loaded.generate(**inputs, max_new_tokens=4)
    assert torch.equal(tokens, trainer.model.eval().generate(**inputs, max_new_tokens=4))
    assert tokens.shape[1] > inputs["input_ids"].shape[1]


@pytest.mark.parametrize("options", [("--bf16", "true"), ("--dtype", "bfloat16")])
@pytest.mark.parametrize("kind", BATCH_NORM)
def test_in_bfloat16_statistics_stay_too(make_trainer, kind, options):
    trainer = make_trainer(kind, *options)
    before = tower_state(trainer.model)
    trainer.train()
    assert len(logged_losses(trainer)) == 2 and all(value > 0 for value in logged_losses(trainer))
    assert all(torch.equal(value, before[name]) for name, value in tower_state(trainer.model).items())


def test_under_lora_with_checkpointing_statistics_stay_too(make_trainer, records):
    trainer = make_trainer("resnet", "--use_peft", "true", "--lora_r", "2", "--gradient_checkpointing", "true")
    before = tower_state(trainer.model)
    trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in tower_state(trainer.model).items())
    trainer.save_model()
    register_auto_classes()
    loaded = AutoPeftModel.from_pretrained(trainer.args.output_dir)
    assert all(torch.equal(value, before[name]) for name, value in tower_state(loaded).items())
    batch = next(iter(trainer.get_eval_dataloader()))
    inputs = {
        name: batch[name] for name in ("input_ids", "attention_mask", "article_mask", "pixel_values", "image_mask")
    }
    with torch.no_grad():
        expected = trainer.model.eval()(**inputs).logits
        torch.testing.assert_close(loaded.eval()(**inputs).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("cache", ["embeddings", "patches"])
@pytest.mark.parametrize("kind", ["vit", "dinov2", "convnext", "resnet", "efficientnet"])
def test_losses_from_the_cache_are_those_without_it(make_trainer, tmp_path, kind, cache):
    exact = ("--dtype", "auto")
    expected = make_trainer(kind, *exact)
    expected.train()
    trainer = make_trainer(kind, *exact, "--cache", cache, "--cache_dir", str(tmp_path / "cache"), output="cached")
    assert ("images" in trainer.train_dataset.column_names) == (cache == "embeddings")
    trainer.train()
    assert logged_losses(trainer) == pytest.approx(logged_losses(expected), rel=1e-9)


def test_the_command_fills_the_cache_of_a_resnet(setup, make_trainer, tmp_path):
    cached = ("--cache", "patches", "--cache_dir", str(tmp_path / "cache"))
    vision = ("--vision_backbone", str(setup / "resnet"))
    cache_features(setup_arguments(setup, tmp_path / "run", *vision, *WITHOUT_A_TEACHER, *cached))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    assert times
    make_trainer("resnet", *cached)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")} == times


@pytest.mark.parametrize("options", [(), ("--cache", "embeddings")])
@pytest.mark.parametrize("kind", ["vit", "efficientnet"])
def test_a_tower_without_a_text_encoder_is_no_teacher(make_trainer, tmp_path, kind, options):
    options += ("--cache_dir", str(tmp_path / "cache")) if options else ()
    message = f"the image embeddings are of a '{kind}' tower, which has no text encoder.*set both weights to 0"
    with pytest.raises(SpectraSumError, match=message):
        make_trainer(kind, *options, teacher=True)
    with pytest.raises(SpectraSumError, match=message):
        make_trainer(kind, *options, "--align_weight", "0", teacher=True)
    assert not (tmp_path / "cache").exists()


def test_a_dual_encoder_is_no_teacher_of_another_towers_embeddings(make_trainer, records, setup, tmp_path):
    """Their widths may be equal, and their cosines would mean nothing."""
    trainer = make_trainer("resnet", "--max_steps", "1")
    trainer.save_model()
    argv = [
        "--config",
        str(setup / "settings.yaml"),
        "--output_dir",
        str(tmp_path / "second"),
        "--distill_weight",
        "1",
    ]
    argv += ["--model_name_or_path", trainer.args.output_dir, "--vision_backbone", str(setup / "vision")]
    with pytest.raises(SpectraSumError, match="of a 'resnet' tower, which has no text encoder"):
        build_trainer(*parse_arguments(argv), records)
