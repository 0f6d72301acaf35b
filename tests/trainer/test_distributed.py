"""DDP and FSDP2 with their accelerate configs, two gloo processes each: killed, resumed, and the same as one process.

Each optimizer step takes one article of each process. In one of the steps that of the second process has no images.
"""

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
import yaml
from accelerate import FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from modeling_spectra import SpectraSumForConditionalGeneration
from spectra_sum.models.loading import load_model
from tests.double_precision import EXACT, double_precision
from tests.forked_process import LAUNCHER, ForkedProcess, run
from tests.tiny import SENTENCES, picture, tiny_model
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.building import build_trainer
from trainer.data import load_records
from trainer.sharding import layer_classes, prepare_sharding, unsharded
from trainer.train import parse_arguments

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "trainer" / "configs" / "accelerate"
SETTINGS = {
    "max_images": 2,
    "max_candidate_images": 4,
    "align_weight": 0.1,
    # Each term of L_align is near log 2 then.
    "alignment_temperature": 1.0,
    "distill_weight": 1.0,
    "freeze_language_model": None,
    "per_device_eval_batch_size": 1,
    "save_strategy": "steps",
    "save_steps": 2,
    "max_steps": 4,
    # The first steps of Adam are the signs of gradients: those that are nothing but rounding would make the runs differ.
    "adam_epsilon": 0.001,
    "lr_scheduler_type": "constant",
    # Of the backbones, which are in float64.
    "dtype": "auto",
}
# A gate with an α per channel is sharded as well.
# In the second step a gradient of the second process overflows.
OVERFLOWING = """
import os, sys
import trainer.train
from trainer.spectra_trainer import SpectraTrainer

training_step = SpectraTrainer.training_step

def overflowing(self, model, *args, **kwargs):
    loss = training_step(self, model, *args, **kwargs)
    if os.environ["RANK"] == "1" and self.state.global_step == 1:
        shards = (value.grad.to_local() for value in model.parameters() if value.grad is not None)
        next(shard for shard in shards if shard.numel()).fill_(float("inf"))
    return loss

if __name__ == "__main__":
    SpectraTrainer.training_step = overflowing
    trainer.train.main(sys.argv[1:])
"""
WHOLE = ["--freeze_language_model", "false", "--gate_type", "channel"]
ADAPTERS = ["--use_peft", "true", "--lora_r", "4", "--lora_dropout", "0.0"]
TOWER = [*WHOLE, "--train_vision_tower", "all"]
REENTRANT = ["--activation_checkpointing", "true", "--activation_checkpointing_kwargs", '{"use_reentrant": true}']
OTHERWISE_REENTRANT = [*REENTRANT[:3], '{"use_reentrant": false}']
# Images per article; where the shuffled order puts a text-only one is asserted below.
IMAGES = {"train": [3, 0, 2, 1, 0, 2], "valid": [2, 0, 1], "test": [1, 3, 0]}


