"""Backgrounds painted by diffusers, with a tiny pipeline."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from spectra_sum.cli import main
from spectra_sum.models.sources import ModelError
from tests.spectra_sum.linked_pairs.cutout_files import write_groups

pytest.importorskip("diffusers", reason="needs the extra [inpaint]")

from spectra_sum.linked_pairs.models.inpainting import InpaintingModel, load_inpainting_model  # noqa: E402
from tests.spectra_sum.linked_pairs.models.tiny_pipelines import save_pipeline  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_pipeline(tmp_path_factory.mktemp("pipelines") / "tiny")


@pytest.fixture(scope="module")
def painter(folder):
    return load_inpainting_model(str(folder), steps=2)


@pytest.fixture
def image():
    return Image.new("RGB", (96, 64), (127, 127, 127))


@pytest.fixture
def mask():
    mask = Image.new("L", (96, 64), 255)
    mask.paste(0, (20, 20, 60, 50))
    return mask


def run(*arguments):
    return main(["data", "linked-pairs", *map(str, arguments)])


def test_it_paints_what_the_pipeline_itself_does(painter, image, mask):
    made = painter.paint(image, mask, "a beach", 7)
    expected = painter.pipeline(
        prompt="a beach",
        image=image,
        mask_image=mask,
        height=64,
        width=96,
        strength=1.0,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    assert made.size == (96, 64) and made.tobytes() == expected.tobytes()
    assert made.tobytes() != painter.paint(image, mask, "a forest", 7).tobytes()
    assert made.tobytes() != painter.paint(image, mask, "a beach", 8).tobytes()


def test_the_record_says_which_model(painter, folder):
    record = painter.record
    assert record["model"] == str(folder) and record["pipeline"] == "StableDiffusionInpaintPipeline"
    assert record["options"] == {"strength": 1.0, "num_inference_steps": 2} and record["revision"] is None


def test_what_the_safety_checker_refuses(tmp_path, image, mask):
    refusing = load_inpainting_model(str(save_pipeline(tmp_path / "refusing", refusing=True)), steps=1)
    made = refusing.pipeline(prompt="x", image=image, mask_image=mask, height=64, width=96, num_inference_steps=1)
    assert made.nsfw_content_detected == [True] and made.images[0].getextrema() == ((0, 0),) * 3
    assert refusing.paint(image, mask, "x", 0) is None


def test_a_pipeline_that_fails_is_told_in_a_line(painter, mask):
    with pytest.raises(ModelError, match=r"painting 'a beach' failed: .*divisible by 8"):
        painter.paint(Image.new("RGB", (91, 61)), mask, "a beach", 0)


def test_pairs_with_painted_backgrounds(folder, painter, tmp_path, capsys):
    groups = write_groups(tmp_path / "groups", 9)
    (tmp_path / "scenes.txt").write_text("a beach\n\n a  forest \nA beach\n")
    sources = ("--groups", groups, "--inpaint", folder, "--inpaint-steps", 1, "--size", 96, "--pairs", 6)
    options = ("--background-descriptions", tmp_path / "scenes.txt")
    outputs = [tmp_path / "out", tmp_path / "again"]
    for output in outputs:
        assert run(*sources, *options, "--output", output) == 0
    printed = capsys.readouterr().out
    assert "read: 9 groups, 18 cut-outs, 2 descriptions\ndescriptions left out: 1 the same as another one\n" in printed
    assert "0 rejected that the model's safety checker has refused, 0 rejected painted in one colour\n" in printed
    files = [
        {path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()}
        for output in outputs
    ]
    assert files[0] == files[1]
    counts = json.loads((outputs[0] / "counts.json").read_text())
    assert counts["kept"]["descriptions"] == 2 and counts["kept"]["backgrounds"] == 0 and counts["painted"] == 12
    assert counts["models"]["inpaint"]["options"]["num_inference_steps"] == 1
    records = [json.loads(line) for line in (outputs[0] / "pairs.jsonl").read_text().splitlines()]
    assert len(records) == 6
    for record in records:
        backgrounds = [image["background"] for image in record["images"]]
        assert {background["description"] for background in backgrounds} == {"a beach", "a forest"}
        assert {background["model"] for background in backgrounds} == {str(folder)}
    _check_again(outputs[0], groups, records[0]["images"][0], load_inpainting_model(str(folder), steps=1))


def _check_again(output, groups, record, painter: InpaintingModel):
    """An image is what its record says: objects over what the model paints around them."""
    canvas, taken = Image.new("RGBA", (96, 96), (127, 127, 127)), Image.new("L", (96, 96))
    objects = Image.new("RGBA", (96, 96))
    for item in record["objects"]:
        with Image.open(groups / item["file"]) as file:
            cutout = file.crop(file.getbbox()).resize((item["width"], item["height"]), Image.Resampling.LANCZOS)
        if item["flip"]:
            cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        layer = Image.new("RGBA", (96, 96))
        layer.paste(cutout, (item["x"], item["y"]))
        taken = ImageChops.lighter(taken, layer.getchannel("A"))
        canvas, objects = Image.alpha_composite(canvas, layer), Image.alpha_composite(objects, layer)
    # These cut-outs are rectangles, without half transparent pixels.
    assert set(np.unique(np.asarray(taken))) == {0, 255}
    background = record["background"]
    painting = painter.paint(
        canvas.convert("RGB"), ImageChops.invert(taken), background["description"], background["seed"]
    )
    expected = Image.alpha_composite(painting.convert("RGBA"), objects).convert("RGB")
    with Image.open(output / record["file"]) as file:
        difference = np.abs(np.asarray(file, dtype=int) - np.asarray(expected))
    # What JPEG changes; another seed's painting differs by more than twice as much.
    assert difference.mean() < 12
    other = painter.paint(canvas.convert("RGB"), ImageChops.invert(taken), background["description"], 0)
    assert np.abs(np.asarray(other, dtype=int) - np.asarray(painting)).mean() > 30


@pytest.mark.parametrize(
    ("broken", "told"),
    [("refusing", "20 that the model's safety checker has refused"), ("one_colour", "20 painted in one colour")],
)
def test_a_model_that_only_fails_is_told_early(tmp_path, capsys, broken, told):
    model = save_pipeline(tmp_path / "model", **{broken: True})
    arguments = ("--closed-world", "--inpaint", model, "--inpaint-steps", 1, "--size", 64, "--pairs", 50)
    assert run(*arguments, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert f"--inpaint: none of the first 20 paintings can be used ({told})" in error
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_model(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    with pytest.raises(ModelError, match="the model cannot be loaded") as error:
        load_inpainting_model(str(tmp_path))
    assert "\n" not in str(error.value)
