"""The MSMO builder on raw folders with every kind of damage, and on real articles."""

import json
import logging
import os
from pathlib import Path

import datasets
import fsspec
import pyarrow.parquet as pq
import pytest
from PIL import Image

from spectra_sum.msmo import MSMO, load_msmo
from spectra_sum.msmo.builder import MAX_RANGES, position_ranges

HASHES = [f"{number:x}" * 40 for number in range(10)]


def write_article(folder, name, title="A title", body="One.\n\nTwo.", summary="First.\nSecond."):
    path = folder / "article" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"@title\n{title}\n\n@body\n{body}\n\n@summary\n{summary}\n")
    return path


def write_image(folder, name, colour="red", size=(6, 4)):
    path = folder / "img" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def write_caption(folder, name, text="A caption\n"):
    path = folder / "caption" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_alt(folder, name, text="What is to be seen"):
    path = folder / "alt" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def truncate(path):
    Image.effect_noise((64, 64), 90).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.fixture
def damaged(tmp_path):
    """A copy with a sound train split and a test split of ten articles, nine of them damaged."""
    root = tmp_path / "copy"
    train = root / "train_data"
    write_article(train, HASHES[0], summary="Only one.")
    write_image(train, f"{HASHES[0]}_0.jpg", "blue")
    write_caption(train, f"{HASHES[0]}_0.caption")

    test = root / "test_data"
    # 0 is sound, with image numbers of one and two digits and a missing caption
    write_article(test, HASHES[0])
    for number, colour in ((2, "red"), (9, "green"), (10, "blue")):
        write_image(test, f"{HASHES[0]}_{number}.png", colour)
    write_caption(test, f"{HASHES[0]}_2.caption", "two\n")
    write_caption(test, f"{HASHES[0]}_10.txt", "ten\n")
    # 1 has a broken image before its gold images, and one among them
    write_article(test, HASHES[1])
    for number in range(4):
        write_image(test, f"{HASHES[1]}_{number}.jpg")
    (test / "img" / f"{HASHES[1]}_0.jpg").write_text("no image")
    (test / "img" / f"{HASHES[1]}_2.jpg").write_bytes(b"")
    write_caption(test, f"{HASHES[1]}_0.caption", "broken")
    write_caption(test, f"{HASHES[1]}_3.caption", "three")
    # 2 and 3 are dropped, 4 has no title
    write_article(test, HASHES[2], body="")
    write_article(test, HASHES[3], summary="")
    write_article(test, HASHES[4], title="")
    # 5 has bytes that are not UTF-8, in the article and a caption
    write_article(test, HASHES[5]).write_bytes(b"@title\nT\xe9\n@body\nB\xff\n@summary\nS\n")
    write_image(test, f"{HASHES[5]}_0.jpg")
    write_caption(test, f"{HASHES[5]}_0.caption").write_bytes(b"C\xff")
    # 6 has an empty caption and one without an image; 7 is separated by spaces and has a truncated image
    write_article(test, HASHES[6])
    write_image(test, f"{HASHES[6]}_0.jpg")
    write_caption(test, f"{HASHES[6]}_0.caption", " \n")
    write_caption(test, f"{HASHES[6]}_1.caption")
    write_article(test, HASHES[7]).write_text("@title T @body One. Two. @summary First. Second.\n")
    truncate(write_image(test, f"{HASHES[7]}_0.jpg"))
    # 8 is no article but a link out of the folder, 9 has sections twice and text before them
    (root / "outside.txt").write_text("@title\nt\n@body\nsecret\n@summary\ns\n")
    (test / "article" / f"{HASHES[8]}.txt").symlink_to(root / "outside.txt")
    write_article(test, HASHES[9]).write_text("stray\n@title\nT\n@body\nB\n@summary\nS\n@summary\nU\n")
    write_image(test, f"{'f' * 40}_0.jpg")
    write_caption(test, f"{'f' * 40}_0.caption")
    gold = [
        f"{HASHES[0]}_10.png {HASHES[0]}_2.png",
        f"{HASHES[1]}_3.jpg,{HASHES[1]}_2.jpg,{HASHES[1]}_1.jpg",
        "None",
        "None",
        f"{HASHES[4]}_0.jpg",
        f"../../outside/{HASHES[5]}_0.jpg",
        f"{HASHES[6]}_0.jpg",
        "None",
        "None",
    ]
    (test / "image_annotation.txt").write_text("\n".join(gold) + "\n")
    # The alternative texts of article 0: of two images, of none, and of an article that there is not.
    for name, text in ((f"{HASHES[0]}_2", "A red\nfield. "), (f"{HASHES[0]}_9", "Green"), (f"{HASHES[0]}_10", " \n")):
        write_alt(test, f"{name}.alt", text)
    write_alt(test, f"{HASHES[0]}_11.alt")
    write_alt(test, "nobody_0.alt")
    return root


