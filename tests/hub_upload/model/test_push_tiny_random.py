"""A tiny random model for other people's tests: the same bits each time, small, and its images matter."""

import hashlib
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from hub_upload.model.tiny_random import save_tiny_random
from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor
from spectra_sum.cli import main
from tests.tiny import picture

pytestmark = pytest.mark.usefixtures("preloaded_python")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny_random")
    save_tiny_random(folder)
    return folder


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_the_weights_are_the_same_bits_whatever_came_before(folder, tmp_path):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    save_tiny_random(tmp_path)
    assert digest(tmp_path) == digest(folder)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = load_file(folder / "model.safetensors")
    assert weights["language_model.model.layers.0.mlp.up_proj.weight"].std() == pytest.approx(0.3, rel=0.1)
    gates = [value for name, value in weights.items() if name.endswith("gate.alpha")]
    assert len(gates) == 2 and all((gate == 0.5).all() for gate in gates)


def test_images_change_what_it_writes(folder):
    model = SpectraSumForConditionalGeneration.from_pretrained(folder).eval()
    processor = SpectraSumProcessor.from_pretrained(folder)
    # A byte is a token, and special tokens are none of the text's.
    assert (
        len(processor.tokenizer) == 258
        and processor.tokenizer.decode(processor.tokenizer("né 雨").input_ids) == "né 雨"
    )
    logits = [
        model(**processor(text=["A short text."], title=[""], images=[[picture(seed=seed)]])).logits for seed in (1, 2)
    ]
    assert (logits[0] - logits[1]).abs().max() > 0.01


def test_a_dry_run_is_small_and_its_card_says_what_it_is(tmp_path, capsys):
    assert main(["push", "model", "--tiny-random", "--repo-id", "me/tiny", "--dry-run", str(tmp_path / "dry")]) == 0
    printed = capsys.readouterr()
    assert "in a fresh process: handler" in printed.err and "nothing was uploaded." in printed.out
    files = [path for path in (tmp_path / "dry").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    card = ModelCard.load(tmp_path / "dry" / "README.md")
    assert {"spectra-sum", "tiny-random"} <= set(card.data.tags) and "Its weights are random" in card.text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "name the folder of a training run or a model, or pass --tiny-random."),
        (["runs/x", "--tiny-random"], "--tiny-random makes its own model; leave runs/x out."),
        (
            ["--tiny-random", "--merge", "--license", "mit"],
            "--tiny-random makes its own model; leave --merge, --license out.",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(argv, message, capsys):
    assert main(["push", "model", *argv, "--repo-id", "me/tiny"]) == 2
    assert message in capsys.readouterr().err
