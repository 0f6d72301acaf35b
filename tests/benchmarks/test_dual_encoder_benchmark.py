"""The benchmark of the default dual encoder: recalls by hand, and a whole run on towers that are stood in for."""

import json

import pytest
import torch
from torch.nn.functional import normalize

from benchmarks import dual_encoder
from benchmarks.dual_encoder import SOURCES, main, recalls
from tests.hashing_encoder import HashingEncoder
from tests.trainer.dual_encoder.setup import write_recipe, write_split
from tests.trainer.dual_encoder.test_train import MeanColours
from trainer.dual_encoder import features, train
from trainer.dual_encoder.features import FigureFeatures
from trainer.dual_encoder.train import read_recipe


def test_recalls_by_hand():
    images = torch.eye(12)
    # The first two alternative texts describe their own figures, the third the fourth figure, and its own comes second.
    texts = normalize(torch.stack([images[0], images[1], images[3] + 0.5 * images[2], images[5]]), dim=-1)
    rows = [0, 1, 2, *[None] * 9]
    found = recalls(FigureFeatures(images, texts, [None] * 5 + [3] + [None] * 6, rows), lambda x: x, lambda x: x)
    assert found["alternative texts"]["texts"] == 3 and found["captions"]["texts"] == 1
    values = [found["alternative texts"][cutoff]["value"] for cutoff in ("1", "5", "10")]
    assert values == pytest.approx([2 / 3, 1.0, 1.0])
    assert found["captions"]["1"] == {"value": 1.0, "low": 1.0, "high": 1.0}


@pytest.fixture
def arguments(monkeypatch, tmp_path):
    """Small heads, exported into a folder of their own, on data of two books."""
    colours, weights, shipped = MeanColours(), tmp_path / "weights.pth", tmp_path / "default_model"
    weights.write_bytes(b"abc")
    shipped.mkdir()
    (shipped / "README.md").write_text("# The model\n")
    recipe = write_recipe(tmp_path / "recipe.yaml")
    monkeypatch.setattr(features.ImageViews, "features", lambda *arguments: colours(*arguments))
    monkeypatch.setattr(features, "load_efficientnet_lite0", lambda: None)
    monkeypatch.setattr(features, "load_text_encoder", HashingEncoder)
    monkeypatch.setattr(train, "find_default_dual_encoder", lambda: (weights, weights))
    monkeypatch.setattr(train, "FOLDER", shipped)
    monkeypatch.setattr(dual_encoder, "FOLDER", shipped)
    monkeypatch.setattr(dual_encoder, "HELD_OUT", ("book1",))
    monkeypatch.setattr(dual_encoder, "load_text_encoder", HashingEncoder)
    monkeypatch.setattr(dual_encoder, "read_recipe", lambda: read_recipe(recipe))
    for split in ("train", "valid", "test"):
        write_split(tmp_path / "data", split, articles=8)
    data = ["--data", str(tmp_path / "data")]
    assert train.main([*data, "--output", str(tmp_path / "run"), "--recipe", str(recipe), "--export"]) == 0
    return [*data, "--features", str(tmp_path / "run" / "features")]


def test_a_run_has_every_row(arguments, tmp_path, capsys):
    output = tmp_path / "result.json"
    main([*arguments, "--draws", "2", "--output", str(output)])
    result = json.loads(output.read_text())
    rows = result["retrieval"]
    assert list(rows) == ["shipped, test", "chance", "little regularisation, test", "without book1, book1"]
    # Of the held-out book all three splits are ranked.
    assert [row["figures"] for row in rows.values()] == [16, 16, 16, 24]
    assert rows["chance"]["recall"]["either"]["10"] == {"value": 10 / 16}
    for name in ("shipped, test", "without book1, book1"):
        recall = rows[name]["recall"]
        assert recall["captions"]["texts"] < recall["alternative texts"]["texts"] == rows[name]["figures"]
        assert recall["captions"]["1"]["value"] <= recall["captions"]["10"]["value"]
    assert {(goal["row"], goal["by"]) for goal in result["goals"]} == {
        (name, by) for name in ("shipped, test", "without book1, book1") for by in ("alternative texts", "captions")
    }
    for split in ("validation", "test"):
        part = result["separation"][split]
        assert part["sections"] == 8
        for areas in part["auc"].values():
            assert set(areas) == set(SOURCES) and all(0 <= area["value"] <= 1 for area in areas.values())
    assert "| shipped, test | 16 | captions |" in capsys.readouterr().out
