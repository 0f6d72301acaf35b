"""Where the images of a user's data may lie."""

import pytest

from spectra_sum.own_data.formats import OwnDataError
from spectra_sum.own_data.images import ImagePlace, image_values


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, []),
        ("", []),
        ("a.png", ["a.png"]),
        ("a.png; b/c.png", ["a.png", "b/c.png"]),
        ('["a.png", "b;c.png"]', ["a.png", "b;c.png"]),
        (b"\x89PNG", [b"\x89PNG"]),
        ({"bytes": None, "path": None}, []),
        ({"bytes": b"x", "path": None}, [{"bytes": b"x", "path": None}]),
        (["a.png", b"x"], ["a.png", b"x"]),
    ],
)
def test_one_image_or_several(given, expected):
    assert image_values(given) == expected


def test_images_within_the_data_have_no_path(tmp_path):
    place = ImagePlace(folder=str(tmp_path))
    for value in (b"x", bytearray(b"x"), {"bytes": b"x", "path": "/etc/passwd"}, {"bytes": b"x"}):
        assert place.stored(value) == {"bytes": b"x", "path": None}


def test_paths_count_from_the_folder_of_the_data(tmp_path):
    place = ImagePlace(folder=str(tmp_path))
    for value in ("img/a b%20é.png", {"path": "img/a b%20é.png"}, {"bytes": None, "path": " img/a b%20é.png"}):
        assert place.stored(value) == {"bytes": None, "path": str(tmp_path / "img/a b%20é.png")}


@pytest.mark.parametrize(
    "path",
    [
        "/etc/hostname",
        "../secret.png",
        "img/../../secret.png",
        "..",
        "~/secret.png",
        r"..\secret.png",
        r"C:\secret.png",
        r"\\host\x",
    ],
)
def test_no_path_leads_out_of_the_folder(tmp_path, path):
    (tmp_path / "secret.png").touch()
    (tmp_path / "data").mkdir()
    with pytest.raises(
        OwnDataError, match=r"(may lie outside of the data's folder; give its path from|is an address)"
    ):
        ImagePlace(folder=str(tmp_path / "data")).stored(path)


def test_no_link_leads_out_of_the_folder(tmp_path):
    (tmp_path / "secret.png").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "data" / "folder").symlink_to(tmp_path)
    for path in ("link.png", "folder/secret.png"):
        with pytest.raises(OwnDataError, match="is a link that leads out of"):
            ImagePlace(folder=str(tmp_path / "data")).stored(path)


@pytest.mark.parametrize(
    "address",
    [
        "http://example.org/a.png",
        "HTTPS://example.org/a.png",
        "data:image/png;base64,iVBORw0KGgo=",
        "file:///etc/hostname",
        "hf://datasets/a/b/c.png",
    ],
)
def test_addresses_are_not_fetched(tmp_path, address):
    with pytest.raises(OwnDataError, match="is an address, and none is fetched or decoded; save it as a file"):
        ImagePlace(folder=str(tmp_path)).stored(address)


def test_encoded_images_are_no_paths(tmp_path):
    with pytest.raises(
        OwnDataError, match=r"the image 'iVBOR.*… \(9002 characters\) is no path \(base64 is not read\)"
    ):
        ImagePlace(folder=str(tmp_path)).stored("iVBOR" + "A" * 8995)


def test_images_of_the_hub_lie_in_its_cache_or_in_the_dataset(tmp_path):
    (tmp_path / "cache").mkdir()
    place = ImagePlace(roots=(str(tmp_path / "cache"),), address="hf://datasets/a/b@")
    inside = str(tmp_path / "cache" / "x.png")
    assert place.stored({"bytes": None, "path": inside}) == {"bytes": None, "path": inside}
    for path in (str(tmp_path / "x.png"), "img/x.png", "/etc/hostname"):
        with pytest.raises(OwnDataError, match="is only named; there are no files beside this dataset"):
            place.stored({"bytes": None, "path": path})
    with pytest.raises(OwnDataError, match="is an address"):
        place.stored("hf://datasets/other/b@main/x.png")


@pytest.mark.parametrize("value", [None, 5, "", {"url": "x"}, [[0, 1]], {}])
def test_what_is_no_image(tmp_path, value):
    with pytest.raises(OwnDataError, match="an image is .*; give a path, the file's bytes, or a feature Image"):
        ImagePlace(folder=str(tmp_path)).stored(value)
