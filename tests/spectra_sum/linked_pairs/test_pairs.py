"""Pairs: what they share, what differs, and that their records tell how to make them again."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageChops

from spectra_sum.linked_pairs.backgrounds import read_backgrounds
from spectra_sum.linked_pairs.composition import Limits
from spectra_sum.linked_pairs.counts import Counts
from spectra_sum.linked_pairs.groups import read_groups
from spectra_sum.linked_pairs.image_files import LinkedPairsError
from spectra_sum.linked_pairs.pairs import PairMaker, Settings
from spectra_sum.linked_pairs.scenes import PictureScene
from tests.spectra_sum.linked_pairs.cutout_files import write_backgrounds, write_groups

SETTINGS = Settings(size=96, seed=3)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    groups = read_groups(write_groups(folder / "groups", 5, poses=3), Counts())
    backgrounds = read_backgrounds(write_backgrounds(folder / "scenes", 4), 96, Counts())
    return groups, [PictureScene(background) for background in backgrounds], folder


def make(sources, count, settings=SETTINGS, counts=None):
    groups, scenes, _ = sources
    return list(PairMaker("train", groups, scenes, settings, counts or Counts()).pairs(count))


def test_what_a_pair_shares_and_what_differs(sources):
    pairs = make(sources, 20)
    for pair in pairs:
        records = [image.record for image in pair.images]
        assert len({record["background"]["file"] for record in records}) == 2
        objects = {item["shared"]: [] for record in records for item in record["objects"]}
        for record in records:
            for item in record["objects"]:
                objects[item["shared"]].append((item["group"], item["file"]))
        assert [group for group, _ in objects[True]] == [pair.shared.name] * 2
        assert len(set(objects[True])) == 2  # two poses
        assert [group for group, _ in objects[False]] == [group.name for group in pair.others]
        assert len({pair.shared.name, *(group.name for group in pair.others)}) == 3
        assert pair.answer == f"Both pictures show {pair.shared.description}."
    # Each object is shared once before any is a second time.
    names = [pair.shared.name for pair in pairs]
    assert all(len(set(names[start : start + 5])) == 5 for start in range(0, 20, 5))
    assert len({pair.instruction for pair in pairs}) > 1
    assert {item["flip"] for pair in pairs for image in pair.images for item in image.record["objects"]} == {
        True,
        False,
    }
    fronts = {image.record["objects"][1]["shared"] for pair in pairs for image in pair.images}
    assert fronts == {True, False}


def test_an_image_can_be_made_again_from_its_record(sources):
    folder = sources[2]
    for pair in make(sources, 6):
        for picture, record in pair.images:
            crop = record["background"]["crop"]
            with Image.open(folder / "scenes" / record["background"]["file"]) as scene:
                again = scene.resize((96, 96), Image.Resampling.LANCZOS, box=crop).convert("RGBA")
            for item in record["objects"]:
                with Image.open(folder / "groups" / item["file"]) as file:
                    cutout = file.crop(file.getbbox())
                if item["flip"]:
                    cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                layer = Image.new("RGBA", (96, 96))
                layer.paste(
                    cutout.resize((item["width"], item["height"]), Image.Resampling.LANCZOS), (item["x"], item["y"])
                )
                again = Image.alpha_composite(again, layer)
            difference = ImageChops.difference(picture, again.convert("RGB"))
            # The order of two roundings.
            assert max(high for _, high in difference.getextrema()) <= 1


def test_the_limits_hold_for_every_image(sources):
    settings = Settings(size=96, limits=Limits(0.9, 0.05, 0.08))
    counts = Counts()
    for pair in filter(None, make(sources, 30, settings, counts)):
        for _, record in pair.images:
            assert record["overlap"] <= 0.05
            assert all(item["visible_share"] >= 0.9 and item["size"] >= 0.08 for item in record["objects"])
    assert all(counts.rejected[reason] for reason in ("small", "overlap", "hidden"))
    assert counts.tries == 2 * counts.pairs["train"] + counts.unused + counts.rejected.total()


def test_pairs_that_are_given_up_are_counted(sources):
    counts = Counts()
    pairs = make(sources, 40, Settings(size=96, tries=1, limits=Limits(0.9, 0.05, 0.05)), counts)
    assert counts.given_up == pairs.count(None) > 0 and counts.pairs["train"] == 40 - counts.given_up > 0
    assert counts.unused > 0
    assert counts.tries == 2 * counts.pairs["train"] + counts.unused + counts.rejected.total()
    assert counts.rejected.total() == counts.given_up


def test_fewer_pairs_are_the_first_ones_and_seeds_differ(sources):
    def contents(pairs):
        return [[image.picture.tobytes() for image in pair.images] for pair in pairs]

    few = contents(make(sources, 3))
    assert few == contents(make(sources, 7))[:3]
    assert not {image for pair in few for image in pair} & {
        image for pair in contents(make(sources, 3, Settings(size=96, seed=4))) for image in pair
    }


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"size": 63}, "--size 63"),
        ({"sides": (0.6, 0.3)}, "--object-size 0.6 0.3"),
        ({"sides": (0, 0.3)}, "--object-size 0 0.3"),
        ({"answer": "It."}, "--answer 'It.': write {object}"),
        ({"instructions": ("What?", " ")}, "--instructions"),
    ],
)
def test_settings_that_cannot_be_met(settings, told):
    with pytest.raises(LinkedPairsError) as error:
        Settings(**settings)
    assert str(error.value).startswith(told)


def test_a_file_that_has_changed_meanwhile(sources, tmp_path):
    groups = read_groups(write_groups(tmp_path / "groups", 3), Counts())
    for file in (tmp_path / "groups").rglob("*.png"):
        file.write_bytes(b"x")
    with pytest.raises(LinkedPairsError, match="it has changed since it was read"):
        list(PairMaker("train", groups, sources[1], SETTINGS, Counts()).pairs(1))


def test_turns_are_shuffled(sources):
    names = [pair.shared.name for pair in make(sources, 20)]
    turns = [names[start : start + 5] for start in range(0, 20, 5)]
    assert any(first != second for first, second in pairwise(turns))
    assert np.all([sorted(turn) == sorted(turns[0]) for turn in turns])
