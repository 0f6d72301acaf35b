"""Which checkpoint a training goes on from: the newest one that is whole, and what is wrong with the others is said."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch.distributed import checkpoint as distributed_checkpoint

from modeling_spectra import SpectraSumForConditionalGeneration
from spectra_sum.models.loading import load_model
from tests.tiny import tiny_model
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.building import build_trainer
from trainer.checkpoints import resuming
from trainer.checkpoints.integrity import checkpoint_problem
from trainer.checkpoints.resuming import checkpoint_to_resume
from trainer.data import load_records
from trainer.spectra_trainer import SpectraTrainer
from trainer.train import parse_arguments

SETTINGS = {
    "closed_world_articles": 4,
    "closed_world_eval_articles": 1,
    "freeze_language_model": None,
    "save_strategy": None,
    "save_steps": 1,
}
FILES = (
    "config.json",
    "model.safetensors",
    "negative_queue.safetensors",
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "trainer_state.json",
)


def train(folder: Path, name: str, *options: str) -> Path:
    """A training's folder, with the checkpoints 1 and 2."""
    arguments = parse_arguments(setup_arguments(folder, folder / name, *options))
    build_trainer(*arguments, load_records(arguments[0])).train()
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_setup(tmp_path_factory.mktemp("resuming"), SETTINGS)


@pytest.fixture(scope="module")
def trained(folder) -> Path:
    return train(folder, "whole")


