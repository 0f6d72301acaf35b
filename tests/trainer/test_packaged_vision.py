"""`--vision_backbone efficientnet-lite0`: the package's network as a folder of the run."""

import pytest
import torch
from transformers import AutoImageProcessor, AutoModel

from spectra_sum.models.efficientnet_lite import load_efficientnet_lite0
from spectra_sum.models.sources import ModelError, find_efficientnet_lite0
from trainer import building
from trainer.arguments import DataArguments


def test_it_becomes_a_folder_of_the_run_once(tmp_path, monkeypatch):
    saved = []

    def save(folder):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        saved.append(folder)

    monkeypatch.setattr(building, "save_efficientnet_lite0", save)
    arguments = DataArguments(dataset="data", vision_backbone="efficientnet-lite0", text_backbone="text")
    for _ in range(2):
        found = building.prepare_backbones(arguments, None, tmp_path / "run")
        assert found == (str(tmp_path / "run" / "efficientnet_lite0"), "text")
    assert len(saved) == 1 and [path.name for path in (tmp_path / "run").iterdir()] == ["efficientnet_lite0"]


def test_transformers_reads_the_folder(tmp_path):
    try:
        find_efficientnet_lite0()
    except ModelError as error:
        pytest.skip(str(error))
    arguments = DataArguments(dataset="data", vision_backbone="efficientnet-lite0", text_backbone="text")
    folder, _ = building.prepare_backbones(arguments, None, tmp_path)
    weights, expected = AutoModel.from_pretrained(folder).state_dict(), load_efficientnet_lite0().state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert list(AutoImageProcessor.from_pretrained(folder).image_mean) == [0.5] * 3
