"""Parsing of article files, names, annotations and image checks of the raw MSMO layout."""

import errno
import os
import random
import resource
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image

from spectra_sum.msmo import article_index
from spectra_sum.msmo.article_index import index_split, read_index
from spectra_sum.msmo.integrity import MAX_EXAMPLES, IntegrityReport, SplitIntegrity
from spectra_sum.msmo.layout import (
    find_splits,
    fingerprint_split,
    image_damage,
    is_plain_name,
    parse_article,
    read_lines,
    read_text,
)


@pytest.mark.parametrize(
    "text",
    [
        "@title\nA title\n\n@body\nOne.\n\nTwo.\n\n@summary\nFirst.\nSecond.\n",
        "@title\nA title\n@body\nOne.\nTwo.\n@summary\nFirst.\nSecond.",
        "@title A title\n@body One.\n\nTwo.\n@summary First.\nSecond.",
        "  @title\n  A\n title \n@body\n\n\nOne.\n \n\t\nTwo.\n\n\n@summary\n\nFirst.\n\nSecond.\n\n",
    ],
)
def test_sections_on_lines(text):
    article = parse_article(text)
    assert article.title == "A title"
    assert article.body == "One.\n\nTwo."
    assert article.summary == ["First.", "Second."]
    assert (article.repeated, article.outside) == ([], "")


def test_sections_separated_by_spaces():
    article = parse_article("@title A title @body One. Two. @summary First. Second.")
    assert article.title == "A title"
    assert article.body == "One. Two."
    assert article.summary == ["First. Second."]


def test_a_marker_in_the_prose_is_prose():
    article = parse_article("@title\nT\n@body\nWrite @summary before it, mail me@body or @bodyguard.\n@summary\nS.")
    assert article.body == "Write @summary before it, mail me@body or @bodyguard."
    assert article.summary == ["S."]


def test_lines_inside_a_paragraph_are_kept():
    assert parse_article("@body\na\nb\n\nc\n@summary\ns").body == "a\nb\n\nc"


def test_repeated_sections_are_joined_and_text_outside_is_returned():
    article = parse_article("stray\n@title\nT\n@body\nx\ny\n@summary\na\n@summary\nb\n@body\nz")
    assert article.body == "x\n\ny\n\nz"
    assert article.summary == ["a", "b"]
    assert sorted(article.repeated) == ["body", "summary"]
    assert article.outside == "stray"


@pytest.mark.parametrize("text", ["", "no sections", "@title", "@title @body @summary", "@titles x @bodyx @summary-y"])
def test_empty_sections(text):
    article = parse_article(text)
    assert (article.body, article.summary) == ("", [])


def test_read_text_decodes_bom_and_line_ends_and_counts_bad_bytes(tmp_path):
    report = SplitIntegrity()
    (tmp_path / "a").write_bytes("\ufeffé\r\nb\rc\n".encode())
    (tmp_path / "b").write_bytes(b"x\xffy\xfe")
    (tmp_path / "c").write_bytes("already \ufffd".encode())
    assert read_text(tmp_path / "a", "a", report) == "é\nb\nc\n"
    assert not report.counts
    assert read_text(tmp_path / "b", "b", report) == "x\ufffdy\ufffd"
    assert read_text(tmp_path / "c", "c", report) == "already \ufffd"
    assert read_text(tmp_path / "none", "none", report) is None
    assert report.counts == {"undecodable_bytes": 1, "unreadable_file": 1}
    assert report.examples["undecodable_bytes"] == ["b: byte 1"]


PIECES = [b"a", b" ", b"\n", b"\r", b"\r\n", b"\xc3\xa9", b"\xc3", b"\xe2\x82", b"\xff", b"\x0b", b"\xef\xbb\xbf"]


def test_read_lines_gives_the_lines_of_the_whole_text(tmp_path):
    rng = random.Random(0)
    contents = [b"", b"\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n\xff", b"a\r", b"a\r\r\n"]
    contents += [b"".join(rng.choices(PIECES, k=rng.randint(0, 12))) for _ in range(300)]
    for content in contents:
        (tmp_path / "file").write_bytes(content)
        whole, by_line = SplitIntegrity(), SplitIntegrity()
        text = read_text(tmp_path / "file", "file", whole)
        lines = list(read_lines(tmp_path / "file", "file", by_line))
        assert lines == text.removesuffix("\n").split("\n"), content
        assert by_line == whole, content
    with pytest.raises(FileNotFoundError):
        next(read_lines(tmp_path / "none", "none", SplitIntegrity()))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../h_0.jpg", "/etc/h_0.jpg", "a/h_0.jpg", "a\\h_0.jpg", "C:h_0.jpg", "h_0.jpg/"]
)
def test_names_that_are_no_plain_names(name):
    assert not is_plain_name(name)


