"""Masks: which one of a photograph's is the object."""

import io

import numpy as np
import pytest
from PIL import Image

from spectra_sum.linked_pairs.counts import Counts
from spectra_sum.linked_pairs.cutouts import CutoutFile, UnusableCutout
from spectra_sum.linked_pairs.groups import read_groups
from spectra_sum.linked_pairs.masks import choose_mask, segment, sides_touched
from tests.spectra_sum.linked_pairs.cutout_files import cutout, write_groups


def box(left, top, right, bottom):
    mask = np.zeros((50, 100), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


OBJECT = box(30, 10, 60, 40)
FLOOR = box(0, 30, 100, 50)
WHOLE = box(0, 0, 100, 50)
PIECES = box(10, 10, 20, 40) | box(50, 10, 90, 40)  # three and twelve fifteenths
SMALL = box(30, 10, 39, 21)  # 99 of 5,000 pixels


class Segmenter:
    record = {"model": "masks"}

    def __init__(self, *masks):
        self.found = masks
        self.sizes = []

    def masks(self, image):
        self.sizes.append(image.size)
        return list(self.found)


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        ([], "unsure"),
        ([SMALL], "small"),
        ([WHOLE], "border"),
        ([FLOOR, SMALL], "border"),
        ([PIECES], "pieces"),
        ([SMALL, FLOOR, PIECES], "pieces"),
    ],
)
def test_masks_that_are_not_good_enough(masks, reason):
    with pytest.raises(UnusableCutout) as error:
        choose_mask(masks)
    assert error.value.reason == reason


def test_the_largest_good_mask():
    part = box(35, 10, 60, 40)
    assert np.array_equal(choose_mask([FLOOR, part, OBJECT, PIECES, SMALL]), OBJECT)
    # In a corner it touches two sides.
    corner = box(60, 10, 100, 50)
    assert sides_touched(corner) == 2 and np.array_equal(choose_mask([corner]), corner)
    assert [sides_touched(mask) for mask in (OBJECT, FLOOR, WHOLE)] == [0, 3, 4]


def test_crumbs_are_cut_off():
    crumbs = OBJECT | box(80, 10, 84, 20) | box(5, 5, 6, 6)
    assert np.array_equal(choose_mask([crumbs]), OBJECT)
    diagonal = box(30, 10, 45, 25) | box(45, 25, 60, 40)
    assert np.array_equal(choose_mask([diagonal]), diagonal)


def test_a_mask_has_the_size_of_its_photograph(tmp_path):
    Image.new("RGB", (200, 100), "red").save(tmp_path / "0.png")
    segmenter = Segmenter(OBJECT)
    found = segment(CutoutFile("0.png", tmp_path / "0.png"), segmenter)
    assert segmenter.sizes == [(200, 100)]
    with Image.open(io.BytesIO(found.mask)) as mask:
        assert mask.size == (200, 100) and mask.mode == "L"
    assert found.load().size == (60, 60)


def test_only_photographs_are_segmented(tmp_path):
    root = write_groups(tmp_path / "groups", 1)
    for number in range(2):
        Image.new("RGB", (200, 100), (9, 100 * number, 9)).save(root / "thing_0" / f"photo_{number}.jpg")
    cutout((4, 4, 4)).convert("RGB").save(root / "thing_0" / "masked.png")
    Image.new("L", (70, 50), 255).save(root / "thing_0" / "masked_mask.png")
    (root / "thing_0" / "broken.jpg").write_bytes(b"x")
    segmenter, counts = Segmenter(OBJECT), Counts()
    (group,) = read_groups(root, counts, segmenter)
    assert [pose.name for pose in group.poses] == [f"thing_0/{name}" for name in ("0.png", "1.png", "photo_0.jpg")] + [
        "thing_0/photo_1.jpg"
    ]
    assert segmenter.sizes == [(200, 100)] * 2 and counts.segmented == 2 and counts.kept["cut-outs"] == 4
    assert counts.left_out["cut-outs"] == {"whole": 1, "broken": 1}
    without = Counts()
    read_groups(root, without)
    assert without.left_out["cut-outs"] == {"whole": 3, "broken": 1} and without.segmented == 0
