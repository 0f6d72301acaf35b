"""The command that makes the heads: features kept, heads that the dual encoder loads, errors in one line."""

import json

import pytest
import torch
from torch.nn.functional import normalize

from spectra_sum.models.joint_heads import load_joint_heads
from tests.hashing_encoder import HashingEncoder
from tests.trainer.dual_encoder.setup import write_recipe, write_split
from trainer.dual_encoder import features, train
from trainer.dual_encoder.train import RECIPE, main, read_recipe


class MeanColours:
    """In the place of `ImageViews.features`: the mean colour of each image. `seen` counts the images."""

    def __init__(self):
        self.seen = 0

    def __call__(self, views, tower, images):
        self.seen += len(images)
        pixels = [torch.tensor(image.resize((1, 1)).getpixel((0, 0)), dtype=torch.float32) for image in images]
        return normalize(torch.stack(pixels) + 1, dim=-1)


@pytest.fixture
def towers(monkeypatch, tmp_path):
    """No package is needed; `default_model` is a folder of its own."""
    colours = MeanColours()
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"abc")
    monkeypatch.setattr(features.ImageViews, "features", lambda *arguments: colours(*arguments))
    monkeypatch.setattr(features, "load_efficientnet_lite0", lambda: None)
    monkeypatch.setattr(features, "load_text_encoder", HashingEncoder)
    monkeypatch.setattr(train, "find_default_dual_encoder", lambda: (weights, weights))
    monkeypatch.setattr(train, "FOLDER", tmp_path / "default_model")
    (tmp_path / "default_model").mkdir()
    (tmp_path / "default_model" / "README.md").write_text("# The model\n")
    return colours


def test_heads_settings_and_card(towers, tmp_path, capsys):
    write_split(tmp_path / "data", "train")
    argv = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "run")]
    argv += ["--recipe", str(write_recipe(tmp_path / "recipe.yaml"))]
    assert main([*argv, "--export"]) == 0
    assert capsys.readouterr().out.startswith("8 figures, loss ")
    heads = load_joint_heads(tmp_path / "default_model" / "dual_encoder.safetensors")
    assert heads.image(torch.ones(1, 3)).shape == heads.text(torch.ones(1, 512)).shape == (1, 8)
    # Most words of the sentence encoder's are in no text: features that never vary.
    assert all(value.isfinite().all() for head in heads[:2] for value in head.parameters())
    settings = json.loads((tmp_path / "default_model" / "dual_encoder.json").read_text())
    assert settings["revision"] == heads.revision and settings["figures"] == 8 and len(settings["losses"]) == 2
    # The digest of "abc" in FIPS 180-2.
    assert settings["vision_sha256"].startswith("ba7816bf8f01") and settings["data"] == "data"
    assert settings["views"]["sides"] == settings["recipe"]["sides"]
    card = (tmp_path / "default_model" / "README.md").read_text()
    assert card.startswith("# The model\n\n<!-- dual encoder -->") and "Trained on 8 figures" in card
    for file in (tmp_path / "default_model").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
    # Again: nothing is computed anew, and the same heads come out.
    assert towers.seen == 8
    assert main(argv) == 0 and towers.seen == 8
    again = load_joint_heads(tmp_path / "run" / "dual_encoder.safetensors")
    assert again.revision == heads.revision


def test_bad_input_is_one_line(towers, tmp_path, capsys):
    write_split(tmp_path / "data", "train")
    for content, message in (
        ({"epoch": 3}, "epoch"),
        (
            {"sides": "many"},
            "this is no recipe of the dual encoder: sides must be a list of whole numbers, got 'many'",
        ),
        ({"sides": []}, "sides must name views of at least 32 pixels, got []"),
        ({"blocks": [16]}, "blocks must be under 16, got [16]"),
        ({"joint": 0}, "joint must be a whole number from 1, got 0"),
        ({"dropout": 1.0}, "dropout must be a number from 0 and under 1, got 1.0"),
        ({"noise": "much"}, "noise must be a number from 0, got 'much'"),
    ):
        recipe = write_recipe(tmp_path / "recipe.yaml", **content)
        argv = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "run"), "--recipe", str(recipe)]
        assert main(argv) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {recipe}: ") and message in error and error.count("\n") == 1
    assert main(["--data", str(tmp_path / "none"), "--output", str(tmp_path / "run")]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err


def test_heads_that_are_too_large_are_not_shipped(towers, tmp_path, capsys):
    write_split(tmp_path / "data", "train")
    recipe = write_recipe(tmp_path / "recipe.yaml", text_hidden=8192)
    argv = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "run"), "--recipe", str(recipe), "--export"]
    assert main(argv) == 2
    assert "lower their widths" in capsys.readouterr().err
    assert not (tmp_path / "default_model" / "dual_encoder.json").exists()


def test_the_shipped_recipe_opens_with_its_launch_line_and_is_read():
    first = RECIPE.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# python -m trainer.dual_encoder.train --data PATH_TO_MSMO_OPENSTAX")
    assert read_recipe().joint == 256