def test_plain_name():
    assert is_plain_name("00df80e4_0.jpg")


def write_split(folder, articles, images=(), captions=(), annotation=None, alt=None):
    for place in ("article", "img", "caption", *(() if alt is None else ("alt",))):
        (folder / place).mkdir(parents=True)
    for name in articles:
        (folder / "article" / f"{name}.txt").write_text("@title\nt\n@body\nb\n@summary\ns\n")
    for name in images:
        (folder / "img" / name).touch()
    for name in captions:
        (folder / "caption" / name).touch()
    for name in alt or ():
        (folder / "alt" / name).touch()
    if annotation is not None:
        (folder / "image_annotation.txt").write_text(annotation)
    return folder


def index(folder):
    report = SplitIntegrity()
    path = folder.with_name("index.sqlite")
    readable = index_split(folder, report, path)
    files = {files.article: files for files in read_index(path, 0, report.totals["articles"])}
    assert len(files) == readable
    return files, report


def test_images_are_sorted_by_number_and_captions_follow(tmp_path):
    images = ["a_10.jpg", "a_9.png", "a_2.JPEG", "b_1_7.jpg"]
    captions = ["a_9.txt", "a_10.caption", "a_10.txt", "b_1_7.txt", "a_3.caption", "c_0.caption"]
    files, report = index(write_split(tmp_path / "train_data", ["a", "b_1"], images, captions))
    assert files["a"].images == ("2.JPEG", "9.png", "10.jpg")
    assert files["a"].captions == ("", "9.txt", "10.caption")
    assert (files["b_1"].images, files["b_1"].captions) == (("7.jpg",), ("7.txt",))
    assert report.counts == {
        "missing_image": 6,  # 3 to 8
        "caption_repeated": 1,
        "caption_without_image": 1,
        "caption_without_article": 1,
    }
    assert report.examples["caption_repeated"] == ["train_data/caption/a_10.txt"]


def test_alternative_texts_follow_and_their_folder_may_be_missing(tmp_path):
    images, alt = (
        ["a_10.jpg", "a_9.png"],
        ["a_9.ALT", "a_9.alt", "a_10.alt", "a_3.alt", "c_0.alt", "a_10.txt", ".hidden"],
    )
    files, report = index(write_split(tmp_path / "one" / "train_data", ["a"], images, alt=alt))
    assert files["a"].alt_texts == ("9.ALT", "10.alt") and files["a"].captions == ("", "")
    assert report.counts == {
        "alt_text_repeated": 1,
        "alt_text_without_image": 1,
        "alt_text_without_article": 1,
        "unknown_file": 2,
    }
    assert report.examples["alt_text_without_article"] == ["train_data/alt/c_0.alt"]
    files, report = index(write_split(tmp_path / "two" / "train_data", ["a"], images))
    assert files["a"].alt_texts == ("", "") and not report.counts


def test_annotation_separators_none_and_order(tmp_path):
    images = [f"{article}_{number}.jpg" for article in "abcde" for number in range(3)]
    annotation = "a_0.jpg a_2.jpg\nNone\nc_1.jpg,c_2.jpg; c_0.jpg\nd_2.jpg\td_1.jpg\n"
    files, report = index(write_split(tmp_path / "test_data", "ebdca", images, annotation=annotation))
    assert {name: found.gold for name, found in files.items()} == {
        "a": ("0.jpg", "2.jpg"),
        "b": (),
        "c": ("1.jpg", "2.jpg", "0.jpg"),
        "d": ("2.jpg", "1.jpg"),
        "e": (),
    }
    assert [files[name].position for name in "abcde"] == [0, 1, 2, 3, 4]
    assert [files[name].annotated for name in "abcde"] == [True, True, True, True, False]
    assert report.counts == {"annotation_lines_missing": 1}


