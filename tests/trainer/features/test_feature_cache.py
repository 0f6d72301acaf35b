"""Training from the feature cache is training without it, and the command that fills it."""

import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import DatasetDict
from safetensors.torch import load_file

import trainer.building
from spectra_sum.msmo import load_msmo
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.forked_process import LAUNCHER, run
from tests.tiny import save_text_folder
from tests.trainer.features.feature_setup import IMAGES_OF_ARTICLES, save_backbones, write_msmo
from tests.trainer.training_setup import write_settings
from trainer.building import build_trainer
from trainer.cache_features import main as cache_features
from trainer.objectives.dpp_teacher import DPPTeacher
from trainer.spectra_trainer import SpectraTrainer
from trainer.train import parse_arguments

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("float64")
# The towers run on the same images as the cache's then, one article at a time: in bf16 nothing but equal is near.
SAME_IMAGES = ("--per_device_train_batch_size", "1", "--per_device_eval_batch_size", "1", "--max_images", "6")


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_backbones(tmp_path_factory.mktemp("backbones"))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, DatasetDict]]:
    folder = tmp_path_factory.mktemp("data")
    write_msmo(folder / "msmo")
    world = closed_world_dataset({"train": 12, "validation": 3, "test": 3}, seed=5)
    msmo = load_msmo(folder / "msmo", cache_dir=folder / "cache")
    return {"closed_world": ("closed_world", world), "msmo": (str(folder / "msmo"), msmo)}


@pytest.fixture
def make_trainer(tmp_path: Path, datasets, backbones) -> Callable[..., SpectraTrainer]:
    config = write_settings(tmp_path / "config.yaml", max_steps=3, dtype="auto")

    def make(cache: str, *argv: str, data: str = "closed_world", vision: str = "siglip") -> SpectraTrainer:
        common = ["--config", str(config), "--output_dir", str(tmp_path / "run"), "--dataset", datasets[data][0]]
        common += ["--vision_backbone", backbones[vision], "--text_backbone", backbones["text"]]
        common += ["--cache", cache, "--cache_dir", str(tmp_path / "cache")]
        return build_trainer(*parse_arguments([*common, *argv]), datasets[data][1])

    return make


def losses(trainer: SpectraTrainer) -> list[dict[str, float]]:
    trainer.train()
    names = ("loss", "loss_lm", "loss_align", "loss_distill", "grad_norm", "teacher_spread")
    # One article alone may have no two images to tell the spread of.
    return [
        {name: entry[name] for name in names if name in entry}
        for entry in trainer.state.log_history
        if "loss_lm" in entry
    ]


# All that reads captions.
TEXTS = ("--captions", "prompt", "--vrp_image_texts", "true", "--teacher_text_scale", "0.5")


@pytest.mark.parametrize(
    ("data", "vision", "options"),
    [
        ("closed_world", "siglip", ()),
        pytest.param("msmo", "siglip", ("--bf16", "true", *SAME_IMAGES), marks=pytest.mark.float32),
        ("msmo", "clip", ("--teacher_long_summary", "truncate")),
        ("msmo", "siglip", ("--fusion", "concat", "--vrp_context", "none")),
        ("msmo", "siglip", TEXTS),
        ("msmo", "siglip", ("--fusion", "concat", *TEXTS)),
        ("msmo", "siglip", ("--use_peft", "true", "--lora_r", "2", "--freeze_language_model", "true")),
    ],
)
def test_losses_from_the_cache_are_those_without_it(make_trainer, data, vision, options):
    expected = losses(make_trainer("none", *options, data=data, vision=vision))
    assert len(expected) == 3 and all(min(entry.values()) > 0 for entry in expected)
    assert any("teacher_spread" in entry for entry in expected)
    for cache in ("embeddings", "patches"):
        found = losses(make_trainer(cache, *options, data=data, vision=vision))
        for step, entry in zip(expected, found, strict=True):
            assert entry == pytest.approx(step, rel=1e-9), cache


@pytest.mark.parametrize("cache", ["embeddings", "patches"])
def test_evaluation_from_the_cache_is_that_without_it(make_trainer, datasets, cache):
    _, records = datasets["msmo"]
    expected, found = (
        make_trainer(kind, data="msmo").evaluate(records["test"], metric_key_prefix="test") for kind in ("none", cache)
    )
    compared = {name for name in expected if not any(part in name for part in ("runtime", "per_second", "time"))}
    assert {"test_loss", "test_loss_align", "test_loss_distill", "test_rougeL"} <= compared
    assert {name: found[name] for name in compared} == pytest.approx(
        {name: expected[name] for name in compared}, rel=1e-9
    )


