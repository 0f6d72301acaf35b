"""Which images are broken, what is said of them, and that the others are read as `datasets` and the models read them."""

import errno
import io

import datasets
import numpy as np
import pytest
from PIL import Image, ImageFile

from modeling_spectra.rgb_images import flat_rgb
from spectra_sum.records.article_images import BrokenImage, UndecodedArticles, count_broken, decoded, read_images
from tests.tiny import picture


def jpeg(size=(96, 64), **options) -> bytes:
    buffer = io.BytesIO()
    picture(3, size).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def cut() -> bytes:
    """As a download that broke off leaves it: the header is sound, half of the pixels are missing."""
    content = jpeg()
    with Image.open(io.BytesIO(content[: len(content) // 2])) as image:
        assert image.size == (96, 64)
    return content[: len(content) // 2]


def bomb() -> bytes:
    """A PNG header that declares more pixels than Pillow's limit, below the double of it, where Pillow raises itself."""
    buffer = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def records(tmp_path) -> datasets.Dataset:
    """Images inside the dataset and in files, two of them broken and one gone."""
    (tmp_path / "cut.jpg").write_bytes(cut())
    (tmp_path / "good.jpg").write_bytes(jpeg())
    exif = Image.Exif()
    exif[274] = 6
    images = [
        [
            {"bytes": jpeg(exif=exif), "path": "turned.jpg"},
            {"bytes": cut(), "path": "inside.jpg"},
            {"bytes": None, "path": str(tmp_path / "good.jpg")},
        ],
        [{"bytes": None, "path": str(tmp_path / "cut.jpg")}, {"bytes": None, "path": str(tmp_path / "gone.jpg")}],
        [],
    ]
    features = {"id": datasets.Value("string"), "images": datasets.List(datasets.Image())}
    rows = {"id": ["a", "b", "c"], "images": images}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def test_sound_images_are_read_as_datasets_reads_them_and_broken_ones_are_named(records, tmp_path):
    with pytest.raises(OSError):
        records[0]
    articles = UndecodedArticles(records)
    assert len(articles) == 3
    first, second, third = (read_images(articles[index]) for index in range(3))
    assert (first.indices, second.indices, third.indices) == ([0, 2], [], [])
    decode = datasets.Image().decode_example
    for image, index in zip(first.images, first.indices, strict=True):
        # The processor's rule, applied to what `datasets` decodes.
        expected = flat_rgb(decode(articles[0]["images"][index]))
        assert (image.size, image.mode) == (expected.size, expected.mode)
        assert np.array_equal(np.asarray(image), np.asarray(expected))
    assert first.images[0].size == (64, 96)
    [inside], (on_disk, gone) = first.broken, second.broken
    assert inside[:4] == ("a", 1, 3, "inside.jpg") and "truncated" in inside.damage
    assert str(inside).startswith("article a: inside.jpg (image 2) is broken and left out: image file is truncated")
    assert "replace the file and start again, or remove it" in str(inside) and "\n" not in str(inside)
    assert on_disk[:4] == ("b", 0, 2, str(tmp_path / "cut.jpg")) and "truncated" in on_disk.damage
    assert gone.file == str(tmp_path / "gone.jpg") and "No such file" in gone.damage
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_batches_are_the_articles_one_by_one(records):
    articles = UndecodedArticles(records)
    assert articles.__getitems__([2, 0]) == [articles[2], articles[0]]


@pytest.mark.parametrize(
    ("value", "damage"),
    [
        ({"bytes": b"", "path": None}, "it is no image in a format that is read"),
        ({"bytes": bomb(), "path": "bomb.png"}, "decompression bomb"),
        ({"bytes": None, "path": None}, "neither bytes nor a path"),
        (Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)), "no shades of grey"),
    ],
)
def test_what_no_model_can_read_is_broken(value, damage):
    read = read_images({"id": "x", "images": [picture(1), value, picture(2)]})
    assert read.indices == [0, 2] and damage in read.broken[0].damage


def test_only_the_first_ones_are_read_broken_or_not(records):
    record = UndecodedArticles(records)[0]
    assert read_images(record, 2).indices == [0]
    assert [image.images for image in read_images(record, 2).broken] == [2]
    # Decoded once for several readers, who each find the same ones broken.
    once = decoded(record, 2)
    assert isinstance(once["images"][0], Image.Image) and once["images"][1:] == record["images"][1:]
    assert read_images(once, 2)[1:] == read_images(record, 2)[1:]


def test_a_process_without_file_handles_is_no_broken_image(records, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        read_images(UndecodedArticles(records)[0])


def test_counts():
    broken = [BrokenImage(*fields, "", "") for fields in (("a", 0, 2), ("a", 1, 2), ("b", 3, 5), ("b", 3, 5))]
    gold = [("a", 1), ("b", 0), ("c", 0)]
    assert count_broken(broken, gold=gold) == {
        "broken_images": 3,
        "broken_gold_images": 1,
        "articles_made_text_only": 1,
    }
    assert count_broken([]) == {}


def eps() -> bytes:
    buffer = io.BytesIO()
    picture(3).save(buffer, "EPS")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("image", "damage"),
    [
        ({"bytes": b"no image", "path": "a.png"}, "it is no image in a format that is read"),
        # Pillow would start Ghostscript for it.
        ({"bytes": eps(), "path": "a.png"}, "it is no image in a format that is read"),
        (None, "neither a PIL image nor a dict with bytes or a path, but NoneType"),
        ("a.png", "neither a PIL image nor a dict with bytes or a path, but str"),
    ],
)
def test_what_is_no_image_is_said_in_the_same_words_each_time(image, damage):
    read = read_images({"id": "a", "images": [image]})
    (broken,) = read.broken
    assert damage in broken.damage and "0x" not in str(broken)
    assert read.images == []


def test_an_article_without_images_has_none():
    assert read_images({"id": "a", "images": None}) == ([], [], [])


def test_a_disk_that_fails_is_no_broken_image(monkeypatch):
    def fail(*args, **options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(OSError, match="Input/output error"):
        read_images({"id": "a", "images": [{"bytes": jpeg(), "path": None}]})