def write_articles(folder: Path) -> None:
    for split, counts in IMAGES.items():
        place = folder / f"{split}_data"
        for name in ("article", "img", "caption"):
            (place / name).mkdir(parents=True)
        for index, count in enumerate(counts):
            article = f"{split}{index}"
            body, summary = SENTENCES[index % 4], SENTENCES[(index + 1) % 4]
            text = f"@title\nShip {index}\n@body\n{body} {index}\n@summary\n{summary}\n"
            (place / "article" / f"{article}.txt").write_text(text)
            for number in range(count):
                picture(seed=10 * index + number).save(place / "img" / f"{article}_{number}.jpg")
        if split == "test":
            gold = [f"test{index}_0.jpg" if count else "None" for index, count in enumerate(counts)]
            (place / "image_annotation.txt").write_text("\n".join(gold) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    with double_precision():
        save_setup(folder, SETTINGS)
    write_articles(folder / "articles")
    return folder


def arguments(folder: Path, output: str, *argv: str) -> list[str]:
    return setup_arguments(folder, folder / output, "--dataset", str(folder / "articles"), *argv)


def train_in_one_process(folder: Path, output: str, *argv: str) -> SimpleNamespace:
    """What it logged, its metrics, its trained parameters, and the articles of its steps with whether they have images."""
    parsed = parse_arguments(arguments(folder, output, "--per_device_train_batch_size", "2", *argv))
    records = load_records(parsed[0])
    steps = []
    with double_precision():
        trainer = build_trainer(*parsed, records)
        collate = trainer.data_collator

        def recording(batch):
            steps.append([(record["id"], bool(record["images"])) for record in batch])
            return collate(batch)

        trainer.data_collator = recording
        trainer.train()
        metrics = trainer.evaluate(records["test"], metric_key_prefix="test")
    trained = {name: value.detach() for name, value in trainer.model.named_parameters() if value.requires_grad}
    return SimpleNamespace(log=trainer.state.log_history, metrics=metrics, trained=trained, steps=steps[:4])


@pytest.fixture(scope="module")
def whole(folder) -> SimpleNamespace:
    return train_in_one_process(folder, "whole", *WHOLE)


@pytest.fixture(scope="module")
def adapters(folder) -> SimpleNamespace:
    return train_in_one_process(folder, "adapters", *ADAPTERS)


@pytest.fixture(scope="module")
def tower(folder) -> SimpleNamespace:
    return train_in_one_process(folder, "tower", *TOWER)


def launch(folder: Path, config: str, output: str, *argv: str, kill: bool = False) -> None:
    """A training in two processes; with `kill` all are killed once the checkpoint of step 2 is there."""
    command = [*LAUNCHER, "--config_file", str(CONFIGS / config)]
    command += ["--num_processes", "2", str(ROOT / "tests" / "double_precision.py")]
    command += arguments(folder, output, "--per_device_train_batch_size", "1", *argv)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    log = folder / f"{output}.log"
    process = ForkedProcess(command, folder, environment, log, log)
    deadline = time.monotonic() + 300
    while kill and process.poll() is None and not (folder / output / "checkpoint-2/trainer_state.json").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if kill:
        assert process.poll() is None, log.read_text()[-3000:]
        # Those that the launcher starts outlive it otherwise.
        for victim in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            victim.kill()
        process.wait()
        assert not (folder / output / "metrics.json").exists()
        for checkpoint in (folder / output).glob("checkpoint-[!2]*"):
            shutil.rmtree(checkpoint)
    else:
        assert process.wait(300) == 0, log.read_text()[-3000:]


def assert_same_run(folder: Path, output: str, expected: SimpleNamespace) -> None:
    """Losses, gates and gradients of each step, and losses and scores of the summaries that a sharded model writes, too."""
    log = json.loads((folder / output / "trainer_state.json").read_text())["log_history"]
    steps = [(one, two) for one, two in zip(expected.log, log, strict=False) if "loss" in one]
    assert len(steps) == 4 and [two["step"] for _, two in steps] == [1, 2, 3, 4]
    for one, two in steps:
        names = {name for name in one if name.startswith(("loss", "grad_norm", "gate", "vrp"))}
        assert {"loss", "loss_lm", "loss_align", "loss_distill", "grad_norm", "gate_1", "gate_3"} <= names
        for name in names:
            assert two[name] == pytest.approx(one[name], rel=1e-9, abs=1e-9), (name, one["step"])
    # The negatives of the steps before make most of it: three terms instead of one, in one article with images of two.
    assert steps[3][1]["loss_align"] > steps[0][1]["loss_align"]
    metrics = json.loads((folder / output / "metrics.json").read_text())
    compared = {name for name in expected.metrics if not any(part in name for part in ("runtime", "per_second"))}
    assert {"test_loss", "test_loss_align", "test_rougeL", "test_image_precision"} <= compared
    for name in compared:
        assert metrics[name] == pytest.approx(expected.metrics[name], rel=1e-9), name


def assert_loads_in_one_process(folder: Path, expected: SimpleNamespace) -> None:
    """Its trained parameters are those of the run in one process, and its files those that a repository needs."""
    adapter = (folder / "adapter_config.json").is_file()
    model = load_model(str(folder), merge=False).model
    assert isinstance(model.get_base_model() if adapter else model, SpectraSumForConditionalGeneration)
    loaded = dict(model.named_parameters())
    assert expected.trained.keys() <= loaded.keys()
    for name, value in expected.trained.items():
        torch.testing.assert_close(loaded[name].detach(), value, **EXACT, msg=name)
    if not adapter:
        config = json.loads((folder / "config.json").read_text())
        assert config["architectures"] == ["SpectraSumForConditionalGeneration"]
        assert config["auto_map"]["AutoModel"] == "modeling_spectra.SpectraSumForConditionalGeneration"
        source = (folder / "modeling_spectra.py").read_bytes()
        assert source == (ROOT / "modeling_spectra" / "modeling_spectra.py").read_bytes()


def test_in_some_steps_one_process_has_no_images(whole, adapters):
    assert whole.steps == adapters.steps
    have_images = [[has for _, has in step] for step in whole.steps]
    assert have_images == [[True, True], [True, False], [False, True], [False, True]]


def test_ddp_with_adapters_and_reentrant_checkpointing_killed_and_resumed(folder, adapters):
    launch(folder, "ddp.yaml", "ddp", *ADAPTERS, *REENTRANT, kill=True)
    launch(folder, "ddp.yaml", "ddp", *ADAPTERS, *REENTRANT, "--resume_from_checkpoint", "latest")
    assert_same_run(folder, "ddp", adapters)
    assert_loads_in_one_process(folder / "ddp/checkpoint-4", adapters)


def test_fsdp2_killed_and_resumed(folder, whole):
    launch(folder, "fsdp2.yaml", "fsdp", *WHOLE, kill=True)
    # Sharded, and not silently the same model in both processes.
    assert (folder / "fsdp/checkpoint-2/pytorch_model_fsdp.bin").is_file()
    launch(folder, "fsdp2.yaml", "fsdp", *WHOLE, "--resume_from_checkpoint", "latest")
    assert_same_run(folder, "fsdp", whole)
    assert_loads_in_one_process(folder / "fsdp/checkpoint-4", whole)
    assert_loads_in_one_process(folder / "fsdp", whole)


@pytest.mark.parametrize("config", ["ddp.yaml", "fsdp2.yaml"])
def test_a_trained_vision_tower_and_its_frozen_copy(config, folder, tower):
    assert any(name.startswith("vision_tower.") for name in tower.trained), sorted(tower.trained)
    output = f"tower_{Path(config).stem}"
    launch(folder, config, output, *TOWER)
    assert_same_run(folder, output, tower)
    assert_loads_in_one_process(folder / output, tower)


def test_fsdp2_with_adapters_and_checkpointing(folder, adapters):
    launch(folder, "fsdp2.yaml", "fsdp_adapters", *ADAPTERS, *OTHERWISE_REENTRANT)
    assert (folder / "fsdp_adapters/checkpoint-2/pytorch_model_fsdp.bin").is_file()
    assert_same_run(folder, "fsdp_adapters", adapters)
    assert_loads_in_one_process(folder / "fsdp_adapters/checkpoint-4", adapters)
    assert_loads_in_one_process(folder / "fsdp_adapters", adapters)


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [
        ("concat", set()),
        ("sampler", {"VisionSamplerBlock"}),
        ("dvp", {"VisionSamplerBlock", "DeepVisualProcessorBlock"}),
    ],
)
def test_sharded_layers_are_those_of_the_model_but_for_the_gates(fusion, expected):
    backbones = {"Qwen2DecoderLayer", "SiglipEncoderLayer", "SiglipVisionEmbeddings"}
    backbones |= {"SiglipMultiheadAttentionPoolingHead"}
    assert set(layer_classes(tiny_model(fusion))) == backbones | expected


