"""The command line of training: every config parses, and what cannot work is refused before any work."""

import json
import logging
import re
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, DatasetDict
from transformers import InstructBlipQFormerConfig, InstructBlipVisionConfig

from modeling_spectra import SpectraSumConfig
from modeling_spectra.instructblip import OWN_FIELDS
from tests.tiny import save_text_folder, save_vision_folder, tiny_processor
from trainer.arguments import DERIVED_FIELDS, ArchitectureArguments
from trainer.building import build_trainer
from trainer.checkpoints.run_record import write_run_record
from trainer.data import count_excess_images, drop_oversized, load_records
from trainer.train import parse_arguments
from trainer.trainable import lora_config

FOLDER = Path(__file__).parents[2] / "trainer" / "configs"
CONFIGS = sorted(FOLDER.glob("*.yaml"))
MATRIX = FOLDER / "matrix" / "overhead_variants.yaml"
# Of the language model that each config is for.
DEPTHS = {
    "closed_world": 3,
    "linked_pairs": 30,
    "sam_instructblip_7b": 32,
    "smollm2_lora": 30,
    "openstax_pictures": 30,
    "openstax_smollm2": 30,
    "adapter_openstax": 30,
    "llava_onevision_0_5b": 24,
    "llava_onevision_7b_qlora": 28,
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config_opens_with_its_launch_line_and_parses(path, monkeypatch):
    # Whether its package is installed is not the question here.
    monkeypatch.setattr("trainer.command_line.parsing.check_text_encoder", lambda name: None)
    launch = path.read_text().splitlines()[0]
    assert launch.startswith("# accelerate launch ") and f"trainer/configs/{path.name}" in launch
    argv = ["--config", str(path), "--use_cpu", "true"]
    if "PATH_TO" in launch:
        argv += ["--dataset", str(path.parent)]
    _, architecture, args, _ = parse_arguments(argv)
    # Each says itself where its training ends.
    settings = yaml.safe_load(path.read_text())
    (end,) = {"max_steps", "num_train_epochs"} & settings.keys()
    assert getattr(args, end) > 0
    fields = {name: value for name, value in vars(architecture).items() if value is not None}
    if "model_name_or_path" in settings:
        # What goes on from a model leaves its architecture alone.
        assert fields.keys() <= {"align_weight", "distill_weight"}
        return
    text = {"num_hidden_layers": DEPTHS[path.stem], "hidden_size": 128, "num_attention_heads": 4}
    if "instructblip" in settings:
        # What the checkpoint decides.
        fields |= {
            **OWN_FIELDS,
            "vision_config": InstructBlipVisionConfig(),
            "qformer_config": InstructBlipQFormerConfig(),
        }
    config = SpectraSumConfig(text_config={"model_type": "qwen2", **text}, **fields)
    # An adapter stands in every layer where none are named.
    every = list(range(1, DEPTHS[path.stem] + 1))
    assert config.fusion == "concat" or config.gate_layers == fields.get("gate_layers", every)
    assert config.guidance_span == tuple(fields.get("guidance_layers") or [config.sampler_layers] * 2)


def test_the_rows_of_the_overhead_table_are_trained_by_their_launch_lines():
    text = MATRIX.read_text()
    matrix = yaml.safe_load(text)
    # A row of the paper's table, and the arguments that train it (§7).
    lines = [line[2:].strip() for line in text.splitlines() if line.startswith("#   ")]
    launched = {line.partition(" --")[0].strip(): line[line.index("--") :].split() for line in lines}
    paths = {"OneVision": "concat", "Vision Sampler": "sampler", "DVP": "dvp"}
    paths |= {"MM-OV": "concat", "MM-Vision Sampler": "sampler", "MM-DVP": "dvp"}
    assert list(matrix["variants"]) == list(launched) == list(paths)
    common = ["--config", str(FOLDER / "llava_onevision_7b_qlora.yaml"), "--dataset", str(FOLDER), "--use_cpu", "true"]
    outputs = set()
    for name, fields in matrix["variants"].items():
        heads = (0.1, 1.0) if name.startswith("MM-") else (0.0, 0.0)
        assert (fields["fusion"], fields["align_weight"], fields["distill_weight"]) == (paths[name], *heads)
        _, architecture, args, _ = parse_arguments([*common, *launched[name]])
        fields = matrix["common"] | fields
        assert {field: getattr(architecture, field) for field in fields} == fields
        SpectraSumConfig(text_config={"model_type": "qwen2", "num_hidden_layers": 28}, **fields)
        outputs.add(args.output_dir)
    assert len(outputs) == 6


def test_the_paper_s_training_is_one_config():
    argv = ["--config", str(FOLDER / "llava_onevision_7b_qlora.yaml"), "--dataset", str(FOLDER), "--use_cpu", "true"]
    data_args, architecture, args, model_args = parse_arguments(argv)
    # §1 to §3 and §8; the rank, alpha and architecture are points of the published search space.
    assert data_args.llava_onevision == "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    assert (data_args.vision_backbone, data_args.max_length) == ("google/siglip-so400m-patch14-384", 2048)
    assert (architecture.max_images, architecture.max_selected_images) == (5, 3)
    assert (args.optim, args.bf16, args.per_device_train_batch_size) == ("adafactor", True, 1)
    assert (args.gradient_accumulation_steps, args.max_steps) == (1, 360_000)
    assert (args.load_best_model_at_end, args.metric_for_best_model) == (True, "eval_loss")
    assert not args.greater_is_better and args.eval_steps == args.save_steps
    assert model_args.load_in_4bit and model_args.bnb_4bit_quant_type == "nf4" and model_args.use_peft
    assert model_args.lora_r in (16, 32, 64) and model_args.lora_alpha in (64, 128)


def test_one_layer_for_lora_is_a_name():
    (*_, model_args) = parse_arguments(
        ["--dataset", "closed_world", "--closed_world_backbones", "b", "--use_cpu", "true", "--use_peft", "true"]
        + ["--lora_target_modules", "q_proj"]
    )
    pattern = re.compile(lora_config(model_args).target_modules)
    layers = [f"language_model.model.layers.0.self_attn.{name}_proj" for name in "qkvo"]
    assert [bool(pattern.fullmatch(layer)) for layer in layers] == [True, False, False, False]


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
        (
            ["--dataset", "nowhere", "--text_backbone", "t", "--vision_backbone", "v"],
            "dataset nowhere: there is no such file",
        ),
        (["--dataset", "closed_world", "--model_name_or_path", "m", "--text_backbone", "t"], "not both"),
        (["--dataset", "trainer", "--closed_world_backbones", "b"], "belongs to dataset: closed_world"),
        (["--dataset", "closed_world", "--closed_world_backbones", "b", "--load_in_4bit", "true"], "load_in_4bit"),
        (["--dataset", "closed_world", "--closed_world_backbones", "b", "--model_revision", "x"], "model_revision"),
        (
            ["--dataset", "closed_world", "--closed_world_backbones", "b", "--label_smoothing_factor", "0.1"],
            "label_smooth",
        ),
        (
            ["--dataset", "closed_world", "--closed_world_backbones", "b", "--use_peft", "true"]
            + ["--freeze_language_model", "false"],
            "use_peft",
        ),
        (["--extract_words", "99", "--text_encoder", "x"], "extract_words and text_encoder: for extracts alone; pass"),
        (["--long_documents", "select", "--extract_words", "0"], "extract_words is 0; pass at least 1"),
        (
            ["--long_documents", "select", "--text_encoder", "x"],
            "x: this is no sentence encoder; pass all-MiniLM-L6-v2",
        ),
    ],
)
def test_impossible_combinations_are_refused(argv, message, tmp_path):
    argv = argv if "--dataset" in argv else ["--dataset", "closed_world", "--closed_world_backbones", "b", *argv]
    with pytest.raises(ValueError, match=message):
        parse_arguments([*argv, "--output_dir", str(tmp_path), "--use_cpu", "true"])


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