COUNTS = {
    "missing_image": 6,  # of article 0: 3 to 8
    "broken_image": 2,
    "article_without_body": 1,
    "article_without_summary": 1,
    "article_without_title": 1,
    "undecodable_bytes": 2,
    "empty_caption": 1,
    "caption_without_image": 1,
    "caption_without_article": 1,
    "empty_alt_text": 1,
    "alt_text_without_image": 1,
    "alt_text_without_article": 1,
    "image_without_article": 1,
    "unsafe_name": 2,
    "section_repeated": 1,
    "text_outside_sections": 1,
    "gold_image_missing": 1,
    "gold_image_broken": 1,
    "annotation_lines_missing": 1,
}


def prepare(root, cache, num_proc=None, **kwargs):
    builder = MSMO(data_dir=root, cache_dir=cache, **kwargs)
    builder.download_and_prepare(num_proc=num_proc)
    return builder, builder.as_dataset()


def undecoded(dataset):
    return dataset.cast_column("images", datasets.List(datasets.Image(decode=False))).to_list()


def test_damage_is_counted_and_records_are_right(damaged, tmp_path):
    builder, data = prepare(damaged, tmp_path / "cache")
    assert list(data) == ["train", "test"]
    report = builder.integrity_report()
    assert report.splits["train"].counts == {}
    assert report.splits["train"].totals == {
        "articles": 1, "records": 1, "images": 1, "captions": 1, "alt_texts": 0, "articles_with_gold": 0,
    }  # fmt: skip
    assert report.counts == COUNTS
    assert report.splits["test"].totals == {
        "articles": 10, "records": 7, "images": 8, "captions": 4, "alt_texts": 2, "articles_with_gold": 3,
    }  # fmt: skip
    assert report.splits["test"].examples["broken_image"] == [
        f"test_data/img/{HASHES[1]}_0.jpg: no image in one of the formats JPEG, PNG, GIF, WEBP, BMP, TIFF",
        f"test_data/img/{HASHES[1]}_2.jpg: no image in one of the formats JPEG, PNG, GIF, WEBP, BMP, TIFF",
    ]
    assert report.splits["test"].examples["annotation_lines_missing"] == [
        "test_data/image_annotation.txt: 9 lines for 10 articles"
    ]

    records = {record["id"]: record for record in undecoded(data["test"])}
    assert list(records) == [HASHES[number] for number in (0, 1, 4, 5, 6, 7, 9)]
    images = [str(damaged / "test_data/img" / f"{HASHES[0]}_{number}.png") for number in (2, 9, 10)]
    assert records[HASHES[0]] == {
        "id": HASHES[0],
        "title": "A title",
        "article": "One.\n\nTwo.",
        "summary": ["First.", "Second."],
        "images": [{"bytes": None, "path": path} for path in images],
        "captions": ["two", "", "ten"],
        "alt_texts": ["A red\nfield.", "Green", ""],
        "gold_images": [0, 2],
        "provenance": {
            "summary": f"test_data/article/{HASHES[0]}.txt",
            "captions": f"test_data/caption/{HASHES[0]}_*.caption, test_data/caption/{HASHES[0]}_*.txt",
            "alt_texts": f"test_data/alt/{HASHES[0]}_*.alt",
            "gold_images": "test_data/image_annotation.txt",
        },
    }
    # Images 1 and 3 remain of 0 to 3; gold were 1, 2 and 3.
    one = records[HASHES[1]]
    assert [Path(image["path"]).name for image in one["images"]] == [f"{HASHES[1]}_1.jpg", f"{HASHES[1]}_3.jpg"]
    assert (one["gold_images"], one["captions"]) == ([0, 1], ["", "three"])
    four = records[HASHES[4]]
    assert (four["title"], four["images"], four["captions"], four["gold_images"]) == ("", [], [], [])
    assert four["provenance"]["captions"] == four["provenance"]["alt_texts"] == ""
    assert (one["alt_texts"], records[HASHES[6]]["alt_texts"]) == (["", ""], [""])
    five = records[HASHES[5]]
    assert (five["title"], five["article"], five["captions"]) == ("T\ufffd", "B\ufffd", ["C\ufffd"])
    assert five["gold_images"] == []
    assert (records[HASHES[6]]["captions"], records[HASHES[6]]["gold_images"]) == ([""], [0])
    assert (records[HASHES[7]]["article"], records[HASHES[7]]["summary"]) == ("One. Two.", ["First. Second."])
    assert records[HASHES[7]]["provenance"]["gold_images"] == "test_data/image_annotation.txt"
    assert (records[HASHES[9]]["article"], records[HASHES[9]]["summary"]) == ("B", ["S", "U"])
    assert records[HASHES[9]]["provenance"]["gold_images"] == ""

    train = undecoded(data["train"])[0]
    assert (train["gold_images"], train["provenance"]["gold_images"]) == ([], "")