def sharded(**fields) -> SimpleNamespace:
    """What `prepare_sharding` reads of an accelerator that shards."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
    )
    return SimpleNamespace(
        **{"state": SimpleNamespace(fsdp_plugin=plugin), "is_fsdp2": True, "mixed_precision": "no", **fields}
    )


def test_what_cannot_be_sharded_is_refused_and_the_rest_is_set_up():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).bfloat16())
    with pytest.raises(ValueError, match=r"set fsdp_version: 2 as in configs/accelerate/fsdp2\.yaml"):
        prepare_sharding(sharded(is_fsdp2=False), model, "adamw_torch")
    accelerator = sharded()
    accelerator.state.fsdp_plugin.cpu_ram_efficient_loading = True
    with pytest.raises(ValueError, match="fsdp_cpu_ram_efficient_loading: set it to false"):
        prepare_sharding(accelerator, model, "adamw_torch")
    with pytest.raises(ValueError, match="optim: Adafactor does not work on the shards of FSDP2"):
        prepare_sharding(sharded(), model, "adafactor")
    with pytest.raises(ValueError, match=r"these have \['torch.bfloat16', 'torch.float32'\]: pass --bf16 true"):
        prepare_sharding(sharded(), model, "adamw_torch")
    model[1].requires_grad_(False)
    for dtype in (torch.float32, torch.float64):
        model[0].to(dtype)
        accelerator = sharded()
        prepare_sharding(accelerator, model, "adamw_torch")
        policy = accelerator.state.fsdp_plugin.mixed_precision_policy
        assert (policy.param_dtype, policy.output_dtype, policy.reduce_dtype) == (None, None, dtype)


def test_what_stayed_gathered_after_a_forward_pass_does_so_after_unsharded():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        fully_shard(model[0], mesh=mesh)
        # As accelerate does with the end of the language model.
        fully_shard(model[1], mesh=mesh, reshard_after_forward=False)
        fully_shard(model, mesh=mesh)

        def sharded_after_a_step() -> list[bool]:
            output = model(torch.ones(1, 2))
            found = [isinstance(layer.weight, DTensor) for layer in model]
            output.sum().backward()
            return found

        before = sharded_after_a_step()
        assert before == [True, False, False]
        with unsharded(model):
            assert not any(isinstance(layer.weight, DTensor) for layer in model)
            model(torch.ones(1, 2))
            assert not any(isinstance(layer.weight, DTensor) for layer in model)
        assert all(isinstance(layer.weight, DTensor) for layer in model)
        assert sharded_after_a_step() == before
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["ddp.yaml", "fsdp2.yaml"])
def test_accelerate_configs_open_with_their_launch_line(name):
    launch_line = (CONFIGS / name).read_text().splitlines()[0]
    assert launch_line.startswith(
        f"# accelerate launch --config_file trainer/configs/accelerate/{name} trainer/train.py"
    )
    assert yaml.safe_load((CONFIGS / name).read_text())["num_processes"] == 2


def test_a_shard_s_gradient_that_is_no_number_stops_all_processes(folder, whole):
    """The norm is that of all shards: nobody waits for a process that has stopped."""
    (folder / "overflowing.py").write_text(OVERFLOWING)
    command = [*LAUNCHER, "--config_file", str(CONFIGS / "fsdp2.yaml")]
    command += ["--num_processes", "2", str(folder / "overflowing.py")]
    command += arguments(folder, "overflow", "--per_device_train_batch_size", "1", "--dtype", "float32", *WHOLE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = run(command, folder, environment)
    assert done.returncode == 1
    articles = ", ".join(article for article, _ in whole.steps[1])
    message = f"FloatingPointError: the gradient's norm is inf after 1 steps, on the articles {articles}; the last"
    assert done.stderr.count(message) == 2, done.stderr[-3000:]
    assert not list((folder / "overflow").glob("checkpoint-*"))
