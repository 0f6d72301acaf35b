"""The benchmark of 4 bits on a small model: what it compares, records, and takes up again."""

import gc
import json
import weakref
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from benchmarks import quantization
from spectra_sum.models.loading import load_model
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.double_precision import EPSILON
from tests.quantizable import save_quantizable


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_quantizable(tmp_path / "model")
    closed_world_dataset({"test": 3}, seed=5).save_to_disk(tmp_path / "data")
    return tmp_path


def run(place: Path) -> dict:
    argv = ["--model", place / "model", "--data", place / "data", "--output", place / "output", "--max-new-tokens", 3]
    argv += ["--max-length", 400, "--result", place / "result.json", "--limit", 2]
    quantization.main(list(map(str, argv)))
    return json.loads((place / "result.json").read_text())


def test_differences_losses_and_sizes(place, monkeypatch):
    held = []

    def load(*arguments, **options):
        # Two models need not fit into memory.
        gc.collect()
        assert all(model() is None for model in held)
        loaded = load_model(*arguments, **options)
        held.append(weakref.ref(loaded.model))
        return loaded

    monkeypatch.setattr(quantization, "load_model", load)
    result = run(place)
    assert len(held) == 4
    settings = json.loads((place / "output" / "settings.json").read_text())
    assert settings["versions"]["torch"] == torch.__version__ and settings["hardware"]["processor"]
    models = result["models"]
    assert list(models) == ["none", "language-model", "new-modules"]
    assert result["data"]["articles"] == 2
    # The losses by hand: the model's own, of one article with its reference.
    records: Dataset = closed_world_dataset({"test": 3}, seed=5)["test"]
    losses = {}
    for name in models:
        loaded = load_model(str(place / "model"), quantize=None if name == "none" else name)
        model, processor = loaded.model, loaded.processor
        losses[name] = []
        for record in records.select(range(2)):
            data = processor(
                record["article"],
                title=record["title"],
                images=[record["images"]],
                summary=" ".join(record["summary"]),
                max_length=400,
            )
            with torch.no_grad():
                log_probabilities = model(**data).logits[0, :-1].log_softmax(-1)
            labels = data["labels"][0, 1:]
            scored = labels != -100
            picked = log_probabilities[scored].gather(1, labels[scored, None])
            losses[name].append(-picked.mean().item())
    for name in ("language-model", "new-modules"):
        expected = [a - b for a, b in zip(losses[name], losses["none"], strict=True)]
        found = models[name]["differences"]["summary_loss"]
        assert found["mean"] == pytest.approx(sum(expected) / 2, abs=80 * EPSILON)
        assert (found["low"], found["high"]) == pytest.approx((min(expected), max(expected)), abs=80 * EPSILON)
        assert 0 <= models[name]["same_summary"] <= 1
    assert models["none"]["differences"]["rougeL"]["mean"] == 0 and models["none"]["same_selection"] == 1
    # 4 layers of width 64, 32 for keys and values, 128 inside: 4 instead of 32 bits, and 8 bits per 64 weights, whose own
    # scales are one float32 in 256.
    weights = 4 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128)
    scales = weights // 64
    saved = models["none"]["weight_bytes"] - models["language-model"]["weight_bytes"]
    assert saved == weights * 4 - weights // 2 - scales - 4 * 4 * 7
    table = (place / "result.md").read_text()
    assert f"| rougeL | {models['none']['scores']['rougeL']:.5f} |" in table and "2 articles (test)" in table

    # What is finished is not done again, and another model is not mixed in.
    monkeypatch.setattr(quantization, "from_model", None)
    assert run(place)["models"] == models
    save_quantizable(place / "model", seed=1)
    with pytest.raises(SystemExit):
        run(place)