def test_images_are_decoded_on_reading_in_the_order_of_their_numbers(damaged, tmp_path):
    _, data = prepare(damaged, tmp_path / "cache")
    images = data["test"][0]["images"]
    assert [image.getpixel((0, 0)) for image in images] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert all(image.size == (6, 4) for image in images)


def test_the_cache_holds_paths_and_no_pixels(damaged, tmp_path):
    Image.effect_noise((700, 700), 90).save(damaged / "train_data/img" / f"{HASHES[0]}_1.png")
    _, data = prepare(damaged, tmp_path / "cache")
    assert os.path.getsize(damaged / "train_data/img" / f"{HASHES[0]}_1.png") > 200_000
    assert len(data["train"][0]["images"]) == 2
    assert sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.arrow")) < 50_000


@pytest.mark.parametrize("num_proc", [2, 3, 20])
def test_several_processes_give_the_same_records_and_report(damaged, tmp_path, num_proc):
    one_builder, one = prepare(damaged, tmp_path / "one")
    several_builder, several = prepare(damaged, tmp_path / "several", num_proc=num_proc)
    for split in ("train", "test"):
        assert undecoded(several[split]) == undecoded(one[split])
    report = several_builder.integrity_report()
    assert report == one_builder.integrity_report()
    assert report.counts == COUNTS


def test_full_verification_finds_the_truncated_image(damaged, tmp_path):
    _, header = prepare(damaged, tmp_path / "cache")
    builder, full = prepare(damaged, tmp_path / "cache", verify="full")
    assert len(undecoded(header["test"])[5]["images"]) == 1
    assert len(undecoded(full["test"])[5]["images"]) == 0
    report = builder.integrity_report()
    assert report.counts == COUNTS | {"broken_image": 3}
    example = report.splits["test"].examples["broken_image"][-1]
    assert example.startswith(f"test_data/img/{HASHES[7]}_0.jpg: image file is truncated")


def test_the_cache_is_reused_with_its_report(damaged, tmp_path, monkeypatch):
    first, data = prepare(damaged, tmp_path / "cache")
    monkeypatch.setattr(MSMO, "_generate_examples", None)
    again, cached = prepare(damaged, tmp_path / "cache")
    assert undecoded(cached["test"]) == undecoded(data["test"])
    assert again.integrity_report() == first.integrity_report()
    # and by a builder that prepares nothing
    assert MSMO(damaged, cache_dir=tmp_path / "cache").integrity_report().counts == COUNTS


@pytest.mark.parametrize("num_proc", [None, 2])
def test_a_changed_file_invalidates_the_cache(damaged, tmp_path, num_proc):
    prepare(damaged, tmp_path / "cache", num_proc)
    write_image(damaged / "test_data", f"{HASHES[1]}_0.jpg")
    builder, data = prepare(damaged, tmp_path / "cache", num_proc)
    assert builder.integrity_report().counts == COUNTS | {"broken_image": 1}
    assert len(undecoded(data["test"])[1]["images"]) == 3
    assert undecoded(data["test"])[1]["gold_images"] == [1, 2]


def test_parts_of_a_killed_run_are_not_counted(damaged, tmp_path):
    builder = MSMO(damaged, cache_dir=tmp_path / "cache")
    leftover = Path(builder.cache_dir + ".incomplete")
    leftover.mkdir(parents=True)
    part = {"totals": {"records": 1000}, "counts": {"broken_image": 1000}, "examples": {"broken_image": ["x"]}}
    (leftover / "integrity-test-part-000000005.json").write_text(json.dumps(part))
    (leftover / "index-test.sqlite").write_text("torn")
    builder.download_and_prepare()
    assert builder.integrity_report().counts == COUNTS
    expected = {"dataset_info.json"}
    expected |= {name for split in ("train", "test") for name in (f"msmo-{split}.arrow", f"integrity-{split}.json")}
    assert {path.name for path in Path(builder.cache_dir).iterdir()} == expected