def test_the_case_of_an_ending_and_of_none_does_not_count(tmp_path):
    images = ["a_0.jpg", "b_0.JPG", "b_1.JPEG", "e_0.jpg", "e_0.JPG", "e_1.Png"]
    annotation = "a_0.JPG\nb_0.jpg b_1.jpeg b_0.Jpg\nNONE\nnone\ne_0.JPG e_1.PNG a_0.jpeg\n"
    files, report = index(write_split(tmp_path / "test_data", "abcde", images, annotation=annotation))
    assert {name: found.gold for name, found in files.items()} == {
        "a": ("0.jpg",),
        "b": ("0.JPG", "1.JPEG"),
        "c": (),
        "d": (),
        # Of two files the one of that very name, and .jpeg is another name than .jpg.
        "e": ("0.JPG", "1.Png"),
    }
    assert report.counts == {"gold_repeated": 1, "gold_image_missing": 1}
    assert report.examples["gold_image_missing"] == ["test_data/image_annotation.txt, line 5: a_0.jpeg"]


def test_annotation_damage_is_counted_and_names_decide(tmp_path):
    images = ["a_0.jpg", "b_0.jpg", "b_1.jpg"]
    annotation = "b_0.jpg\n\nb_0.jpg b_1.jpg ../img/a_0.jpg /a_0.jpg a_5.jpg x_0.jpg strange\nb_1.jpg\n\n"
    files, report = index(write_split(tmp_path / "test_data", "abc", images, annotation=annotation))
    assert {name: found.gold for name, found in files.items()} == {"a": (), "b": ("0.jpg", "1.jpg"), "c": ()}
    assert report.counts == {
        "gold_out_of_order": 4,
        "annotation_blank_line": 1,
        "gold_repeated": 2,
        "unsafe_name": 2,
        "gold_image_missing": 3,
        "annotation_lines_extra": 1,
    }
    assert report.examples["unsafe_name"] == [
        "test_data/image_annotation.txt, line 3: ../img/a_0.jpg",
        "test_data/image_annotation.txt, line 3: /a_0.jpg",
    ]


@pytest.mark.parametrize(("folder", "counts"), [("test_data", {"annotation_missing": 1}), ("valid_data", {})])
def test_only_the_test_split_needs_an_annotation(tmp_path, folder, counts):
    files, report = index(write_split(tmp_path / folder, "a"))
    assert not files["a"].annotated
    assert report.counts == counts


