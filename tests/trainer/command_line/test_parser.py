"""The command line of training: its help, full names, and configs that are checked like the command line."""

import argparse
import ast
import dataclasses
import re
from pathlib import Path

import pytest
from transformers import TrainingArguments

from modeling_spectra import SpectraSumConfig
from spectra_sum.errors import SpectraSumError
from trainer.arguments import (
    DERIVED_FIELDS,
    ArchitectureArguments,
    DataArguments,
    SpectraModelConfig,
    SpectraTrainingArguments,
)
from trainer.closed_world import demo
from trainer.command_line.parsing import UNUSED_MODEL_ARGUMENTS, build_parser, parse_arguments

ROOT = Path(__file__).parents[3]
GROUPS = (
    "options",
    "data",
    "model",
    "architecture",
    "losses and teacher",
    "training",
    "LoRA and 4 bits",
    "transformers' TrainingArguments",
)
REQUIRED = ["--dataset", "closed_world", "--closed_world_backbones", "b", "--use_cpu", "true"]


@pytest.fixture(scope="module")
def shown():
    """Title of a group → name of an argument → (its line, its sentence), as `--help` prints them."""
    text = build_parser().format_help()
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for block in re.split(r"\n\n(?=\S.*:\n)", text)[1:]:
        title, _, lines = block.partition(":\n")
        entries = re.findall(r"^  (?:-h, )?--(\w+)(.*)\n((?: {8}.*\n?)+)", lines + "\n", flags=re.MULTILINE)
        found[title] = {name: (line.strip(), " ".join(sentence.split())) for name, line, sentence in entries}
        assert len(found[title]) == len(entries)
    return found


def test_every_argument_has_a_sentence_in_one_group(shown):
    assert tuple(shown) == GROUPS
    own = (DataArguments, ArchitectureArguments, SpectraTrainingArguments, SpectraModelConfig)
    names = [field.name for dataclass in own for field in dataclasses.fields(dataclass) if field.init]
    expected = {"help", "config", *names} - set(UNUSED_MODEL_ARGUMENTS)
    assert sorted(name for group in shown.values() for name in group) == sorted(expected)
    architecture = set(SpectraSumConfig.__annotations__) - DERIVED_FIELDS
    assert set(shown["architecture"]) | set(shown["losses and teacher"]) == architecture | {"teacher"}
    assert {"fusion", "num_latents", "gate_layers"} <= set(shown["architecture"])
    assert {"align_weight", "teacher_beta", "negative_queue_size"} <= set(shown["losses and teacher"])
    assert {"final_evaluation", "max_final_articles", "freeze_language_model"} <= set(shown["training"])
    inherited = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    assert set(shown["transformers' TrainingArguments"]) == inherited
    for group in shown.values():
        for name, (_, sentence) in group.items():
            text = re.sub(r" \((default: .*|required)\)$", "", sentence)
            assert text.endswith((".", ")")) and " " in text and "SpectraSumConfig." not in text, name
            assert name == "help" or text[0].isupper() or text[0] in '§"', name


def test_own_arguments_are_described_in_words_and_not_by_a_section_alone(shown):
    for group in GROUPS[1:6]:
        for name, (_, sentence) in shown[group].items():
            words = re.sub(r" \(default: .*\)$|§\d,?", "", sentence).split()
            assert len(words) >= 3, name


def test_the_help_shows_choices_and_the_defaults_of_the_configuration(shown):
    for name in set(SpectraSumConfig.__annotations__) - DERIVED_FIELDS:
        default = getattr(SpectraSumConfig, name)
        _, sentence = (shown["architecture"] | shown["losses and teacher"])[name]
        told = re.search(r"\(default: (.*)\)$", sentence)
        if default is None:
            without = {
                "teacher_text_scale": "By default captions do not count.",
                "guidance_layers": "Defaults to the sampler's last layer, twice.",
                "gate_layers": "Defaults to 8, 16 and 24, with adapters to all layers.",
                "visual_states": "By default the DVP's",
                "vision_feature_layers": "By default vision_feature_layer alone.",
            }
            assert told is None
            assert without.get(name, "Defaults to the language model's number of heads.") in sentence
        elif isinstance(default, str):
            assert told[1] == default
        else:
            found = ast.literal_eval(told[1].capitalize() if isinstance(default, bool) else told[1])
            assert found == (list(default) if isinstance(default, tuple) else default), name
    assert shown["architecture"]["fusion"][0] == "{concat,sampler,dvp,adapter,modulation}"
    assert shown["architecture"]["gate_layers"][0] == "INT ..."
    assert shown["data"]["cache"][0] == "{none,embeddings,patches}"
    assert shown["data"]["use_images"] == (
        "{true,false}",
        "False withholds all images (the text-only baseline). (default: true)",
    )
    assert shown["data"]["dataset"][1].endswith("(required)")
    assert shown["training"]["max_final_articles"][1].endswith("(default: 200)")
    assert shown["transformers' TrainingArguments"]["max_steps"][1].endswith("(default: -1)")