def test_the_report_comes_with_a_folder_of_the_users_choice_and_parquet(damaged, tmp_path):
    builder = MSMO(damaged, cache_dir=tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="call download_and_prepare"):
        builder.integrity_report()
    builder.download_and_prepare(str(tmp_path / "out"), file_format="parquet")
    assert builder.integrity_report().counts == COUNTS
    embedded = datasets.Dataset.from_parquet(str(tmp_path / "out/msmo-test.parquet"), cache_dir=tmp_path / "cache")
    image = undecoded(embedded)[0]["images"][0]
    assert image["bytes"] == (damaged / "test_data/img" / f"{HASHES[0]}_2.png").read_bytes()


def test_a_file_system_that_is_not_local(damaged, tmp_path):
    builder = MSMO(damaged, cache_dir=tmp_path / "cache")
    builder.download_and_prepare("memory://msmo", file_format="parquet")
    assert builder.integrity_report().counts == COUNTS
    files = fsspec.filesystem("memory").find("/msmo", detail=False)
    expected = {"dataset_info.json"}
    expected |= {name for split in ("train", "test") for name in (f"msmo-{split}.parquet", f"integrity-{split}.json")}
    assert {Path(name).name for name in files} == expected


def test_batches_are_large_where_they_hold_paths_and_small_where_they_hold_images(tmp_path):
    for number in range(1100):
        write_article(tmp_path / "copy/train_data", f"{number:040x}")
    builder, data = prepare(tmp_path / "copy", tmp_path / "cache")
    assert [len(batch) for batch in data["train"].data.to_batches()] == [1000, 100]
    builder.download_and_prepare(str(tmp_path / "out"), file_format="parquet")
    groups = pq.ParquetFile(tmp_path / "out/msmo-train.parquet").metadata
    assert [groups.row_group(number).num_rows for number in range(groups.num_row_groups)] == [100] * 11


@pytest.mark.parametrize("articles", [0, 1, 2, 1023, 1024, 1025, 2048, 2049, 100_003])
def test_ranges_cover_every_position_once(articles):
    ranges = position_ranges(articles)
    assert [position for start, stop in ranges for position in range(start, stop)] == list(range(articles))
    # Small enough to send, and enough for every process.
    assert min(articles, MAX_RANGES) / 2 <= len(ranges) <= MAX_RANGES
    assert all(start < stop for start, stop in ranges)


def test_a_split_of_which_nothing_remains(tmp_path):
    root = tmp_path / "copy"
    write_article(root / "train_data", HASHES[0])
    write_article(root / "valid_data", HASHES[0], body="")
    (root / "test_data/article").mkdir(parents=True)
    (root / "test_data/article/a.txt").symlink_to(root / "train_data/article" / f"{HASHES[0]}.txt")
    builder, data = prepare(root, tmp_path / "cache")
    assert {split: len(data[split]) for split in data} == {"train": 1, "validation": 0, "test": 0}
    assert data["test"].features == data["train"].features
    report = builder.integrity_report()
    assert report.splits["validation"].counts == {"article_without_body": 1, "missing_folder": 2}
    assert report.splits["test"].counts == {"unsafe_name": 1, "annotation_missing": 1, "missing_folder": 2}
    assert report.splits["test"].totals["articles"] == 1


def test_names_that_are_not_utf8_are_left_out(tmp_path):
    folder = tmp_path / "copy/train_data"
    write_article(folder, HASHES[0])
    write_image(folder, f"{HASHES[0]}_0.jpg")
    strange = os.fsencode(folder / "img") + b"/\xff_0.jpg"
    try:
        with open(strange, "wb"):
            pass
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    builder, data = prepare(tmp_path / "copy", tmp_path / "cache")
    assert builder.integrity_report().counts == {"unsafe_name": 1, "missing_folder": 1}
    assert builder.integrity_report().splits["train"].examples["unsafe_name"] == [
        "train_data/img/\\xff_0.jpg: the name is not UTF-8"
    ]


def test_load_msmo_reads_chosen_splits_and_logs_the_counts(damaged, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="spectra_sum"):
        data = load_msmo(damaged, splits=["test"], num_proc=2, cache_dir=tmp_path / "cache")
    assert list(data) == ["test"]
    (record,) = [record for record in caplog.records if record.name == "spectra_sum.msmo.builder"]
    assert record.levelno == logging.WARNING
    assert (
        "test: 7 of 10 articles, 8 images, 4 captions, 2 alternative texts, 3 articles with gold images"
        in record.getMessage()
    )
    assert "2 x broken_image" in record.getMessage()
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="spectra_sum"):
        load_msmo(damaged, splits=["train"], cache_dir=tmp_path / "cache")
    assert [record.levelno for record in caplog.records if record.name.startswith("spectra_sum")] == [logging.INFO]


