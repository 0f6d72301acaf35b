"""Cut-outs from files: what is one, what is not, and what it is called."""

import json

import pytest
from PIL import Image

from spectra_sum.linked_pairs.counts import Counts
from spectra_sum.linked_pairs.groups import read_groups
from spectra_sum.linked_pairs.image_files import LinkedPairsError
from tests.spectra_sum.linked_pairs.cutout_files import cutout, write_groups


def left_out(counts):
    return {source: dict(found) for source, found in counts.left_out.items() if found}


def test_groups_of_rgba_files(tmp_path):
    counts = Counts()
    groups = read_groups(write_groups(tmp_path / "groups", 2), counts)
    assert [(group.name, group.description) for group in groups] == [
        ("thing_0", "a thing 0"),
        ("thing_1", "a thing 1"),
    ]
    assert [pose.name for pose in groups[1].poses] == ["thing_1/0.png", "thing_1/1.png"]
    # Without its transparent margin.
    assert groups[1].poses[0].load().size == (62, 40)
    assert counts.kept == {"groups": 2, "cut-outs": 4} and left_out(counts) == {}


def test_images_with_masks(tmp_path):
    folder = write_groups(tmp_path / "groups", 1) / "mug"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (80, 60), (9, 60 * number, 9)).save(folder / f"{number}.jpg")
        mask = Image.new("L", (80, 60))
        mask.paste(255, (10, 20, 50, 55))
        mask.save(folder / f"{number}_mask.png")
    group = next(group for group in read_groups(tmp_path / "groups", Counts()) if group.name == "mug")
    loaded = group.poses[0].load()
    assert len(group.poses) == 2 and loaded.size == (40, 35)
    assert loaded.getchannel("A").getextrema() == (255, 255)


def test_what_is_no_cutout_is_counted(tmp_path):
    root = write_groups(tmp_path / "groups", 1)
    folder = root / "thing_0"
    cutout((1, 2, 3)).convert("RGB").save(folder / "rgb.png")
    Image.new("RGBA", (50, 50), "red").save(folder / "opaque.png")
    Image.new("RGBA", (50, 50)).save(folder / "clear.png")
    cutout((1, 2, 3), 60, 23).save(folder / "thin.png")
    (folder / "damaged.png").write_bytes((folder / "0.png").read_bytes()[:-30])
    (folder / "notes.md").write_text("notes")
    Image.new("L", (70, 50)).save(folder / "alone_mask.png")
    cutout((1, 2, 3)).save(folder / "sized.png")
    Image.new("L", (9, 9)).save(folder / "sized_mask.png")
    (folder / "z_copy.png").write_bytes((folder / "0.png").read_bytes())
    cutout((4, 4, 4)).save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "inner").mkdir()
    (root / "single").mkdir()
    cutout((7, 7, 7)).save(root / "single" / "0.png")
    counts = Counts()
    groups = read_groups(root, counts)
    assert [pose.name for group in groups for pose in group.poses] == ["thing_0/0.png", "thing_0/1.png"]
    assert left_out(counts) == {
        "groups": {"few_poses": 1},
        "cut-outs": {
            "whole": 2,
            "empty": 1,
            "small": 1,
            "broken": 1,
            "no_image": 2,
            "lone_mask": 1,
            "mask_size": 1,
            "repeated": 1,
            "outside": 1,
        },
    }
    assert [line.partition(":")[0] for line in counts.damage] == [
        "thing_0/link.png",
        "thing_0/damaged.png",
        "thing_0/sized.png",
    ]


def test_a_decompression_bomb_is_not_decoded(tmp_path, monkeypatch):
    root = write_groups(tmp_path / "groups", 1)
    monkeypatch.setattr("spectra_sum.msmo.layout.MAX_IMAGE_PIXELS", 70 * 50)
    counts = Counts()
    read_groups(root, counts)
    # The second pose is ten pixels higher.
    assert left_out(counts) == {"groups": {"few_poses": 1}, "cut-outs": {"broken": 1}}
    assert counts.damage == ["thing_0/1.png: 70 x 60 pixels, more than 3,500"]


def test_descriptions(tmp_path):
    root = write_groups(tmp_path / "groups", 4)
    (root / "thing_0").rename(root / "an-old_clock")
    (root / "captions.json").write_text(json.dumps({"thing_1": " the  green\nthing. ", "thing_2": "thing two"}))
    (root / "thing_2" / "description.txt").write_text("not this one")
    (root / "thing_3" / "description.txt").write_text("a yellow thing,\nrather flat.\n", encoding="utf-8-sig")
    counts = Counts()
    found = {group.name: group.description for group in read_groups(root, counts)}
    assert found == {
        "an-old_clock": "an old clock",
        "thing_1": "the green thing",
        "thing_2": "thing two",
        "thing_3": "a yellow thing, rather flat",
    }
    assert left_out(counts) == {}


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("captions.json", "[1]", "groups/captions.json: write one object of names and texts"),
        ("captions.json", "{", "groups/captions.json: it is no JSON"),
        ("captions.json", '{"../x": "a"}', "groups/captions.json: it names ../x, of which there is no folder"),
        ("captions.json", '{"thing_1": "A thing 0."}', "thing_0 and thing_1 have the same description"),
        (
            "thing_0/description.txt",
            " \n",
            "thing_0/description.txt: a description has 1 to 1,000 characters, this one 0.",
        ),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path, file, content, told):
    root = write_groups(tmp_path / "groups", 2)
    (root / file).write_text(content)
    with pytest.raises(LinkedPairsError) as error:
        read_groups(root, Counts())
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_description_outside_of_the_folder_is_not_read(tmp_path):
    root = write_groups(tmp_path / "groups", 2)
    (tmp_path / "secret.txt").write_text("secret")
    (root / "thing_0" / "description.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(LinkedPairsError, match="leads out of the folder"):
        read_groups(root, Counts())