def closed_world_arguments(output: Path, *more: str) -> tuple:
    argv = ["--dataset", "closed_world", "--closed_world_backbones", "b", "--use_cpu", "true"]
    return parse_arguments([*argv, "--output_dir", str(output), *more])


def test_the_run_s_record_says_what_defines_it_and_holds_no_token(tmp_path):
    options = ["--learning_rate", "0.003", "--seed", "11", "--gate_layers", "2", "3", "--max_steps", "5"]
    secret = ["--hub_token", "hf_" + "x" * 20, "--closed_world_seed", "4", "--closed_world_difficulty", "far"]
    arguments = closed_world_arguments(tmp_path / "run", *options, *secret)
    write_run_record(*arguments, {"train": 30, "validation": 2}, None)
    text = (tmp_path / "run" / "run.json").read_text()
    assert "hf_" not in text and "hub_token" not in text
    record = json.loads(text)
    assert record["seed"] == 11
    assert record["resumed"] == []
    articles = {"train": 30, "validation": 2}
    assert record["data"] == {
        "name": "closed_world",
        "source": "closed_world",
        "articles": articles,
        "seed": 4,
        "difficulty": "far",
    }
    own = {"name": "closed_world", "source": "closed_world"}
    assert record["backbones"] == {"vision": own, "text": own}
    assert record["initial_model"] is None
    assert record["arguments"]["architecture"] == {"gate_layers": [2, 3]}
    training = record["arguments"]["training"]
    assert (training["learning_rate"], training["max_steps"]) == (0.003, 5)
    # Defining, though they are the defaults; the default that defines nothing is left out.
    assert training["per_device_train_batch_size"] == 8 and training["freeze_language_model"] is True
    assert "logging_steps" not in training
    assert set(record["versions"]) >= {"python", "torch", "transformers", "peft"}
    assert record["hardware"]["cores"] >= 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