def test_relative_and_linked_roots_share_one_cache(damaged, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(damaged)
    monkeypatch.chdir(damaged.parent)
    folders = {MSMO(root, cache_dir=tmp_path / "cache").cache_dir for root in (damaged, "copy", tmp_path / "link")}
    assert len(folders) == 1
    _, data = prepare("copy", tmp_path / "cache")
    assert undecoded(data["train"])[0]["images"][0]["path"].startswith(f"{damaged}/")


def test_wrong_arguments_fail_at_once(damaged, tmp_path):
    with pytest.raises(ValueError, match="verify must be one of header, full, got 'deep'"):
        MSMO(damaged, verify="deep", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="splits must be some of train, validation, test, got dev"):
        load_msmo(damaged, splits=["dev"], cache_dir=tmp_path)
    with pytest.raises(ValueError, match=r"pass \['test'\]"):
        load_msmo(damaged, splits="test", cache_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"looked for train_data/article/HASH\.txt, valid_data/"):
        MSMO(tmp_path, cache_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        MSMO(tmp_path / "nowhere", cache_dir=tmp_path)
    with pytest.raises(NotImplementedError, match="to_iterable_dataset"):
        MSMO(damaged, cache_dir=tmp_path / "cache").as_streaming_dataset()


@pytest.mark.skipif("SPECTRA_DATA" not in os.environ, reason="SPECTRA_DATA names no folder of real articles")
@pytest.mark.parametrize("verify", ["header", "full"])
def test_real_articles(tmp_path, verify):
    root = Path(os.environ["SPECTRA_DATA"], "msmo_18f")
    builder, data = prepare(root, tmp_path / "cache", num_proc=2, verify=verify)
    report = builder.integrity_report()
    # The table of the data's README: articles, images, captions, with gold; then its last two columns.
    table = {"train": (195, 277, 213, 0), "validation": (32, 61, 46, 25), "test": (32, 57, 47, 25)}
    several = {"train": (35, 0), "validation": (13, 7), "test": (10, 7)}
    assert report.counts == {}
    for split, (articles, images, captions, with_gold) in table.items():
        rows = undecoded(data[split])
        assert len(rows) == articles
        assert sum(len(row["images"]) for row in rows) == images
        assert sum(bool(caption) for row in rows for caption in row["captions"]) == captions
        assert sum(bool(row["gold_images"]) for row in rows) == with_gold
        assert all(row["article"] and len(row["summary"]) == 1 for row in rows)
        assert all(len(row["captions"]) == len(row["images"]) for row in rows)
        shown = [row for row in rows if len(row["images"]) >= 2]
        assert (len(shown), sum(bool(row["gold_images"]) for row in shown)) == several[split]
    for split in ("validation", "test"):
        folder = Path(root, {"validation": "valid_data", "test": "test_data"}[split])
        lines = (folder / "image_annotation.txt").read_text().split()
        named = [
            [Path(row["images"][index]["path"]).name for index in row["gold_images"]] or ["None"]
            for row in undecoded(data[split])
        ]
        assert named == [[line] for line in lines]


@pytest.mark.skipif("SPECTRA_DATA" not in os.environ, reason="SPECTRA_DATA names no folder of real articles")
def test_real_articles_with_alternative_texts(tmp_path):
    root = Path(os.environ["SPECTRA_DATA"], "msmo_openstax")
    builder, data = prepare(root, tmp_path / "cache", splits=["validation", "test"])
    report = builder.integrity_report()
    assert report.counts == {}
    for split, folder in (("validation", "valid_data"), ("test", "test_data")):
        texts = {file.stem: file.read_text().strip() for file in Path(root, folder, "alt").iterdir()}
        assert report.splits[split].totals["alt_texts"] == len(texts) > 400
        rows = undecoded(data[split])
        found = {
            Path(image["path"]).stem: text
            for row in rows
            for image, text in zip(row["images"], row["alt_texts"], strict=True)
            if text
        }
        assert found == texts
        assert {row["provenance"]["alt_texts"] for row in rows if any(row["alt_texts"])} == {
            f"{folder}/alt/{row['id']}_*.alt" for row in rows if any(row["alt_texts"])
        }
    assert "570 alternative texts" in report.summary()
