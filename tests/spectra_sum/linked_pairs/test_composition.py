"""Geometry: shares of what is to be seen against pixels that are counted one by one."""

import numpy as np
import pytest
from PIL import Image

from spectra_sum.linked_pairs.composition import (
    OVERHANG,
    Limits,
    Measures,
    Placement,
    compose,
    draw_placement,
    measure,
    placed,
)
from spectra_sum.linked_pairs.objects import MAX_ENLARGEMENT


def block(width, height, colour=(255, 0, 0, 255)):
    return Image.new("RGBA", (width, height), colour)


def disc(side):
    """Half of its box's corners are transparent; the edge is soft."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip(255 * (side / 2 - np.hypot(x, y)), 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([np.full((side, side, 3), 9, np.uint8), alpha]))


def test_measures_of_rectangles_by_hand():
    # Back: 10 × 10 at (-2, 3) of a canvas of 20 × 20: 80 of 100 pixels inside. Front: 8 × 4 at (6, 5): it covers the back's
    # columns 6 and 7 in 4 rows, 8 pixels.
    placements = [Placement(-2, 3, 10, 10, False), Placement(6, 5, 8, 4, False)]
    measures = measure([block(10, 10), block(8, 4)], placements, 20)
    assert measures == Measures(visible=(72 / 100, 32 / 32), sizes=(72 / 400, 32 / 400), overlap=8 / 32)


def test_measures_of_discs_pixel_by_pixel():
    canvas, layers = 48, [disc(31), disc(20)]
    placements = [Placement(-4, 20, 31, 31, False), Placement(18, 30, 20, 20, False)]
    sets, totals = [], []
    for layer, placement in zip(layers, placements, strict=True):
        pixels = layer.load()
        found = {
            (placement.x + x, placement.y + y)
            for x in range(layer.width)
            for y in range(layer.height)
            if pixels[x, y][3] >= 128
        }
        totals.append(len(found))
        sets.append({place for place in found if 0 <= min(place) and max(place) < canvas})
    both = sets[0] & sets[1]
    assert both and len(sets[0]) < totals[0] and len(sets[1]) < totals[1]
    measures = measure(layers, placements, canvas)
    assert measures.visible == (len(sets[0] - sets[1]) / totals[0], len(sets[1]) / totals[1])
    assert measures.sizes == (len(sets[0] - sets[1]) / canvas**2, len(sets[1]) / canvas**2)
    assert measures.overlap == len(both) / totals[1]


def test_an_object_outside_of_the_canvas_is_not_seen():
    placements = [Placement(30, 0, 5, 5, False), Placement(0, 0, 5, 5, False)]
    assert measure([block(5, 5), block(5, 5)], placements, 20).visible == (0, 1)


@pytest.mark.parametrize(
    ("measures", "rejection"),
    [
        (Measures((1, 1), (0.02, 0.02), 0), ""),
        (Measures((1, 1), (0.5, 0.019), 0), "small"),
        (Measures((1, 1), (0.5, 0.5), 0.16), "overlap"),
        (Measures((0.84, 1), (0.5, 0.5), 0.15), "hidden"),
        (Measures((0.85, 0.85), (0.5, 0.5), 0.15), ""),
        (Measures((0.1, 1), (0.01, 0.5), 0.9), "small"),
    ],
)
def test_the_first_limit_that_is_not_kept(measures, rejection):
    assert measures.rejection(Limits()) == rejection


def test_placements_are_within_their_bounds_and_reach_them():
    generator = np.random.default_rng(0)
    found = [draw_placement((60, 30), 100, (0.3, 0.6), generator) for _ in range(3000)]
    assert {placement.width for placement in found} == set(range(30, 61))
    assert all(placement.height == round(placement.width / 2) or placement.width % 2 for placement in found)
    assert {placement.flip for placement in found} == {False, True}
    for length, corner in (("width", "x"), ("height", "y")):
        hidden = [
            max(-getattr(item, corner), getattr(item, corner) + getattr(item, length) - 100) / getattr(item, length)
            for item in found
        ]
        assert 0.9 * OVERHANG < max(hidden) <= OVERHANG
        assert min(getattr(item, corner) for item in found) < 0


def test_a_small_cutout_is_not_enlarged_beyond_the_bound():
    placement = draw_placement((20, 10), 1000, (0.5, 0.5), np.random.default_rng(0))
    assert (placement.width, placement.height) == (20 * MAX_ENLARGEMENT, 10 * MAX_ENLARGEMENT)


def test_flip_and_order_of_what_is_pasted():
    cutout = block(4, 2)
    cutout.paste((0, 255, 0, 255), (0, 0, 2, 2))
    back = placed(cutout, Placement(1, 1, 4, 2, True))
    image = compose(
        Image.new("RGB", (8, 8), "white"),
        [back, block(2, 2, (0, 0, 255, 255))],
        [Placement(1, 1, 4, 2, True), Placement(4, 2, 2, 2, False)],
    )
    red, green, blue, white = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    expected = [[white] * 8 for _ in range(8)]
    expected[1][1:5] = expected[2][1:5] = [red, red, green, green]
    for y in (2, 3):
        expected[y][4:6] = [blue, blue]
    assert [[image.getpixel((x, y)) for x in range(8)] for y in range(8)] == expected


def test_soft_edges_mix_with_the_background():
    image = compose(
        Image.new("RGB", (2, 1), (0, 0, 200)), [block(1, 1, (200, 0, 0, 51))], [Placement(0, 0, 1, 1, False)]
    )
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(40, 0, 160), (0, 0, 200)]
