"""Articles in the MSMO layout as documents: with the images, captions and alternative texts of their copy."""

import os
from pathlib import Path

import pytest
from PIL import Image

from spectra_sum.documents.folders import find_documents
from spectra_sum.documents.reading import read_document

TEXT = "@title\nA storm\n\n@body\nIt blew\nhard.\n\nThen not.\n\n@summary\nIt blew.\n"


@pytest.fixture
def split(tmp_path):
    """A split with the article `a`, which has images 0, 2 and 10, and the article `a_2`, which has image 1."""
    split = tmp_path / "copy" / "test_data"
    for name in ("article", "img", "caption", "alt"):
        (split / name).mkdir(parents=True)
    for name in ("a", "a_2"):
        (split / "article" / f"{name}.txt").write_text(TEXT)
    for name, colour in (("a_0.jpg", "red"), ("a_2.PNG", "lime"), ("a_10.jpeg", "blue"), ("a_2_1.png", "black")):
        Image.new("RGB", (30, 30), colour).save(split / "img" / name)
    (split / "caption" / "a_0.txt").write_text("\ufeffShips\nin the  harbour.\n")
    (split / "caption" / "a_10.caption").write_bytes(b"caf\xe9")
    (split / "alt" / "a_2.alt").write_text("A\tfield\x1b[31m.")
    (split / "image_annotation.txt").write_text("None\nNone\n")
    return split


def test_images_come_with_captions_and_alternative_texts(split):
    document = read_document(split / "article" / "a.txt")
    assert (document.title, document.body, document.reference) == ("A storm", "It blew hard.\n\nThen not.", "It blew.")
    assert [(image.name, image.caption, image.alt) for image in document.images] == [
        ("a_0.jpg", "Ships in the harbour.", ""),
        ("a_2.PNG", "", "A field\ufffd[31m."),
        ("a_10.jpeg", "caf\ufffd", ""),
    ]
    assert [image.image.getpixel((15, 15)) for image in document.images][1] == (0, 255, 0)
    assert document.problems == []
    other = read_document(split / "article" / "a_2.txt")
    assert [image.name for image in other.images] == ["a_2_1.png"]


def test_given_images_take_their_place_and_elsewhere_there_are_none(split, tmp_path):
    own = tmp_path / "own.png"
    Image.new("RGB", (30, 30)).save(own)
    document = read_document(split / "article" / "a.txt", [own])
    assert [image.name for image in document.images] == ["own.png"]
    # Other texts, and articles outside of a split, have no images of their own.
    (split / "article" / "a_0.txt").write_text("A headline\n\nA text.")
    (split / "img" / "a_0_0.jpg").write_bytes((split / "img" / "a_0.jpg").read_bytes())
    assert read_document(split / "article" / "a_0.txt").images == []
    (tmp_path / "a.txt").write_text(TEXT)
    assert read_document(tmp_path / "a.txt").images == []


def test_what_cannot_be_read_is_a_problem(split, tmp_path):
    (split / "img" / "a_1.jpg").write_bytes(b"no image")
    Image.new("RGB", (8, 8)).save(split / "img" / "a_3.jpg")
    secret = tmp_path / "secret.png"
    Image.new("RGB", (30, 30)).save(secret)
    (split / "img" / "a_4.png").symlink_to(secret)
    (tmp_path / "secret.txt").write_text("a secret")
    (split / "alt" / "a_10.alt").symlink_to(tmp_path / "secret.txt")
    document = read_document(split / "article" / "a.txt")
    assert [image.name for image in document.images] == ["a_0.jpg", "a_2.PNG", "a_10.jpeg"]
    assert [(problem.kind, problem.detail.partition(":")[0]) for problem in document.problems] == [
        ("broken_image", "a_1.jpg"),
        ("small_image", "a_3.jpg"),
        ("outside_folder", "a_4.png"),
        ("image_text", "a_10.alt"),
    ]
    assert document.images[2].alt == ""
    # A folder of images that is a link leads out as a whole.
    (split / "img").rename(tmp_path / "img")
    (split / "img").symlink_to(tmp_path / "img")
    document = read_document(split / "article" / "a.txt")
    assert document.images == [] and {problem.kind for problem in document.problems} == {"outside_folder"}


def test_of_a_split_the_articles_are_the_documents(split):
    articles = [split / "article" / name for name in ("a.txt", "a_2.txt")]
    for folder in (split, split.parent):
        found = find_documents([folder])
        assert sorted(found.ids) == articles and not found.failures
        [note] = found.notes
        assert note == f"{folder}: splits in the MSMO layout, of which the articles are read, with their images: 1"
    assert sorted(find_documents([split / "article"]).ids) == articles


@pytest.mark.skipif("SPECTRA_DATA" not in os.environ, reason="SPECTRA_DATA names no folder of real articles")
def test_real_articles():
    split = Path(os.environ["SPECTRA_DATA"], "msmo_openstax", "test_data")
    found = find_documents([split])
    assert len(found.ids) == 119 and not found.failures
    counts = [0, 0, 0]
    for path in list(found.ids)[:12]:
        document = read_document(path)
        assert document.problems == []
        files = sorted((split / "img").glob(f"{path.stem}_*.jpg"), key=lambda file: int(file.stem.rpartition("_")[2]))
        assert [image.name for image in document.images] == [file.name for file in files]
        for image in document.images:
            caption = split / "caption" / f"{Path(image.name).stem}.caption"
            assert image.caption == (" ".join(caption.read_text().split()) if caption.is_file() else "")
        for place, texts in enumerate(
            zip(*[("x", image.caption, image.alt) for image in document.images], strict=True)
        ):
            counts[place] += sum(map(bool, texts))
    assert counts[0] > 30 and min(counts[1:]) > 0.9 * counts[0]
