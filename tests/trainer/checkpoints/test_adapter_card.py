"""The card in an adapter's folder: of the run that saved it, and of nothing else."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import TrainerState, TrainingArguments

from spectra_sum.models.loading import load_model
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.building import build_trainer
from trainer.checkpoints.adapter_card import OWN_MARK, AdapterRun, adapter_card, is_users_card
from trainer.checkpoints.run_record import write_run_record
from trainer.spectra_trainer import SpectraTrainer
from trainer.train import parse_arguments

LORA = ("--use_peft", "true", "--lora_r", "2", "--lora_alpha", "6", "--freeze_language_model", "true")
SAVING = ("--save_strategy", "steps", "--save_steps", "1", "--max_steps", "3")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SpectraTrainer:
    """After a run of three steps with a checkpoint of each."""
    folder = save_setup(tmp_path_factory.mktemp("adapter_card"))
    arguments = parse_arguments(setup_arguments(folder, folder / "run", *LORA, *SAVING))
    data_args, architecture, args, model_args = arguments
    records = closed_world_dataset({"train": 4, "validation": 2, "test": 2}, seed=5)
    trainer = build_trainer(*arguments, records)
    write_run_record(data_args, architecture, args, model_args, {"train": 4, "validation": 2}, None)
    trainer.train()
    trainer.save_model()
    return trainer


@pytest.fixture(scope="module")
def run(trained) -> Path:
    return Path(trained.args.output_dir)


def rows(card: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without the lines of its head."""
    lines = card.split(heading, 1)[1].strip().splitlines()
    table = [line for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_a_checkpoint_s_card_tells_of_its_own_step(run):
    log = json.loads((run / "checkpoint-2" / "trainer_state.json").read_text())["log_history"]
    card = (run / "checkpoint-2" / "README.md").read_text()
    assert "the weights after 2 optimizer steps. Nothing is claimed" in card
    losses = [entry for entry in log if "loss" in entry]
    assert [entry["step"] for entry in losses] == [1, 2]
    assert rows(card, "### Losses") == [
        [str(entry["step"]), *(f"{entry[name]:.4f}" for name in ("loss", "loss_lm", "loss_align", "loss_distill"))]
        for entry in losses
    ]
    facts = {row[0]: row[1] for row in rows(card.split("### Losses")[0], "## Training\n")}
    assert facts["data"] == "closed\\_world" and facts["articles"] == "4 train, 2 validation"
    assert (facts["LoRA rank"], facts["LoRA alpha"], facts["learning rate"]) == ("2", "6", "0.01")
    assert "language model in 4-bit NF4" not in facts
    assert "after 3 optimizer steps" in (run / "README.md").read_text()


def test_it_names_no_place_of_this_machine_and_is_metadata_that_the_hub_takes(run):
    for folder in (run, run / "checkpoint-3"):
        text = (folder / "README.md").read_text()
        assert str(run.parent) not in text and "/tmp" not in text and str(Path.home()) not in text
        assert "More Information Needed" not in text and OWN_MARK in text
        assert "- language model: text\n" in text and "- vision tower: vision\n" in text
        data = ModelCard.load(folder / "README.md").data.to_dict()
        assert data == {"library_name": "peft", "tags": ["spectra-sum", "multimodal-summarization", "lora"]}


def test_what_it_says_of_loading_is_true(run, tmp_path):
    text = (run / "checkpoint-3" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    # Elsewhere, with the base beside the checkpoint's folder.
    for name in ("base", "checkpoint-3"):
        shutil.copytree(run / name, tmp_path / name)
    settings = tmp_path / "checkpoint-3" / "adapter_config.json"
    content = json.loads(settings.read_text())
    assert content["base_model_name_or_path"] == str(run / "base")
    settings.write_text(json.dumps({**content, "base_model_name_or_path": "/another/machine/run/base"}))
    scope = {}
    exec(code.replace("ADAPTER", str(tmp_path / "checkpoint-3")), scope)
    assert scope["processor"].tokenizer.eos_token is not None
    expected, found = load_model(str(run)).model.state_dict(), scope["model"].state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_card_of_the_user_s_own_stays_as_it_is(run):
    own = run / "own"
    own.mkdir()
    for text, kept in (
        ("# Mine\n\nNotes.\n", True),
        ((run / "README.md").read_text(), False),
        ("---\nbase_model: /here\nlibrary_name: peft\n---\n\n# Model Card for Model ID\n", False),
    ):
        (own / "README.md").write_text(text)
        assert is_users_card(own / "README.md") == kept
    assert not is_users_card(own / "missing.md")


def test_a_save_leaves_the_user_s_card_and_writes_the_adapter(trained, tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n")
    trained.save_model(str(tmp_path))
    assert (tmp_path / "README.md").read_text() == "# Mine\n"
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert (
        json.loads((tmp_path / "adapter_config.json").read_text())["auto_mapping"]["base_model_class"] == "AutoModel"
    )
    (tmp_path / "README.md").unlink()
    trained.save_model(str(tmp_path))
    assert OWN_MARK in (tmp_path / "README.md").read_text()


def test_the_best_checkpoint_is_named_with_its_own_losses():
    log = [{"step": step, "loss": 1.0 / step, "epoch": step / 4} for step in (1, 2, 3)]
    settings = {"base_model_name_or_path": "ada/base-model", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0}
    sources = {
        "vision": {"name": "/home/ada/towers/siglip", "source": "folder"},
        "text": {"name": "ada/text", "source": "hub"},
    }
    card = adapter_card(settings, AdapterRun({"backbones": sources}, log, steps=2, last_step=3))
    assert "after 2 optimizer steps, the best checkpoint of a run of 3 steps." in card
    assert [row[0] for row in rows(card, "### Losses")] == ["1", "2"]
    assert "[ada/base-model](https://huggingface.co/ada/base-model)" in card
    assert "- language model: ada/text\n" in card and "- vision tower: siglip\n" in card and "/home" not in card
    assert ["epochs", "0.5"] in rows(card.split("### Losses")[0], "## Training\n")
    # A name is no markup.
    sources["text"]["name"] = "/models/<b>|x"
    assert "- language model: \\<b\\>\\|x\n" in adapter_card(settings, AdapterRun({"backbones": sources}, log, 3, 3))


def test_a_run_that_goes_back_to_its_best_checkpoint_is_told_only_when_it_has_ended(tmp_path):
    args = TrainingArguments(
        str(tmp_path), load_best_model_at_end=True, eval_strategy="steps", save_strategy="steps", use_cpu=True
    )
    state = TrainerState(global_step=9, best_global_step=4, log_history=[{"step": 9, "loss": 1.0}])
    assert AdapterRun.of(args, state).steps == 9
    state.log_history.append({"step": 9, "train_runtime": 1.0})
    assert (AdapterRun.of(args, state).steps, AdapterRun.of(args, state).last_step) == (4, 9)
