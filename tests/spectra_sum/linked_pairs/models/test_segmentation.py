"""Masks of photographs by mask generation, without torchvision."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from spectra_sum.cli import main
from spectra_sum.linked_pairs.masks import choose_mask
from spectra_sum.linked_pairs.models.segmentation import POINTS, load_segmentation_model
from spectra_sum.models.sources import ModelError
from tests.spectra_sum.linked_pairs.cutout_files import write_backgrounds, write_groups
from tests.spectra_sum.linked_pairs.models.tiny_sams import (
    SIDE,
    draw_photograph,
    image_processor,
    random_model,
    save_model,
    trained_model,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(trained_model(), tmp_path_factory.mktemp("models") / "sam")


def run(*arguments):
    return main(["data", "linked-pairs", *map(str, arguments)])


def test_masks_are_those_of_the_model_at_each_point(tmp_path):
    model = random_model()
    image, _ = draw_photograph(np.random.default_rng(3), 60, 40)
    processor = image_processor()
    inputs = processor(images=image, return_tensors="pt")
    # The middle of each cell of the grid, in pixels of what the model reads.
    places = (np.arange(POINTS) + 0.5) / POINTS
    scale = SIDE / 60
    height = int(40 * scale + 0.5)
    points = torch.tensor([[[x * SIDE, y * height]] for y in places for x in places], dtype=torch.float32)
    with torch.no_grad():
        made = model(
            pixel_values=inputs.pixel_values,
            input_points=points[None],
            input_labels=torch.ones(1, POINTS**2, 1, dtype=torch.long),
        )
    logits = processor.post_process_masks(
        made.pred_masks, inputs.original_sizes, inputs.reshaped_input_sizes, binarize=False
    )[0].flatten(0, 1)
    scores = made.iou_scores.flatten()
    least = scores.median().item()
    inner, outer = (logits > 1).sum((1, 2)), (logits > -1).sum((1, 2))
    expected = (logits > 0)[(scores > least) & (inner / outer > 0.95)].numpy()

    found = load_segmentation_model(str(save_model(model, tmp_path / "sam")), least).masks(image)
    # A mask or two of hundreds may lie on a threshold, as points come in other batches here.
    assert 50 < len(found) and abs(len(found) - len(expected)) <= 3
    ours, theirs = ({mask.tobytes() for mask in masks} for masks in (found, expected))
    assert all(mask.shape == (40, 60) and mask.dtype == bool for mask in found)
    assert len(ours & theirs) >= 0.9 * len(theirs)


def test_the_object_is_found_in_a_photograph_larger_than_the_model_reads(folder):
    segmenter = load_segmentation_model(str(folder))
    generator = np.random.default_rng(1)
    for _ in range(4):
        image, true = draw_photograph(generator, 160, 160)
        mask = choose_mask(segmenter.masks(image))
        assert mask.shape == (SIDE, SIDE)
        mask = np.asarray(Image.fromarray(mask).resize((160, 160)))
        assert (mask & true).sum() / (mask | true).sum() > 0.8


def test_pairs_of_photographs(folder, tmp_path, capsys):
    generator = np.random.default_rng(2)
    groups = write_groups(tmp_path / "groups", 1)
    true = {}
    for number in range(3):
        (groups / f"box_{number}").mkdir()
        for pose in range(2):
            name = f"box_{number}/{pose}.png"
            image, true[name] = draw_photograph(generator, 128, 128)
            image.save(groups / name)
    draw_photograph(generator)[0].save(groups / "box_0" / "small.png")
    scenes = write_backgrounds(tmp_path / "scenes")
    sources = ("--groups", groups, "--backgrounds", scenes, "--size", 96, "--pairs", 6)
    output = tmp_path / "out"
    assert run(*sources, "--segment", folder, "--output", output) == 0
    printed = capsys.readouterr().out
    assert "read: 4 groups, 8 cut-outs, 3 backgrounds\ncut out of photographs by the model: 6\n" in printed
    counts = json.loads((output / "counts.json").read_text())
    assert counts["segmented"] == 6 and counts["left_out"]["cut-outs"]["small"] == 1
    assert counts["models"]["segment"]["model"] == str(folder) and counts["models"]["segment"]["type"] == "sam"
    masks = sorted(path.relative_to(output / "masks").as_posix() for path in (output / "masks").rglob("*.png"))
    assert masks == [f"{name}.png" for name in sorted(true)]
    for name, expected in true.items():
        with Image.open(output / "masks" / f"{name}.png") as file:
            mask = np.asarray(file) >= 128
        assert (mask & expected).sum() / (mask | expected).sum() > 0.8
    again = tmp_path / "again"
    assert run(*sources, "--segment", folder, "--output", again) == 0
    assert (again / "pairs.jsonl").read_bytes() == (output / "pairs.jsonl").read_bytes()


def test_masks_that_the_model_is_not_sure_of(folder, tmp_path, capsys):
    groups = tmp_path / "groups"
    for number in range(2):
        (groups / f"box_{number}").mkdir(parents=True)
        draw_photograph(np.random.default_rng(number), 128, 128)[0].save(groups / f"box_{number}" / "0.png")
    sources = ("--groups", groups, "--backgrounds", write_backgrounds(tmp_path / "scenes"), "--size", 96)
    options = ("--segment", folder, "--least-mask-iou", 1, "--output", tmp_path / "out")
    assert run(*sources, *options) == 2
    assert "cut-outs left out: 2 without a mask that the model is sure of" in capsys.readouterr().err


def test_a_model_that_fails_is_told_in_a_line(folder):
    segmenter = load_segmentation_model(str(folder))
    segmenter.pipeline.model.mask_decoder.iou_token = torch.nn.Embedding(1, 8)
    with pytest.raises(ModelError, match="sam: finding masks failed: ") as error:
        segmenter.masks(draw_photograph(np.random.default_rng(0))[0])
    assert "\n" not in str(error.value)