def test_help_is_printed_and_ends_the_program(capsys):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == build_parser().format_help()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--num_latent", "3"], r"unrecognized argument --num_latent \(did you mean --num_latents\?\)"),
        (["--num-latent=3"], r"unrecognized argument --num-latent \(did you mean --num_latents\?\)"),
        (["--zzz", "3"], "unrecognized argument --zzz$"),
        (["3"], "unrecognized argument 3$"),
        (["--max_steps", "many"], "argument --max_steps/--max-steps: invalid int value: 'many'"),
        (["--cache", "all"], "argument --cache: invalid choice: 'all'"),
        (["--load_best_model_at_end", "true", "--eval_strategy", "epoch"], "load_best_model_at_end"),
        (["--report_to", "none", "nowhere"], "unrecognized argument nowhere"),
        (["--report_to", "nowhere"], "report_to: nowhere cannot be used here"),
        (["--max_final_articles", "0"], "max_final_articles must be at least 1"),
        (["--config"], "--config: name a YAML file after it"),
        (
            ["--config", "missing.yaml"],
            r"--config missing.yaml: the file cannot be read \(No such file or directory\)",
        ),
    ],
)
def test_what_cannot_be_parsed_is_named(argv, message):
    with pytest.raises(SpectraSumError, match=message) as refused:
        parse_arguments([*REQUIRED, *argv])
    assert "\n" not in str(refused.value) and refused.value.exit_code == 2


def test_hyphens_are_as_good_as_underscores():
    assert parse_arguments([*REQUIRED, "--num-latents", "3"])[1].num_latents == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("num_latent: 3\nzzz: 1", r"unknown keys: num_latent \(did you mean num_latents\?\), zzz$"),
        ("help: true", "unknown keys: help"),
        ("config: other.yaml", "unknown keys: config"),
        ("max_steps: 2.5", "max_steps is 2.5, but it must be a whole number"),
        ("max_steps: many", "max_steps is 'many', but it must be a whole number"),
        ("max_steps: true", "max_steps is True, but it must be a whole number"),
        ("max_steps: [1, 2]", "max_steps is .1, 2., but it takes one value"),
        ("max_steps:", "max_steps is None, but it must have a value"),
        ("learning_rate: fast", "learning_rate is 'fast', but it must be a number"),
        ("use_images: 3", "use_images is 3, but it must be true or false"),
        ("gate_layers: 8", "gate_layers is 8, but it takes a list"),
        ("gate_layers: [a]", r"gate_layers is \['a'\], but it must be a whole number"),
        ("cache: all", "cache is 'all', but it must be one of none, embeddings, patches"),
        (
            "eval_strategy: no",
            r'eval_strategy is False, but it must be one of no, steps, epoch; .* quote them \("no"\)',
        ),
        ("- a", "the file must be a YAML mapping"),
        ("a: [", "the file is no YAML"),
        ("env: 3", "env must be a mapping"),
    ],
)
def test_a_config_is_checked_like_the_command_line(tmp_path, content, message):
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    with pytest.raises(SpectraSumError, match=message) as refused:
        parse_arguments([*REQUIRED, "--config", str(path)])
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_what_a_config_may_hold(tmp_path, monkeypatch):
    monkeypatch.setenv("OF_A_CONFIG", "before")
    path = tmp_path / "settings.yaml"
    path.write_text(
        "learning_rate: 1e-4\nmax_grad_norm: 2\nuse_images: 'no'\nnum_latents:\ngate_layers: [1, 2]\n"
        "lr_scheduler_kwargs: {num_decay_steps: 3}\nlora_target_modules: [q_proj]\nenv: {OF_A_CONFIG: after}\n"
    )
    # Both ways to name the file.
    for config in (["--config", str(path)], [f"--config={path}"]):
        data_args, architecture, args, model_args = parse_arguments([*REQUIRED, *config])
        assert (args.learning_rate, args.max_grad_norm, data_args.use_images) == (1e-4, 2, False)
        assert (architecture.num_latents, architecture.gate_layers) == (None, [1, 2])
        assert args.lr_scheduler_kwargs == {"num_decay_steps": 3}
        assert model_args.lora_target_modules == "q_proj"


def test_no_parser_takes_abbreviations():
    # A subclass of the package's own is checked by its tests.
    seen = 0
    for folder in ("benchmarks", "hub_upload", "spectra_sum", "trainer"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ArgumentParser"):
                    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    assert options.get("allow_abbrev") == "False", path
                    seen += 1
    assert seen >= 9
    with pytest.raises(SystemExit):
        demo.parse_options(["--output", "runs/experiment", "--step", "3"])
    assert demo.parse_options(["--output", "runs/experiment", "--steps", "3"]).steps == 3


def test_the_parser_of_one_line_raises_and_takes_no_abbreviations():
    from trainer.command_line.parser import OneLineParser

    parser = OneLineParser("name")
    parser.add_argument("--trials", type=int, required=True)
    assert isinstance(parser, argparse.ArgumentParser)
    for argv, message in ((["--trial", "3"], "required: --trials"), (["--trials", "x"], "invalid int value")):
        with pytest.raises(SpectraSumError, match=message):
            parser.parse_known_args(argv)
