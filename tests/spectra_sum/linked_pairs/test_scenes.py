"""Scenes: which pixels are painted, and which paintings are refused."""

import numpy as np
import pytest
from PIL import Image

from spectra_sum.linked_pairs import pairs
from spectra_sum.linked_pairs.backgrounds import share_of_a_colour
from spectra_sum.linked_pairs.composition import Placement
from spectra_sum.linked_pairs.counts import Counts
from spectra_sum.linked_pairs.groups import read_groups
from spectra_sum.linked_pairs.image_files import LinkedPairsError
from spectra_sum.linked_pairs.pairs import PairMaker, Settings
from spectra_sum.linked_pairs.scenes import PLAIN_SCENES, PaintedScene, free, read_descriptions
from tests.spectra_sum.linked_pairs.cutout_files import write_groups


class Painter:
    """Paints noise all over the image, or what `answer` says."""

    name = "noise"
    record = {"model": "noise"}

    def __init__(self, answer=None):
        self.answer = answer
        self.calls = []

    def paint(self, image, mask, description, seed):
        self.calls.append((image, mask, description, seed))
        if self.answer is not None:
            return self.answer(len(self.calls), image)
        pixels = np.random.default_rng(seed).integers(0, 256, (image.height, image.width, 3), dtype=np.uint8)
        return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    return read_groups(write_groups(tmp_path_factory.mktemp("groups"), 4), Counts())


def make(groups, painter, count=4, counts=None, **settings):
    scenes = [PaintedScene(description, painter) for description in PLAIN_SCENES]
    maker = PairMaker("train", groups, scenes, Settings(size=96, **settings), counts or Counts())
    return list(maker.pairs(count))


def test_objects_are_pasted_back_exactly(groups):
    painter = Painter()
    made = [image for pair in make(groups, painter) for image in pair.images]
    assert len(made) == len(painter.calls) == 8
    for (picture, record), (image, mask, description, seed) in zip(made, painter.calls, strict=True):
        assert record["background"] == {"model": "noise", "description": description, "seed": seed}
        objects = np.asarray(mask) == 0
        assert 0.04 < objects.mean() < 0.9 and set(np.unique(np.asarray(mask))) == {0, 255}
        # As the model saw them, before it painted over them.
        assert np.array_equal(np.asarray(picture)[objects], np.asarray(image)[objects])
        painting = Painter().paint(image, mask, description, seed)
        assert np.array_equal(np.asarray(picture)[~objects], np.asarray(painting)[~objects])
        assert set(map(tuple, np.asarray(image)[~objects])) == {(127, 127, 127)}
    assert len({call[3] for call in painter.calls}) == 8


def test_what_no_object_has_is_painted():
    layer = Image.new("RGBA", (4, 4), (1, 2, 3, 255))
    layer.putpixel((0, 0), (1, 2, 3, 127))
    layer.putpixel((1, 0), (1, 2, 3, 128))
    mask = np.asarray(free([layer, layer], [Placement(-2, 0, 4, 4, False), Placement(1, 1, 4, 4, False)], 6))
    expected = np.full((6, 6), 255)
    expected[0:4, 0:2] = 0  # half of it lies outside
    expected[1:5, 1:5] = 0
    expected[1, 1] = 0  # where the other one is
    assert np.array_equal(mask, expected)


def test_failed_paintings_are_counted_and_painted_again(groups):
    def answer(number, image):
        if number in (2, 4):
            return None
        if number == 3:
            return Image.new("RGB", image.size, "black")
        return Painter().paint(image, None, "", number)

    counts, painter = Counts(), Painter(answer)
    made = make(groups, painter, 2, counts)
    assert len(made) == 2 and None not in made and len(painter.calls) == 7
    assert counts.painted == 4 and counts.rejected["refused"] == 2 and counts.rejected["one_colour"] == 1
    assert counts.tries == 4 + counts.rejected.total()


def test_a_model_that_only_fails_is_told_early(groups, monkeypatch):
    monkeypatch.setattr(pairs, "MOST_FAILED_PAINTINGS", 3)
    with pytest.raises(LinkedPairsError, match=r"first 3 paintings can be used \(3 that the model's safety checker"):
        make(groups, Painter(lambda number, image: None))
    # One good painting, and the others are given up one by one.
    counts = Counts()
    only = Painter(lambda number, image: Painter().paint(image, None, "", 1) if number == 1 else None)
    assert make(groups, only, 3, counts, tries=9) == [None] * 3 and counts.given_up == 3


def test_the_share_of_a_colour_among_painted_pixels():
    image = Image.new("RGB", (10, 10), "white")
    image.paste("red", (0, 0, 10, 4))
    mask = Image.new("L", (10, 10))
    mask.paste(255, (0, 3, 10, 5))
    assert share_of_a_colour(image) == 0.6 and share_of_a_colour(image, mask) == 0.5
    assert share_of_a_colour(image, Image.new("L", (10, 10))) == 1


def test_descriptions_of_a_file(tmp_path):
    file = tmp_path / "scenes.txt"
    file.write_text("\ufeffa  beach \n\na forest\r\nA Beach\n", encoding="utf-8")
    counts = Counts()
    assert read_descriptions(file, counts) == ["a beach", "a forest"]
    assert counts.left_out["descriptions"] == {"repeated": 1}
    assert len(set(PLAIN_SCENES)) == len(PLAIN_SCENES) == 20


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a beach\n", "pairs need at least two descriptions, one a line; it has 1."),
        (b"\xff\xfe", "it is not in UTF-8 (byte 0)"),
        (b"a\n" + 1001 * b"x", "line 2 has 1,001 characters, more than 1,000"),
        (None, "it cannot be read (No such file or directory)"),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path, content, told):
    file = tmp_path / "scenes.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(LinkedPairsError) as error:
        read_descriptions(file, Counts())
    assert told in str(error.value) and "\n" not in str(error.value)