def test_with_a_full_cache_nothing_is_loaded_decoded_or_run_that_is_cached(make_trainer, monkeypatch):
    for cache in ("embeddings", "patches"):
        make_trainer(cache, data="msmo")

    def refuse(*arguments, **keywords):
        raise AssertionError("needed, although everything is cached")

    monkeypatch.setattr(trainer.building, "build_teacher", refuse)
    seen = {}
    for cache in ("embeddings", "patches"):
        if cache == "patches":
            monkeypatch.setattr("datasets.Image.decode_example", refuse)
            monkeypatch.setattr("modeling_spectra.processing_spectra.to_rgb", refuse)
        made = make_trainer(cache, "--predict_with_generate", "false", data="msmo", vision="siglip")
        assert made.teacher is None
        pixels = seen[cache] = []
        made.base_model.vision_tower.register_forward_pre_hook(
            lambda tower, inputs, pixels=pixels: pixels.append(inputs[0])
        )
        made.train()
        made.evaluate()
    assert seen["patches"] == []
    # Per article at most the three images that the summarizer sees; a batch without any runs one blank image.
    assert sum(map(len, seen["embeddings"])) <= 3 * sum(map(bool, IMAGES_OF_ARTICLES["train_data"])) + 3 * 3


@pytest.mark.parametrize("cache", ["embeddings", "patches"])
def test_what_does_not_fit_on_the_disk_is_refused_before_anything_is_computed(
    make_trainer, tmp_path, monkeypatch, cache
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9 - 900, 900))
    with pytest.raises(ValueError, match=f"cache_dir {tmp_path}/cache: the features need"):
        make_trainer(cache)
    assert not list((tmp_path / "cache").glob("*/*.safetensors"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--cache", "patches"), "cache 'patches' needs cache_dir"),
        (("--cache", "embeddings", "--cache_dir", "c", "--use_images", "false"), "with use_images false"),
    ],
)
def test_what_cannot_be_cached_is_refused(argv, message, tmp_path):
    common = ["--dataset", "closed_world", "--closed_world_backbones", "b", "--use_cpu", "true"]
    with pytest.raises(ValueError, match=message):
        parse_arguments([*common, "--output_dir", str(tmp_path), *argv])


def test_a_trained_tower_is_refused(make_trainer, monkeypatch):
    def train_all(model, **kwargs):
        model.requires_grad_(True)

    monkeypatch.setattr(trainer.building, "set_trainable", train_all)
    with pytest.raises(ValueError, match="the vision tower is trained"):
        make_trainer("embeddings")


def test_without_a_teacher_images_alone_are_cached(make_trainer, tmp_path):
    options = ("--align_weight", "0", "--distill_weight", "0")
    expected, *found = (
        [entry["loss"] for entry in made.state.log_history if "loss_lm" in entry]
        for made in (make_trainer(cache, *options) for cache in ("none", "embeddings", "patches"))
        if made.train()
    )
    for values in found:
        assert values == pytest.approx(expected, rel=1e-9) and len(values) == 3
    stored = {name for path in (tmp_path / "cache").glob("*/*.safetensors") for name in load_file(path)}
    assert {"image_embeds", "patches"} <= stored and not {"marginals", "sentence_embeds"} & stored


# ---------------------------------------------------------------------------------------------- the command


@pytest.mark.float32
def test_the_command_fills_what_qlora_then_finds(make_trainer, tmp_path, datasets, backbones, monkeypatch):
    options = ("--use_peft", "true", "--load_in_4bit", "true", "--lora_r", "2", "--freeze_language_model", "true")
    # bitsandbytes needs multiples of 64.
    text = save_text_folder(tmp_path / "text", hidden_size=64, intermediate_size=128)
    options += ("--bf16", "true", "--text_backbone", str(text))
    arguments = ["--config", str(tmp_path / "config.yaml"), "--output_dir", str(tmp_path / "other")]
    arguments += ["--dataset", datasets["msmo"][0], "--vision_backbone", backbones["siglip"]]
    arguments += ["--cache_dir", str(tmp_path / "cache")]
    cache_features([*arguments, *options])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/*.safetensors")}
    assert len(before) == 3
    monkeypatch.setattr(DPPTeacher, "__init__", None)
    made = make_trainer("embeddings", *options, data="msmo")
    assert made.base_model.is_loaded_in_4bit and len(losses(made)) == 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/*.safetensors")} == before


def test_the_command_fills_with_two_processes_what_training_then_finds(
    make_trainer, tmp_path, datasets, backbones, monkeypatch
):
    command = [*LAUNCHER, "--multi_gpu", "--num_processes", "2"]
    command += ["--main_process_port", "0", str(ROOT / "trainer" / "cache_features.py")]
    arguments = ["--config", str(tmp_path / "config.yaml"), "--output_dir", str(tmp_path / "other")]
    arguments += ["--dataset", datasets["msmo"][0], "--vision_backbone", backbones["siglip"]]
    arguments += ["--text_backbone", backbones["text"], "--cache_dir", str(tmp_path / "cache")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = run([*command, *arguments], tmp_path, environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("the features of 11 articles are in") == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/*.safetensors")}
    assert len(before) == 3
    cache_features(arguments)
    monkeypatch.setattr(DPPTeacher, "__init__", None)
    make_trainer("embeddings", data="msmo")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*/*.safetensors")} == before
