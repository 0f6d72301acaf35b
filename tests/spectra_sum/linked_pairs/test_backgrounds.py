"""Backgrounds: found in inner folders, and counted where they are none."""

import numpy as np
import pytest
from PIL import Image

from spectra_sum.linked_pairs.backgrounds import read_backgrounds, share_of_a_colour, square
from spectra_sum.linked_pairs.counts import Counts
from tests.spectra_sum.linked_pairs.cutout_files import write_backgrounds


def test_inner_folders_and_what_is_left_out(tmp_path):
    root = write_backgrounds(tmp_path / "scenes", 1)
    write_backgrounds(root / "b" / "c", 1)
    (root / "b" / "list.txt").write_text("x")
    (root / "b" / "broken.jpg").write_bytes(b"x")
    Image.new("RGB", (300, 39)).save(root / "flat.png")
    Image.new("RGB", (300, 300)).save(tmp_path / "secret.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    # A circle, and the way to another folder.
    (root / "b" / "up").symlink_to(root)
    (root / "away").symlink_to(tmp_path)
    counts = Counts()
    found = read_backgrounds(root, 100, counts)
    assert [background.name for background in found] == ["scene_0.png", "b/c/scene_0.png"]
    assert counts.left_out["backgrounds"] == {"no_image": 2, "broken": 1, "small": 1, "outside": 2}
    assert counts.kept["backgrounds"] == 2


def test_drawings_are_left_out_when_photographs_are_asked_for(tmp_path):
    root = write_backgrounds(tmp_path / "scenes", 1)
    drawing = Image.new("RGB", (100, 100), "white")
    drawing.paste(Image.open(root / "scene_0.png").crop((0, 0, 100, 80)), (0, 0))
    drawing.save(root / "drawing.png")
    assert share_of_a_colour(drawing) == pytest.approx(0.2, abs=0.002)
    counts = Counts()
    assert [found.name for found in read_backgrounds(root, 100, counts, photographs=True)] == ["scene_0.png"]
    assert counts.left_out["backgrounds"] == {"drawing": 1}
    assert len(read_backgrounds(root, 100, Counts())) == 2


def test_squares_lie_in_the_image_and_reach_both_ends():
    generator = np.random.default_rng(0)
    boxes = {square((7, 5), generator) for _ in range(100)}
    assert boxes == {(0, 0, 5, 5), (1, 0, 6, 5), (2, 0, 7, 5)}


def test_transparency_is_over_white(tmp_path):
    root = write_backgrounds(tmp_path / "scenes", 1)
    Image.new("RGBA", (100, 100), (255, 0, 0, 0)).save(root / "clear.png")
    found = {background.name: background.load() for background in read_backgrounds(root, 100, Counts())}
    assert found["clear.png"].getpixel((5, 5)) == (255, 255, 255)
