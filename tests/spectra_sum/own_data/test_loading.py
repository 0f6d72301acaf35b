"""The same articles from every kind of data, and one clear line for data that cannot be read."""

import json
import logging
import shutil

import datasets
import pytest
from PIL import Image

from spectra_sum.msmo.sources import articles_digest, image_counts
from spectra_sum.own_data.formats import OwnDataError, find_source
from spectra_sum.own_data.loading import load_articles, load_split, load_splits
from spectra_sum.own_data.rows import article_features
from spectra_sum.records.article_images import UndecodedArticles, read_images
from tests.own_data import COLUMNS, KINDS, NAMES, colour, make_articles, write_data, write_images


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def expected_of(kind, article):
    """What a record holds of an article whose data have only some of its columns."""
    empty = {
        "title": "",
        **{name: [""] * len(article["images"]) for name in ("captions", "alt_texts")},
        "gold_images": [],
    }
    known = {name: article[name] for name in article if name in NAMES[kind]}
    return {**empty, **known, "images": len(article["images"])}


def shown(record):
    return {**record, "images": len(record["images"])}


def colours(records):
    return [[image.convert("RGB").getpixel((0, 0)) for image in images] for images in records["images"]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_gives_the_same_articles(tmp_path, kind):
    articles = make_articles()
    told = []
    data = write_data(kind, tmp_path / "data", articles)
    records = load_split(data, "test", columns=COLUMNS.get(kind, []), report=told.append)
    assert records.features == article_features()
    assert [shown(record) for record in records] == [expected_of(kind, article) for article in articles]
    assert image_counts(records) == [0, 1, 2] * 2 + [0, 1]
    assert colours(records) == [
        [colour(number, image) for image in range(len(article["images"]))] for number, article in enumerate(articles)
    ]
    # What was found is told, in the order of a record's columns.
    (line,) = told
    found, _, without = line.partition("; none is ")
    assert found.startswith(f"{data} (")
    assert found.endswith("): " + ", ".join(f"{ours} = {theirs}" for ours, theirs in NAMES[kind].items()))
    assert without.split(", ") == [name for name in article_features() if name not in NAMES[kind]]
    assert len(articles_digest(records)) == 64


def test_the_digest_is_that_of_the_articles_not_of_their_columns(tmp_path):
    articles = make_articles()
    digests = set()
    for kind in ("json", "imagefolder"):
        data = write_data(kind, tmp_path / kind, articles)
        digests.add(articles_digest(load_split(data, "test")))
    data = write_data("json", tmp_path / "other", [{**articles[0], "title": "x", "article": "y"}, *articles[1:]])
    assert len(digests) == 1 and articles_digest(load_split(data, "test")) not in digests


def test_folders_of_files_have_splits_and_paths_count_from_each_file(tmp_path):
    articles = make_articles()
    for split, part in (("train", articles[:4]), ("valid", articles[4:6]), ("test", articles[6:])):
        write_data("csv", tmp_path / split, part)
        (tmp_path / split / "stories.csv").rename(tmp_path / split / "a.csv")
    splits = load_splits(find_source(str(tmp_path)))
    assert {name: list(split["id"]) for name, split in splits.items()} == {
        "train": ["000", "001", "002", "003"],
        "validation": ["004", "005"],
        "test": ["006", "007"],
    }
    assert colours(splits["test"]) == [[], [colour(1, 0)]]
    assert list(load_split(str(tmp_path), "validation")["id"]) == ["004", "005"]
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(OwnDataError, match=r"has no split 'test'; it has train, validation\."):
        load_split(str(tmp_path), "test")


def test_shards_of_a_split_are_joined_in_order(tmp_path):
    articles = make_articles()
    for shard in (0, 1):
        folder = tmp_path / "data"
        write_data("jsonl", folder, articles[4 * shard : 4 * shard + 4])
        (folder / "stories.jsonl").rename(folder / f"train-{shard}.jsonl")
    records = load_split(str(tmp_path), "train", columns=COLUMNS["jsonl"])
    assert list(records["id"]) == [article["id"] for article in articles]


def test_rows_whose_columns_differ_from_shard_to_shard(tmp_path):
    """Every folder's files are read by themselves: a shard without images has no type of theirs."""
    for name, row in {"a": {"text": "A", "summary": "a", "images": []}, "b": {"text": "B", "summary": ["b"]}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.jsonl").write_text(json.dumps(row))
    records = load_split(str(tmp_path), "test")
    assert list(records["article"]) == ["A", "B"] and list(records["summary"]) == [["a"], ["b"]]


def test_a_dataset_of_articles_stays_as_it_is(tmp_path):
    articles = make_articles()
    first = load_split(write_data("jsonl", tmp_path / "data", articles), "test", columns=COLUMNS["jsonl"])
    more = first.add_column("facts", [f"fact {index}" for index in range(len(first))])
    datasets.DatasetDict({"dev": more}).save_to_disk(tmp_path / "saved")
    told = []
    again = load_split(str(tmp_path / "saved"), "validation", report=told.append)
    assert again.column_names == more.column_names and list(again["facts"]) == list(more["facts"])
    assert told == []
    assert colours(again) == colours(first)


def test_records_that_lack_something_are_read_as_any_others(tmp_path):
    records = load_split(write_data("jsonl", tmp_path / "data", make_articles()), "test", columns=COLUMNS["jsonl"])
    features = records.features

    def saved(name: str, features: datasets.Features = features, **values: object) -> str:
        rows = [{**row, **(values if index == 1 else {})} for index, row in enumerate(records.to_list())]
        datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / name)
        return str(tmp_path / name)

    told = []
    assert list(load_split(saved("id", id=None), "test")["id"])[0] == "000"
    for name, article in (("nothing", None), ("blank", " \n")):
        again = load_split(saved(name, article=article), "test", report=told.append)
        assert list(again["id"]) == [row for row in records["id"] if row != "001"]
        assert told.pop() == f"{tmp_path / name}: 1 rows without a body are left out"
    with pytest.raises(OwnDataError, match=r"article 001 \(column 'captions'\): there are 3 captions and 1 images"):
        load_split(saved("more", captions=["a", "b", "c"]), "test")
    one = {**features, "captions": datasets.Value("string")}
    with pytest.raises(OwnDataError, match=r"article 000 \(column 'captions'\): there are 1 captions and 0 images"):
        rows = [{**row, "captions": "A ship"} for row in records.to_list()]
        datasets.Dataset.from_list(rows, features=datasets.Features(one)).save_to_disk(tmp_path / "one")
        load_split(str(tmp_path / "one"), "test")


def test_ids_are_made_of_the_content_and_stay(tmp_path):
    rows = [{"text": text, "summary": "S."} for text in ("a", "b", "a", "c", "a")]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ids = list(load_split(str(tmp_path / "x.jsonl"), "test")["id"])
    assert ids[2:] == [f"{ids[0]}-2", ids[3], f"{ids[0]}-3"] and len({*ids}) == 5
    (tmp_path / "y.jsonl").write_text("\n".join(map(json.dumps, [{"text": "z", "summary": "S."}, *rows[1:4]])))
    assert list(load_split(str(tmp_path / "y.jsonl"), "test")["id"])[1:] == [ids[1], ids[0], ids[3]]


def test_a_file_that_has_changed_is_read_again(tmp_path):
    file = tmp_path / "x.jsonl"
    for text in ("a", "another"):
        file.write_text(json.dumps({"id": "1", "text": text, "summary": "S."}))
        assert list(load_split(str(file), "test")["article"]) == [text]


def test_articles_without_summary(tmp_path):
    rows = [
        {"id": "a", "text": "A", "summary": "S."},
        {"id": "b", "text": "B", "summary": None},
        {"id": "c", "text": "C"},
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    message = (
        r"x.jsonl: 2 of 3 articles have no summary, 'b' among them; give them one, leave them out, or name the column"
    )
    with pytest.raises(OwnDataError, match=message):
        load_split(str(tmp_path / "x.jsonl"), "test")
    records = load_split(str(tmp_path / "x.jsonl"), "test", need_summaries=False)
    assert list(records["summary"]) == [["S."], [], []]


def test_rows_without_a_body_are_left_out_and_counted(tmp_path):
    rows = [{"id": "a", "text": "A", "summary": "S."}, {"id": "b", "text": " ", "summary": "S."}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told = []
    assert list(load_split(str(tmp_path / "x.jsonl"), "test", report=told.append)["id"]) == ["a"]
    assert told[1:] == [f"{tmp_path / 'x.jsonl'}: 1 rows without a body are left out"]


def test_missing_and_broken_images_are_told_and_left_out_where_they_are_read(tmp_path):
    articles = make_articles()
    data = write_data("jsonl", tmp_path, articles)
    (tmp_path / "pictures" / "1_0.png").unlink()
    (tmp_path / "pictures" / "2_1.png").write_bytes(b"no image")
    Image.new("RGB", (300, 300), "red").save(tmp_path / "pictures" / "5_0.png")
    whole = (tmp_path / "pictures" / "5_0.png").read_bytes()
    (tmp_path / "pictures" / "5_0.png").write_bytes(whole[:-200])
    told = []
    records = load_split(data, "test", columns=COLUMNS["jsonl"], report=told.append)
    assert told[1] == f"{data}: 2 of 7 images are broken or missing, and are left out where they are read:"
    assert "article 001: " in told[2] and "1_0.png (image 1) is broken and left out: there is no such file" in told[2]
    assert "article 002: " in told[3] and "it is no image in a format that is read" in told[3]
    read = [read_images(article) for article in (UndecodedArticles(records)[index] for index in range(8))]
    assert [article.indices for article in read] == [[], [], [0], [], [0], [1], [], [0]]
    told = []
    load_splits(find_source(data), columns=COLUMNS["jsonl"], verify="full", report=told.append)
    assert told[1].startswith(f"{data}: 3 of 7 images are broken or missing")


def test_a_folder_without_any_of_its_images_is_an_error(tmp_path):
    data = write_data("csv", tmp_path, make_articles())
    shutil.rmtree(tmp_path / "pictures")
    message = (
        r"stories.csv: none of its 7 images can be read; .*pictures/1_0.png: there is no such file. Paths count from"
    )
    with pytest.raises(OwnDataError, match=message):
        load_split(data, "test")


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "imagefolder"])
def test_a_stream_gives_the_same_articles_and_decodes_no_image(tmp_path, kind):
    articles = make_articles()
    data = write_data(kind, tmp_path / "data", articles)
    splits = load_splits(find_source(data), columns=COLUMNS.get(kind, []), streaming=True)
    (stream,) = splits.values()
    assert list(stream.column_names) == list(article_features())
    records = list(stream)
    assert [shown(record) for record in records] == [expected_of(kind, article) for article in articles]
    assert all(image.keys() == {"bytes", "path"} for record in records for image in record["images"])
    found = [[image.getpixel((0, 0)) for image in read_images(record).images] for record in records]
    assert found == [[colour(number, image) for image in range(number % 3)] for number in range(8)]


def test_malformed_data_are_one_line_each(tmp_path):
    folder = tmp_path / "bad"
    write_images(folder, make_articles())

    def file(name, content):
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    good = {"id": "a", "text": "A", "summary": "S."}
    lines = [json.dumps(good), json.dumps({**good, "text": "B"})]
    outside = json.dumps({**good, "images": ["../secret.png"]})
    cases = {
        file("cut.jsonl", lines[0] + '\n{"id": "b", "te'): r"cut.jsonl: it cannot be read as json \(",
        file("empty.csv", ""): r"empty.csv: it cannot be read as csv \(No columns to parse from file\)",
        file(
            "uneven.csv", 'text,summary\n"a","b","c","d"\n"e","f"\n'
        ): r"uneven.csv: its rows have more fields than its header; put texts with commas between quotation marks\.",
        file("no.parquet", b"PAR1 but not really"): r"no.parquet: it cannot be read as parquet \(",
        file("twice.jsonl", "\n".join(lines)): r"twice.jsonl holds 1 ids twice, 'a' among them",
        file(
            "outside.jsonl", outside
        ): r"outside.jsonl: article a \(column 'images'\): the image '../secret.png' may lie",
        file("header.csv", "text,summary\n"): r"header.csv: it holds no rows\.",
        file("nothing.jsonl", ""): r"nothing.jsonl: it holds no rows\.",
        file("none.json", "[]"): r"none.json: it holds no rows\.",
        file(
            "semicolon.csv", "text;summary\nA, or B;S.\n"
        ): r"its fields are parted by ';'; save it with commas between",
        file("tabs.csv", "text\tsummary\nA\tS.\n"): r"its fields are parted by '\\t'; save it with commas between",
        file("columns.json", json.dumps({"id": ["1", "2"], "text": ["A", "B"], "summary": ["S.", "T."]})): (
            r"columns.json \(column 'id'\): an id is a list; .* each article a row of its own"
        ),
        file(
            "latin.jsonl", '{"text": "caf\xe9", "summary": "s"}'.encode("latin-1")
        ): r"latin.jsonl: a text is not UTF-8 \(.*\); save the data as UTF-8\.",
        file("list.json", '["only", "texts"]'): "no column is the summary|2 of 2 articles have no summary",
    }
    for data, message in cases.items():
        with pytest.raises(OwnDataError, match=message) as error:
            load_split(data, "test")
        assert "\n" not in str(error.value), data
    for name, header in (("train-1", "text,summary"), ("train-2", "text,gist")):
        file(f"{name}.csv", f"{header}\na,b\n")
    for path in folder.iterdir():
        if path.is_file() and not path.name.startswith("train-"):
            path.unlink()
    with pytest.raises(
        OwnDataError, match="train-2.csv: its columns are others than those of .*train-1.csv; make them"
    ):
        load_split(str(folder), "train")


def test_what_is_wrong_is_told_once(tmp_path):
    """`datasets` logs the errors that it raises; its warnings are shown."""
    shown = []
    handler = logging.Handler()
    handler.emit = shown.append
    logging.getLogger("datasets").addHandler(handler)
    (tmp_path / "cut.jsonl").write_text('{"text": "a')
    with pytest.raises(OwnDataError, match="it cannot be read as json"):
        load_split(str(tmp_path / "cut.jsonl"), "test")
    assert [record for record in shown if record.levelno >= logging.ERROR] == []
    logging.getLogger("datasets.x").error("after it")
    logging.getLogger("datasets").removeHandler(handler)
    assert shown[-1].getMessage() == "after it"


def test_names_of_images_in_a_crafted_parquet_file_are_not_followed(tmp_path):
    rows = {"id": ["a"], "text": ["A"], "summary": ["S."], "images": [[{"bytes": None, "path": "/etc/hostname"}]]}
    features = datasets.Features(
        {name: datasets.Value("string") for name in ("id", "text", "summary")}
        | {"images": datasets.List(datasets.Image())}
    )
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(OwnDataError, match="'/etc/hostname' may lie outside of the data's folder"):
        load_split(str(tmp_path / "x.parquet"), "test")


def test_load_articles_reads_only_the_splits_that_are_asked_for(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"story": "A", "summary": "S."}))
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": "B", "summary": "S."}))
    found = load_articles(find_source(str(tmp_path)), splits=["test"])
    assert list(found.splits) == ["test"] and found.columns == {"test": {"article": "text", "summary": "summary"}}
    with pytest.raises(OwnDataError, match="no column is the article; it has 'story', 'summary'"):
        load_articles(find_source(str(tmp_path)))
