"""Where a split's articles come from, and one clear line where they cannot be evaluated."""

from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from PIL import Image

from spectra_sum.msmo.closed_world import closed_world_dataset
from spectra_sum.msmo.sources import articles_digest, image_counts
from spectra_sum.own_data.loading import load_split

HASH = "0" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def saved(folder: Path, records: datasets.Dataset) -> str:
    datasets.DatasetDict({"test": records}).save_to_disk(folder / "saved")
    return str(folder / "saved")


def test_closed_world():
    records = load_split("closed_world", "validation", closed_world_seed=3, closed_world_articles=4)
    expected = closed_world_dataset({"validation": 4}, seed=3)["validation"]
    assert list(records["article"]) == list(expected["article"])


def test_msmo_layout(tmp_path):
    for folder in ("article", "img"):
        (tmp_path / "test_data" / folder).mkdir(parents=True)
    article = tmp_path / "test_data" / "article" / f"{HASH}.txt"
    article.write_text("@title\nT\n\n@body\nOne. Two.\n\n@summary\nFirst.\nSecond.\n")
    Image.new("RGB", (6, 4)).save(tmp_path / "test_data" / "img" / f"{HASH}_0.jpg")
    records = load_split(str(tmp_path), "test")
    assert (records["id"][0], records["summary"][0]) == (HASH, ["First.", "Second."])
    assert image_counts(records) == [1]
    article.write_text("@title\nT\n\n@body\n\n@summary\n")
    with pytest.raises(ValueError, match="has no test articles"):
        load_split(str(tmp_path), "test")


def test_folder_of_save_to_disk_with_and_without_splits(tmp_path, records, data_folder):
    assert list(load_split(str(data_folder), "test")["id"]) == list(records["id"])
    records.save_to_disk(tmp_path / "single")
    assert list(load_split(str(tmp_path / "single"), "test")["id"]) == list(records["id"])


def test_image_counts_hold_after_a_selection(records):
    counts = [len(record["images"]) for record in records]
    assert image_counts(records) == counts
    assert counts[-1] == 0
    assert image_counts(records.select([6, 1])) == [0, counts[1]]


def test_difficulty_of_the_closed_world():
    records = load_split("closed_world", "test", closed_world_articles=2, closed_world_difficulty="paired")
    assert "alliance" in records["article"][0]


def test_digest_tells_articles_apart(records):
    whole = articles_digest(records)
    assert articles_digest(records.select(range(len(records)))) == whole
    assert len(whole) == 64
    worlds = [closed_world_dataset({"test": len(records)}, seed=seed)["test"] for seed in (0, 1)]
    # The same ids in both.
    assert list(worlds[0]["id"]) == list(worlds[1]["id"])
    order = [1, 0, *range(2, len(records))]
    other_gold = records.map(lambda record: {"gold_images": []})
    picture = Image.new("RGB", (9, 9))
    other_images = records.map(lambda record: {"images": [picture for _ in record["images"]]})
    others = [*worlds, records.select(order), records.select([0]), other_gold, other_images]
    assert len({whole, *map(articles_digest, others)}) == 7


def test_missing_folder_and_split(tmp_path, data_folder):
    with pytest.raises(ValueError, match="nowhere: there is no such file or folder; pass 'closed_world', a file"):
        load_split("nowhere", "test")
    with pytest.raises(ValueError, match="has no split 'train'; it has test"):
        load_split(str(data_folder), "train")
    with pytest.raises(ValueError, match=f"{tmp_path}: the folder holds no data; pass"):
        load_split(str(tmp_path), "test")
    (tmp_path / "train_data").mkdir()
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        load_split(str(tmp_path), "test")


def test_dataset_of_another_split(tmp_path, records):
    marked = datasets.Dataset(records.data, split=datasets.Split.TRAIN)
    marked.save_to_disk(tmp_path / "train")
    with pytest.raises(ValueError, match="has no split 'test'; it has train"):
        load_split(str(tmp_path / "train"), "test")
    assert len(load_split(str(tmp_path / "train"), "train")) == 7


def test_columns(tmp_path, records):
    bare = load_split(saved(tmp_path / "a", records.remove_columns(["title", "gold_images"])), "test")
    assert list(bare["title"]) == [""] * 7 and list(bare["gold_images"]) == [[]] * 7
    assert image_counts(bare) == image_counts(records)
    texts = records.remove_columns("summary").add_column("summary", ["One text. And two."] * 7)
    assert list(load_split(saved(tmp_path / "b", texts), "test")["summary"]) == [["One text.", "And two."]] * 7
    with pytest.raises(ValueError, match="no column is the article; it has 'id', 'title', 'summary'"):
        load_split(saved(tmp_path / "c", records.remove_columns(["article"])), "test")


def test_duplicated_ids(tmp_path, records):
    with pytest.raises(ValueError, match=f"holds 1 ids twice, {records['id'][2]!r} among them"):
        load_split(saved(tmp_path, datasets.concatenate_datasets([records, records.select([2])])), "test")


@pytest.mark.parametrize("gold", [[9], [-1], None])
def test_gold_images_that_are_none_of_the_articles(tmp_path, records, gold):
    changed = datasets.Dataset.from_list([{**records[0], "gold_images": gold}], records.features)
    with pytest.raises(ValueError, match=f"the gold images of {records['id'][0]!r} are"):
        load_split(saved(tmp_path, changed), "test")


@pytest.mark.parametrize("path", ["/etc/hostname", "https://example.org/x.png"])
def test_images_by_path_are_not_followed(tmp_path, records, path):
    folder = tmp_path / "crafted"
    row = {**records[0], "images": [{"bytes": None, "path": path}], "captions": [""], "gold_images": []}
    table = datasets.Dataset.from_list([row], records.features).data.table
    datasets.Dataset.from_list([records[0]], records.features).save_to_disk(folder)
    # `save_to_disk` embeds what it can read; a crafted folder need not.
    with pa.OSFile(str(next(folder.glob("*.arrow"))), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match="it names images by their paths; save it with `save_to_disk`"):
        load_split(str(folder), "test")
