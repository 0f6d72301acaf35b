"""The command line of training: every config parses, and what cannot work is refused before any work."""

import logging
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from modeling_spectra import SpectraSumConfig
from tests.tiny import tiny_processor
from trainer.arguments import DERIVED_FIELDS, ArchitectureArguments
from trainer.data import count_excess_images, drop_oversized
from trainer.train import checkpoint_to_resume, parse_arguments

CONFIGS = sorted((Path(__file__).parents[2] / "trainer" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config_opens_with_its_launch_line_and_parses(path):
    launch = path.read_text().splitlines()[0]
    assert launch.startswith("# accelerate launch ") and f"trainer/configs/{path.name}" in launch
    argv = ["--config", str(path), "--use_cpu", "true"]
    if "PATH_TO" in launch:
        argv += ["--dataset", str(path.parent)]
    data_args, architecture, args, model_args = parse_arguments(argv)
    assert args.max_steps > 0
    fields = {name: value for name, value in vars(architecture).items() if value is not None}
    text = {"num_hidden_layers": 30 if model_args.use_peft else 3, "hidden_size": 128, "num_attention_heads": 4}
    config = SpectraSumConfig(text_config={"model_type": "qwen2", **text}, **fields)
    assert config.gate_layers == fields["gate_layers"]


def test_every_field_of_the_configuration_is_an_argument():
    assert set(ArchitectureArguments.__dataclass_fields__) == set(SpectraSumConfig.__annotations__) - DERIVED_FIELDS


def test_command_line_wins_over_the_config():
    path = next(path for path in CONFIGS if path.name == "closed_world.yaml")
    argv = ["--config", str(path), "--use_cpu", "true", "--fusion", "sampler", "--gate_layers", "2", "3"]
    _, architecture, args, _ = parse_arguments([*argv, "--max_steps", "7"])
    assert (architecture.fusion, architecture.gate_layers, args.max_steps) == ("sampler", [2, 3], 7)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dataset", "closed_world"], "no language model"),
        (["--dataset", "closed_world", "--text_backbone", "t"], "no vision tower"),
        (["--dataset", "nowhere", "--text_backbone", "t", "--vision_backbone", "v"], "'nowhere' is neither"),
        (["--dataset", "closed_world", "--model_name_or_path", "m", "--text_backbone", "t"], "not both"),
        (["--dataset", "trainer", "--closed_world_backbones", "b"], "belongs to dataset: closed_world"),
        (["--dataset", "closed_world", "--closed_world_backbones", "b", "--load_in_4bit", "true"], "load_in_4bit"),
        (["--dataset", "closed_world", "--closed_world_backbones", "b", "--model_revision", "x"], "model_revision"),
        (
            ["--dataset", "closed_world", "--closed_world_backbones", "b", "--use_peft", "true"]
            + ["--freeze_language_model", "false"],
            "use_peft",
        ),
    ],
)
def test_impossible_combinations_are_refused(argv, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parse_arguments([*argv, "--output_dir", str(tmp_path), "--use_cpu", "true"])


def test_resuming_names_the_checkpoint_or_the_problem(tmp_path):
    common = ["--dataset", "closed_world", "--closed_world_backbones", "b", "--use_cpu", "true"]
    common += ["--output_dir", str(tmp_path)]
    fresh = parse_arguments(common)[2]
    assert checkpoint_to_resume(fresh) is None
    latest = parse_arguments([*common, "--resume_from_checkpoint", "latest"])[2]
    with pytest.raises(ValueError, match="no checkpoint in"):
        checkpoint_to_resume(latest)
    for step in (2, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert checkpoint_to_resume(latest) == str(tmp_path / "checkpoint-10")
    named = parse_arguments([*common, "--resume_from_checkpoint", str(tmp_path / "checkpoint-2")])[2]
    assert checkpoint_to_resume(named) == str(tmp_path / "checkpoint-2")
    with pytest.raises(ValueError, match="resume_from_checkpoint latest to go on"):
        checkpoint_to_resume(fresh)
    with pytest.raises(ValueError, match="there is no folder"):
        checkpoint_to_resume(parse_arguments([*common, "--resume_from_checkpoint", "missing"])[2])


def test_images_beyond_the_limit_are_counted():
    records = Dataset.from_dict({"images": [[1, 2, 3, 4], [], [1], [1, 2, 3]]})
    assert count_excess_images(records, 2) == 3
    assert count_excess_images(records, 4) == 0


def test_architecture_arguments_default_to_the_configuration():
    assert all(value is None for value in vars(ArchitectureArguments()).values())


def test_articles_whose_summary_fills_the_limit_are_left_out_and_counted(caplog):
    processor = tiny_processor()
    long = ["word " * 60]
    split = Dataset.from_dict({"title": ["a", "b", "c"], "summary": [["Short."], long, ["Short too."]]})
    logging.getLogger("trainer").addHandler(caplog.handler)
    kept = drop_oversized(DatasetDict({"train": split}), processor, 80)["train"]
    logging.getLogger("trainer").removeHandler(caplog.handler)
    assert kept["title"] == ["a", "c"]
    assert "1 of 3 train articles are left out" in caplog.text
    with pytest.raises(ValueError, match="no train article fits into max_length=80"):
        drop_oversized(DatasetDict({"train": split.select([1])}), processor, 80)


def test_resuming_passes_over_a_half_written_checkpoint(tmp_path):
    common = ["--dataset", "closed_world", "--closed_world_backbones", "b", "--use_cpu", "true"]
    latest = parse_arguments([*common, "--output_dir", str(tmp_path), "--resume_from_checkpoint", "latest"])[2]
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text("{}")
    assert checkpoint_to_resume(latest) == str(tmp_path / "checkpoint-2")