@pytest.fixture
def output(trained, tmp_path) -> Path:
    """A copy to damage."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def warnings(caplog):
    """The lines that are logged as warnings."""
    return lambda: [record.getMessage() for record in caplog.records if record.name == "trainer.checkpoints.resuming"]


def choose(output: Path, resume: str | None = "latest") -> str | None:
    argv = ["--dataset", "closed_world", "--closed_world_backbones", "b", "--use_cpu", "true"]
    argv += ["--resume_from_checkpoint", resume] if resume else []
    return checkpoint_to_resume(parse_arguments([*argv, "--output_dir", str(output)])[2])


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    """Garbage at the start, where a safetensors file has its header, and everywhere in a small file."""
    with path.open("r+b") as file:
        file.write(b"\xa5" * min(4096, path.stat().st_size))


def one_byte_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("damage", [Path.unlink, empty, cut_off, overwrite])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(output, name, damage):
    checkpoint = output / "checkpoint-2"
    assert checkpoint_problem(checkpoint) is None
    damage(checkpoint / name)
    assert checkpoint_problem(checkpoint).startswith(f"{name} ")


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".json")])
def test_the_last_byte_counts(output, name):
    one_byte_short(output / "checkpoint-2" / name)
    assert checkpoint_problem(output / "checkpoint-2").startswith(f"{name} is cut off or damaged (")


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth"])
def test_a_flipped_byte_in_an_archive_is_seen(output, name):
    path = output / "checkpoint-2" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert checkpoint_problem(path.parent).startswith(f"{name} is cut off or damaged (Bad CRC-32")


def test_adapters_are_checked(folder, tmp_path):
    trained = train(folder, "lora", "--use_peft", "true", "--lora_r", "2")
    for damage in (Path.unlink, cut_off, overwrite):
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            checkpoint = shutil.copytree(trained / "checkpoint-2", tmp_path / f"{damage.__name__}_{name}")
            assert checkpoint_problem(checkpoint) is None
            damage(checkpoint / name)
            assert checkpoint_problem(checkpoint).startswith(f"{name} ")


def test_the_base_of_an_earlier_run_is_kept_for_resuming_alone(folder):
    for resume in ("latest", "false"):
        output = train(folder, "bases", "--use_peft", "true", "--lora_r", "2", "--max_steps", "1") / "base"
        (output / "mark").write_text("of the run before")
        argv = setup_arguments(folder, output.parent, "--use_peft", "true", "--resume_from_checkpoint", resume)
        arguments = parse_arguments(argv)
        build_trainer(*arguments, load_records(arguments[0]))
        assert (output / "mark").is_file() == (resume == "latest")


def test_every_shard_of_a_large_model_is_checked(output):
    checkpoint = output / "checkpoint-2"
    (checkpoint / "model.safetensors").unlink()
    tiny_model().save_pretrained(checkpoint, max_shard_size="200KB")
    shards = sorted(checkpoint.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert checkpoint_problem(checkpoint) is None
    cut_off(shards[-1])
    assert checkpoint_problem(checkpoint).startswith(f"{shards[-1].name} is cut off")
    shards[0].unlink()
    assert checkpoint_problem(checkpoint) == f"{shards[0].name} is missing"


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_checkpoint_of_fsdp_needs_no_single_files(output):
    checkpoint = output / "checkpoint-2"
    for name in ("model.safetensors", "config.json", "optimizer.pt"):
        (checkpoint / name).unlink()
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        writer = distributed_checkpoint.FileSystemWriter(checkpoint / name, single_file_per_rank=False)
        distributed_checkpoint.save({"one": torch.rand(100), "two": torch.rand(50)}, storage_writer=writer)
    assert checkpoint_problem(checkpoint) is None
    first, second = sorted((checkpoint / "optimizer_0").glob("*.distcp"))
    one_byte_short(second)
    assert checkpoint_problem(checkpoint).startswith(f"optimizer_0/{second.name} is cut off (")
    first.unlink()
    assert checkpoint_problem(checkpoint) == f"optimizer_0/{first.name} is missing"
    cut_off(checkpoint / "pytorch_model_fsdp_0" / ".metadata")
    assert checkpoint_problem(checkpoint).startswith("pytorch_model_fsdp_0/.metadata is missing or damaged (")


def test_the_random_states_of_all_processes_are_needed(output):
    checkpoint = output / "checkpoint-2"
    for rank in range(3):
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    (checkpoint / "rng_state.pth").unlink()
    assert checkpoint_problem(checkpoint) is None
    (checkpoint / "rng_state_1.pth").unlink()
    assert checkpoint_problem(checkpoint) == "rng_state_1.pth is missing"
    (checkpoint / "rng_state_2.pth").unlink()
    # One process alone would have written no number.
    assert checkpoint_problem(checkpoint) == "rng_state_1.pth is missing"


def test_random_states_of_fewer_processes_are_said(output, warnings, monkeypatch):
    checkpoint = output / "checkpoint-2"
    for rank in range(4):
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    (checkpoint / "rng_state.pth").unlink()
    main_of_four = {"output_dir": str(output), "resume_from_checkpoint": "latest", "world_size": 4, "process_index": 0}
    monkeypatch.setattr(resuming, "broadcast_object_list", lambda decision: decision)
    assert checkpoint_to_resume(SimpleNamespace(**main_of_four)) == str(checkpoint)
    assert warnings() == []
    (checkpoint / "rng_state_3.pth").unlink()
    assert checkpoint_to_resume(SimpleNamespace(**main_of_four)) == choose(output, str(checkpoint)) == str(checkpoint)
    told = f"and {checkpoint} has the random states of 3: "
    assert [line.partition(told)[0] for line in warnings()] == [
        f"the number of processes is {processes}, " for processes in (4, 1)
    ]


def test_the_newest_sound_checkpoint_is_taken_and_one_line_says_why(output, warnings):
    # Ten is newer than two, though not as text.
    shutil.copytree(output / "checkpoint-2", output / "checkpoint-10")
    shutil.copytree(output / "checkpoint-2", output / "checkpoint-11")
    assert choose(output) == str(output / "checkpoint-11")
    assert warnings() == []
    (output / "checkpoint-11" / "trainer_state.json").unlink()
    cut_off(output / "checkpoint-10" / "model.safetensors")
    before = {path.name: path.read_bytes() for path in (output / "checkpoint-10").iterdir()}
    assert choose(output) == str(output / "checkpoint-2")
    (line,) = warnings()
    assert "checkpoint-11 (trainer_state.json is missing), cut off while it was written, is removed" in line
    assert "checkpoint-10 (model.safetensors is cut off or damaged" in line
    assert line.endswith(f"the training goes on from {output / 'checkpoint-2'}.")
    # Nothing that the Trainer would count when it deletes old checkpoints.
    assert {path.name for path in output.glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-2"}
    kept = output / "unusable-checkpoint-10"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


def test_a_checkpoint_that_is_named_is_taken_or_refused(output):
    assert choose(output, str(output / "checkpoint-2")) == str(output / "checkpoint-2")
    empty(output / "checkpoint-2" / "optimizer.pt")
    message = rf"checkpoint-2 is damaged: optimizer.pt .*; the newest sound one is {output / 'checkpoint-1'}\."
    with pytest.raises(ValueError, match=message):
        choose(output, str(output / "checkpoint-2"))
    with pytest.raises(ValueError, match="there is no folder missing"):
        choose(output, "missing")
    assert (output / "checkpoint-2").is_dir()


def test_what_is_newer_than_a_named_checkpoint_is_set_aside_and_latest_is_of_the_training_that_went_on(
    output, warnings
):
    first, second, tenth = (output / f"checkpoint-{step}" for step in (1, 2, 10))
    shutil.copytree(second, tenth)
    abandoned = {path.name: path.read_bytes() for path in tenth.iterdir()}
    assert choose(output, str(first)) == str(first)
    assert warnings() == [
        f"the training goes on from {first}, and other checkpoints are set aside: checkpoint-10 is renamed to "
        "abandoned-1-checkpoint-10, checkpoint-2 is renamed to abandoned-1-checkpoint-2."
    ]
    aside = output / "abandoned-1-checkpoint-10"
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == abandoned
    # Stopped in the next step.
    shutil.copytree(output / "abandoned-1-checkpoint-2", second)
    assert choose(output) == str(second)
    # Abandoned a second time, and back to the first.
    assert choose(output, str(first)) == str(first)
    assert choose(output, str(aside)) == str(aside)
    # From now on the first is of another training, too: it must not be the latest when this one is killed.
    kept = {f"abandoned-{name}" for name in ("1-checkpoint-10", "1-checkpoint-2", "2-checkpoint-2", "1-checkpoint-1")}
    assert {path.name for path in output.glob("*checkpoint-*")} == kept
    with pytest.raises(ValueError, match="there is no checkpoint in"):
        choose(output)


def test_without_a_sound_checkpoint_nothing_is_resumed_or_touched(output, tmp_path):
    with pytest.raises(ValueError, match="there is no checkpoint in"):
        choose(tmp_path / "new")
    for step in (1, 2):
        (output / f"checkpoint-{step}" / "scheduler.pt").unlink()
    with pytest.raises(ValueError, match=r"checkpoint-2 \(scheduler.pt is missing\), checkpoint-1 \(scheduler.pt is"):
        choose(output)
    assert (output / "checkpoint-1").is_dir() and (output / "checkpoint-2").is_dir()


def test_a_folder_with_checkpoints_starts_nothing_anew(output, tmp_path):
    assert choose(tmp_path / "new", None) is None
    with pytest.raises(ValueError, match=r"checkpoint-2 exists: pass --resume_from_checkpoint latest to go on"):
        choose(output, None)
    # A first checkpoint that was never finished holds nothing to go on from.
    for step in (1, 2):
        (output / f"checkpoint-{step}" / "trainer_state.json").unlink()
    assert choose(output, None) is None


def test_a_checkpoint_that_was_being_written_again_gets_its_name_back(output, warnings, caplog):
    checkpoint, replaced = output / "checkpoint-2", output / ".checkpoint-2.replaced"
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    named = str(checkpoint)
    for resume, torn in (("latest", False), ("latest", True), (named, False), (named, True)):
        checkpoint.rename(replaced)
        if torn:
            checkpoint.mkdir()
            (checkpoint / "model.safetensors").write_bytes(b"cut")
        assert choose(output, resume) == named
        assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before
        assert not replaced.exists()
        assert len(warnings()) == 1
        assert ("checkpoint-2 (trainer_state.json is missing), cut off while it was written" in warnings()[0]) == torn
        caplog.clear()
    # Nor does a new training overlook it.
    checkpoint.rename(replaced)
    with pytest.raises(ValueError, match="checkpoint-2 exists"):
        choose(output, None)
    # Killed after the new one was finished: the older one is left over.
    shutil.copytree(output / "checkpoint-1", replaced)
    assert choose(output) == named
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before
    assert not replaced.exists()


def test_weights_of_another_model_do_not_stay_beside_a_new_one(folder, tmp_path):
    def build(*options: str) -> SpectraTrainer:
        arguments = parse_arguments(setup_arguments(folder, tmp_path, *options))
        return build_trainer(*arguments, load_records(arguments[0]))

    def of_a_model() -> set[str]:
        return {path.name for pattern in ("*.safetensors*", "*config.json") for path in tmp_path.glob(pattern)}

    trainer = build()
    save_file({"a": torch.zeros(1)}, tmp_path / "model-00001-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("of the user")
    trainer.save_model()
    whole = of_a_model()
    assert {"config.json", "model.safetensors"} <= whole
    assert {name for name in whole if "safetensors" in name} == {"model.safetensors"}
    assert (tmp_path / "notes.txt").is_file()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    build("--use_peft", "true", "--lora_r", "2").save_model()
    assert {"adapter_config.json", "adapter_model.safetensors"} <= of_a_model()
    assert not {"config.json", "model.safetensors"} & of_a_model()
    assert isinstance(load_model(str(tmp_path), merge=False).model, PeftModel)
    trainer.save_model()
    assert of_a_model() == whole
    assert isinstance(load_model(str(tmp_path)).model, SpectraSumForConditionalGeneration)