def test_links_and_strange_entries_are_not_followed(tmp_path):
    secret = tmp_path / "secret_0.jpg"
    secret.write_text("secret")
    (tmp_path / "secret.txt").write_text("@title\nt\n@body\nsecret\n@summary\nsecret\n")
    folder = write_split(tmp_path / "root/test_data", ["b"], ["b_0.jpg"], [], "None\nb_0.jpg\nNone\n")
    (folder / "article/a.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "article/c.txt").symlink_to("b.txt")
    (folder / "img/b_1.jpg").symlink_to(secret)
    (folder / "img/b_2.jpg").symlink_to("../article/b.txt")
    (folder / "img/b_3.jpg").symlink_to("b_0.jpg")
    (folder / "img/b_4.jpg").symlink_to("b_4.jpg")
    (folder / "img/b_5.jpg").symlink_to("nothing")
    (folder / "img/b_6.jpg").mkdir()
    (folder / "img/._b_7.jpg").touch()
    (folder / "img/z_0.jpg").touch()
    (folder / "caption/readme.md").touch()
    files, report = index(folder)
    # The rejected article keeps its place among the lines of the annotation.
    assert {name: found.position for name, found in files.items()} == {"b": 1, "c": 2}
    assert files["b"].images == ("0.jpg", "3.jpg")
    assert files["b"].gold == ("0.jpg",)
    assert report.counts == {"unsafe_name": 3, "unknown_file": 5, "image_without_article": 1, "missing_image": 2}
    assert report.totals == {"articles": 3}


def test_an_annotation_that_leads_out_is_not_read(tmp_path):
    folder = write_split(tmp_path / "test_data", "a", ["a_0.jpg"])
    (tmp_path / "outside.txt").write_text("a_0.jpg\n")
    (folder / "image_annotation.txt").symlink_to("../outside.txt")
    files, report = index(folder)
    assert files["a"].gold == ()
    assert report.counts == {"unsafe_name": 1}


def test_an_annotation_that_cannot_be_read_names_nothing(tmp_path, monkeypatch):
    folder = write_split(tmp_path / "test_data", "ab", ["a_0.jpg"], annotation="a_0.jpg\nNone\n")

    def fails_after_a_line(path, place, report):
        yield "a_0.jpg"
        report.add("undecodable_bytes", place)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(article_index, "read_lines", fails_after_a_line)
    files, report = index(folder)
    assert [(found.gold, found.annotated) for found in files.values()] == [((), False)] * 2
    assert report.counts == {"unreadable_file": 1}
    assert report.examples["unreadable_file"] == ["test_data/image_annotation.txt: Input/output error"]


def test_positions_follow_the_order_of_the_names(tmp_path):
    # Code points and UTF-8 agree on it; UTF-16 and a name's undecodable bytes would not.
    names = ["b", "a", "Z", "é", "\U0001f600", "\ue000", "a_1"]
    folder = write_split(tmp_path / "train_data", names)
    try:
        with open(os.fsencode(folder / "article") + b"/\xe9.txt", "wb"):
            pass
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    files, _ = index(folder)
    # The byte E9 is read as U+DCE9, between é and U+E000; the article is not read, and keeps its position.
    expected = {"Z": 0, "a": 1, "a_1": 2, "b": 3, "é": 4, "\ue000": 6, "\U0001f600": 7}
    assert {name: found.position for name, found in files.items()} == expected


def test_parts_of_an_index_are_ranges_of_positions(tmp_path):
    folder = write_split(tmp_path / "train_data", "abcdef")
    (folder / "article/c.txt").unlink()
    (folder / "article/c.txt").symlink_to("/")
    path = tmp_path / "an index #1?.sqlite"
    path.write_text("left by a run that was killed")
    assert index_split(folder, SplitIntegrity(), path) == 5
    parts = [[files.article for files in read_index(path, *part)] for part in ((0, 2), (2, 3), (3, 6), (6, 9))]
    assert parts == [["a", "b"], [], ["d", "e", "f"], []]


def test_the_index_of_a_larger_split_takes_no_more_memory(tmp_path):
    def peak(articles):
        folder, path = tmp_path / f"{articles}/train_data", tmp_path / "index.sqlite"
        write_split(folder, range(articles), [f"{name}_{number}.jpg" for name in range(articles) for number in (0, 1)])
        tracemalloc.start()
        readable = index_split(folder, SplitIntegrity(), path)
        assert sum(len(files.images) for files in read_index(path, 0, articles)) == 2 * readable == 2 * articles
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    peak(10)
    # Lists of 1,000 more articles would be 300 kB at the least.
    assert peak(1300) - peak(300) < 30_000


def test_a_full_disk_is_an_error_of_the_disk(tmp_path, monkeypatch):
    folder = write_split(tmp_path / "train_data", [f"{number:0100}" for number in range(100)])
    monkeypatch.setattr(article_index, "_TABLES", article_index._TABLES + "PRAGMA max_page_count = 12;")
    with pytest.raises(OSError, match=r"no space left for the index of a split.*index\.sqlite") as raised:
        index(folder)
    assert raised.value.errno == errno.ENOSPC


def test_a_quota_and_a_missing_folder_are_errors_of_the_disk_too(tmp_path):
    folder = write_split(tmp_path / "train_data", [f"{number:0100}" for number in range(100)])
    with pytest.raises(OSError, match="cannot be made here .unable to open database file") as raised:
        index_split(folder, SplitIntegrity(), tmp_path / "nowhere" / "index.sqlite")
    assert raised.value.errno == errno.EACCES
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match="cannot be written; is a quota or a limit reached") as raised:
            index_split(folder, SplitIntegrity(), tmp_path / "index.sqlite")
        assert raised.value.errno == errno.EIO
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_missing_folders_are_counted(tmp_path):
    folder = write_split(tmp_path / "train_data", "a")
    (folder / "img").rmdir()
    (folder / "caption").rmdir()
    files, report = index(folder)
    assert files["a"].images == ()
    assert report.counts == {"missing_folder": 2}


def test_find_splits_names_what_it_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder; pass the one that holds train_data"):
        find_splits(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"train_data/article/HASH\.txt, valid_data/.*, test_data/"):
        find_splits(tmp_path)
    write_split(tmp_path / "test_data", "a")
    write_split(tmp_path / "train_data", "a")
    assert list(find_splits(tmp_path)) == ["train", "test"]
    assert find_splits(tmp_path, ["test"]) == {"test": tmp_path / "test_data"}
    with pytest.raises(FileNotFoundError, match=r"looked for valid_data/article/HASH\.txt$"):
        find_splits(tmp_path, ["test", "validation"])
    with pytest.raises(ValueError, match="some of train, validation, test, got dev"):
        find_splits(tmp_path, ["dev"])
    with pytest.raises(ValueError, match="got none"):
        find_splits(tmp_path, [])
    (tmp_path / "train_data/article/a.txt").unlink()
    with pytest.raises(FileNotFoundError, match="train_data has no articles"):
        find_splits(tmp_path)