def test_the_run_s_record_tells_hub_ids_from_folders(tmp_path):
    folder, world, file = tmp_path / "siglip", tmp_path / "world", tmp_path / "llm.gguf"
    folder.mkdir()
    world.mkdir()
    (world / "training_settings.json").write_text("{}")
    file.write_text("")
    expected = {
        str(folder): "folder",
        str(world): "closed_world",
        "google/siglip-base-patch16-224": "hub",
        "efficientnet-lite0": "vision_wheel",
        None: "random",
    }
    for vision, source in expected.items():
        argv = [
            "--dataset",
            str(tmp_path),
            "--text_backbone",
            "smollm2",
            "--random_vision",
            "true",
            "--use_cpu",
            "true",
        ]
        argv += ["--vision_backbone", vision] if vision else []
        write_run_record(*parse_arguments([*argv, "--output_dir", str(tmp_path)]), {}, None)
        record = json.loads((tmp_path / "run.json").read_text())
        assert record["backbones"]["vision"] == {"name": vision or "random", "source": source}
        assert record["backbones"]["text"] == {"name": "smollm2", "source": "wheel"}
        assert record["data"] == {"name": tmp_path.name, "source": "folder", "articles": {}}
    argv[3] = str(file)
    write_run_record(*parse_arguments([*argv, "--output_dir", str(tmp_path)]), {}, None)
    assert json.loads((tmp_path / "run.json").read_text())["backbones"]["text"] == {
        "name": str(file),
        "source": "file",
    }


def test_a_second_stage_stands_on_the_backbones_of_the_first(tmp_path):
    write_run_record(*closed_world_arguments(tmp_path / "first"), {}, None)
    argv = ["--dataset", "closed_world", "--model_name_or_path", str(tmp_path / "first"), "--use_cpu", "true"]
    write_run_record(*parse_arguments([*argv, "--output_dir", str(tmp_path / "second")]), {}, None)
    record = json.loads((tmp_path / "second" / "run.json").read_text())
    assert record["initial_model"] == {"name": str(tmp_path / "first"), "source": "folder"}
    assert record["backbones"]["text"] == {"name": "closed_world", "source": "closed_world"}


def test_resuming_keeps_the_start_and_counts_the_resumptions(tmp_path):
    write_run_record(*closed_world_arguments(tmp_path), {}, None)
    path = tmp_path / "run.json"
    record = json.loads(path.read_text()) | {"started": "2031-01-02T03:04:05+00:00"}
    path.write_text(json.dumps(record))
    for checkpoint in ("checkpoint-2", "checkpoint-4"):
        arguments = closed_world_arguments(tmp_path, "--max_steps", "9")
        write_run_record(*arguments, {}, str(tmp_path / checkpoint))
    resumed = json.loads(path.read_text())
    assert resumed["started"] == "2031-01-02T03:04:05+00:00"
    assert [entry["checkpoint"] for entry in resumed["resumed"]] == ["checkpoint-2", "checkpoint-4"]
    assert resumed["arguments"]["training"]["max_steps"] == 9
    path.write_text("{")
    with pytest.raises(ValueError, match=r"run\.json: the record of the run is damaged"):
        write_run_record(*closed_world_arguments(tmp_path), {}, str(tmp_path / "checkpoint-4"))
    # A new run in the folder does not depend on what is there.
    write_run_record(*closed_world_arguments(tmp_path), {}, None)
    assert json.loads(path.read_text())["resumed"] == []


def test_the_base_of_an_adapter_says_that_it_is_untrained(tmp_path):
    vision, text = save_vision_folder(tmp_path / "siglip"), save_text_folder(tmp_path / "qwen2")
    argv = ["--dataset", "closed_world", "--closed_world_articles", "8", "--closed_world_eval_articles", "2"]
    argv += ["--vision_backbone", str(vision), "--text_backbone", str(text), "--use_peft", "true", "--lora_r", "2"]
    argv += ["--align_weight", "0", "--distill_weight", "0", "--gate_layers", "1", "3", "--dvp_num_layers", "3"]
    argv += ["--output_dir", str(tmp_path / "run"), "--use_cpu", "true", "--max_length", "400", "--report_to", "none"]
    arguments = parse_arguments(argv)
    build_trainer(*arguments, load_records(arguments[0]))
    assert json.loads((tmp_path / "run" / "base" / "run.json").read_text()) == {
        "adapter_base": True,
        "initial_model": None,
        "backbones": {
            "vision": {"name": str(vision), "source": "folder"},
            "text": {"name": str(text), "source": "folder"},
        },
    }


def test_only_the_main_process_writes_the_record(tmp_path, monkeypatch):
    arguments = closed_world_arguments(tmp_path / "run")
    monkeypatch.setattr(type(arguments[2]), "should_save", False)
    write_run_record(*arguments, {}, None)
    assert not (tmp_path / "run").exists()
