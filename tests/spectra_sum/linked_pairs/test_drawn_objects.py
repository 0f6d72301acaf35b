"""Cut-outs that are drawn: objects on nothing, in colours that tell them apart."""

import numpy as np
from PIL import ImageChops

from spectra_sum.linked_pairs.drawn_objects import (
    POSES,
    SHAPES,
    SIDE,
    DrawnBackground,
    draw_object,
    drawn_backgrounds,
    drawn_groups,
)
from spectra_sum.linked_pairs.objects import solid
from spectra_sum.msmo.closed_world_images import COLOURS


def test_a_group_for_each_colour_and_shape():
    groups = drawn_groups()
    assert len(groups) == len(COLOURS) * len(SHAPES) == len({group.name for group in groups})
    assert (groups[0].name, groups[0].description) == ("red_boat", "a red boat")
    assert all(len(group.poses) == POSES for group in groups)


def test_every_shape_is_cut_out_and_has_its_colour():
    for shape in SHAPES:
        cutout = draw_object("red", shape, angle=0, stretch=1, light=1)
        mask = np.asarray(solid(cutout)) > 0
        assert max(cutout.size) <= SIDE and solid(cutout).getbbox() == (0, 0, *cutout.size)
        # Neither a box nor a few lines, and transparent beside the object.
        assert 0.15 < mask.mean() < 0.95 and cutout.getchannel("A").getextrema() == (0, 255)
        red, green, blue, _ = np.asarray(cutout)[mask].astype(int).T
        assert np.mean((red > green) & (red > blue)) > 0.95


def test_poses_of_an_object_differ_and_are_the_same_each_time():
    poses = drawn_groups()[10].poses
    first = [pose.load() for pose in poses]
    assert len({cutout.tobytes() for cutout in first}) == POSES
    assert [cutout.tobytes() for cutout in first] == [pose.load().tobytes() for pose in poses]


def test_an_object_is_turned_stretched_and_lit():
    plain = draw_object("blue", "key", angle=0, stretch=1, light=1)
    turned = draw_object("blue", "key", angle=90, stretch=1, light=1)
    wide = draw_object("blue", "key", angle=0, stretch=1.25, light=1)
    dark = draw_object("blue", "key", angle=0, stretch=1, light=0.5)
    assert np.allclose(turned.size, plain.size[::-1], atol=2)
    assert np.isclose(wide.width / wide.height, 1.25 * plain.width / plain.height, rtol=0.03)
    assert dark.size == plain.size
    difference = ImageChops.difference(plain.convert("RGB"), dark.convert("RGB"))
    assert difference.getextrema()[2][1] > 80


def test_backgrounds_differ():
    found = [background.load() for background in drawn_backgrounds()[:3]]
    assert len({image.tobytes() for image in found}) == 3
    assert found[0].tobytes() == DrawnBackground(0).load().tobytes() and found[0].mode == "RGB"