def test_find_splits_refuses_folders_that_lead_out(tmp_path):
    write_split(tmp_path / "elsewhere/test_data", "a")
    root = tmp_path / "root"
    write_split(root / "test_data", "a")
    (root / "test_data/img").rmdir()
    (root / "test_data/img").symlink_to(tmp_path / "elsewhere/test_data/img")
    with pytest.raises(ValueError, match="img is a link that leads out of"):
        find_splits(root)
    (root / "train_data").symlink_to(tmp_path / "elsewhere/test_data")
    with pytest.raises(ValueError, match="train_data is a link that leads out of"):
        find_splits(root, ["train"])


def test_the_fingerprint_sees_every_kind_of_change(tmp_path):
    folder = write_split(tmp_path / "test_data", "ab", ["a_0.jpg"], ["a_0.caption"], "None\nNone\n")
    seen = [fingerprint_split(folder)]
    assert fingerprint_split(folder) == seen[0]
    (folder / "unrelated.txt").touch()
    assert fingerprint_split(folder) == seen[0]
    for change in (
        lambda: (folder / "img/a_1.jpg").touch(),
        lambda: (folder / "img/a_1.jpg").rename(folder / "img/a_2.jpg"),
        lambda: (folder / "caption/a_0.caption").write_text("longer"),
        lambda: (folder / "image_annotation.txt").write_text("a_0.jpg\nNone\n"),
        lambda: (folder / "article/b.txt").unlink(),
        lambda: os.utime(folder / "article/a.txt", (1, 1)),
    ):
        change()
        seen.append(fingerprint_split(folder))
    assert len(set(seen)) == 7


def png_header(width, height):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = zlib.compress(b"\0" * 1000)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_image_damage(tmp_path):
    Image.effect_noise((64, 64), 90).save(tmp_path / "good.jpg")
    content = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    Image.new("RGB", (8, 8)).save(tmp_path / "webp.jpg", "WEBP")
    Image.new("RGB", (8, 8)).save(tmp_path / "postscript.jpg", "EPS")
    # 10,000 x 10,000 lies between Pillow's warning and its error, 20,000 x 20,000 above both
    (tmp_path / "large.png").write_bytes(png_header(10_000, 10_000))
    (tmp_path / "bomb.png").write_bytes(png_header(20_000, 20_000))
    header = {path.name for path in tmp_path.iterdir() if image_damage(path, "header")}
    assert header == {"text.jpg", "empty.jpg", "postscript.jpg", "large.png", "bomb.png"}
    full = {path.name for path in tmp_path.iterdir() if image_damage(path, "full")}
    assert full == header | {"truncated.jpg"}
    assert image_damage(tmp_path / "large.png") == "10000 x 10000 pixels, more than 89,478,485"


def test_full_verification_finds_metadata_that_would_stop_a_reader(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp", exif=exif)
    content = (tmp_path / "a.webp").read_bytes()
    assert content.count(b"MM\0*") == 1
    (tmp_path / "a.webp").write_bytes(content.replace(b"MM\0*", b"MM\0\0"))
    assert image_damage(tmp_path / "a.webp", "header") == ""
    assert "not a TIFF file" in image_damage(tmp_path / "a.webp", "full")


def test_the_report_caps_examples_and_merges_in_order():
    parts = []
    for start in (0, 15, 30):
        part = SplitIntegrity()
        part.totals.update(records=15)
        for number in range(start, start + 15):
            part.add("broken_image", f"train_data/img/{number}", "why")
        parts.append(SplitIntegrity.from_json(part.to_json()))
    whole = SplitIntegrity()
    for part in parts:
        whole.merge(part)
    assert whole.counts == {"broken_image": 45}
    assert whole.examples["broken_image"] == [f"train_data/img/{number}: why" for number in range(MAX_EXAMPLES)]
    lines = str(IntegrityReport({"train": whole})).splitlines()
    assert lines[0].startswith("train: 45 of 0 articles")
    assert lines[1].startswith("  45 x broken_image")
    assert lines[2:] == [f"    train_data/img/{number}: why" for number in range(MAX_EXAMPLES)] + ["    ..."]
    with pytest.raises(KeyError, match="unknown kind"):
        whole.add("brokenimage", "x")
