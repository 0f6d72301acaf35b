"""Models of `--inpaint` and `--segment`: what cannot be one is told before any work."""

import importlib.util
import json

import pytest

from spectra_sum.cli import main
from spectra_sum.linked_pairs.models.naming import check_segmentation_model
from tests.spectra_sum.linked_pairs.cutout_files import write_groups


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with groups of objects, in which diffusers seems to be installed."""
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: object() if name == "diffusers" else find(name, *rest)
    )
    write_groups(tmp_path / "groups", 3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("[")
    (tmp_path / "one.txt").write_text("a beach\n")
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--inpaint", "absent"),
            "absent: there is no such folder; pass the folder or Hub id of an inpainting pipeline",
        ),
        (("--inpaint", "empty"), "empty: the folder holds no model_index.json"),
        (("--inpaint", "pipeline", "--size", "72"), "--size 72: --inpaint paints sides that are multiples of 16."),
        (
            ("--inpaint", "pipeline", "--background-descriptions", "one.txt"),
            "--background-descriptions one.txt: pairs need at least two descriptions",
        ),
        (("--inpaint", "pipeline", "--least-mask-iou", "0.5"), "--least-mask-iou is for --segment."),
        (("--backgrounds", "empty", "--inpaint-steps", "3"), "--inpaint-steps is for --inpaint."),
        (("--backgrounds", "empty", "--background-descriptions", "x"), "--background-descriptions is for --inpaint."),
        (("--backgrounds", "empty", "--segment", "absent"), "absent: there is no such folder; pass the folder or Hub"),
        (("--backgrounds", "empty", "--segment", "empty"), "empty: the folder holds no config.json"),
        (("--backgrounds", "empty", "--segment", "damaged"), "damaged: its config.json is damaged"),
        (("--backgrounds", "empty", "--segment", "clip"), "clip: --segment takes no model of type 'clip'"),
        ((), "--groups needs --backgrounds, a folder of images, or --inpaint."),
    ],
)
def test_errors_in_one_line(place, capsys, arguments, told):
    size = () if "--size" in arguments else ("--size", "96")
    command = ["data", "linked-pairs", "--groups", "groups", *arguments, *size, "--output", "out"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("spectra-sum: error: ") and told in error and error.count("\n") == 1
    assert not (place / "out").exists()


def test_photographs_need_groups(capsys, tmp_path):
    command = ["data", "linked-pairs", "--closed-world", "--segment", "x/y", "--output", str(tmp_path / "out")]
    assert main(command) == 2
    assert "--segment is for photographs; name them by --groups." in capsys.readouterr().err


def test_without_diffusers_it_is_said_what_to_install(place, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    command = ["data", "linked-pairs", "--groups", "groups", "--inpaint", "owner/name", "--size", "96"]
    assert main([*command, "--output", "out"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "spectra-sum: error: --inpaint needs diffusers; install it with: pip install 'spectra-sum[inpaint]'\n"
    )


def test_names_on_the_hub_are_looked_up_later():
    check_segmentation_model("facebook/sam-vit-base")
