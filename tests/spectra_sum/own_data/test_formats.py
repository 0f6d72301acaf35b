"""What a name of data stands for."""

import pytest

from spectra_sum.own_data.formats import OwnDataError, check_no_own_options, find_source, split_named


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


@pytest.mark.parametrize(
    ("files", "kind", "splits"),
    [
        (["train_data/article/a.txt"], "msmo", {}),
        (["dataset_dict.json", "test/data.arrow"], "saved", {}),
        (["state.json", "dataset_info.json", "data.arrow"], "saved", {}),
        (["metadata.jsonl", "a.jpg", "train_station.jpg"], "imagefolder", {"": ["metadata.jsonl"]}),
        (
            ["train/metadata.csv", "test/metadata.csv", "test/a.jpg"],
            "imagefolder",
            {"train": ["train/metadata.csv"], "test": ["test/metadata.csv"]},
        ),
        # Images may be called as they like, and a keyword counts as a whole word.
        (["stories.jsonl", "img/test_1.png", ".cache/x.csv"], "json", {"": ["stories.jsonl"]}),
        (["latest.csv", "contest.csv"], "csv", {"": ["contest.csv", "latest.csv"]}),
        (
            ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/dev-0.parquet"],
            "parquet",
            {
                "train": ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
                "validation": ["data/dev-0.parquet"],
            },
        ),
        (
            ["news_eval.jsonl", "training/a.jsonl"],
            "json",
            {"train": ["training/a.jsonl"], "test": ["news_eval.jsonl"]},
        ),
    ],
)
def test_folders(tmp_path, files, kind, splits):
    source = find_source(touch(tmp_path, *files))
    assert source.kind == kind
    found = {split: [str(file.relative_to(tmp_path)) for file in files] for split, files in source.files.items()}
    assert found == splits
    assert source.title == tmp_path.name


def test_a_single_file_has_no_splits_whatever_it_is_called(tmp_path):
    touch(tmp_path, "train.csv")
    source = find_source(str(tmp_path / "train.csv"))
    assert (source.kind, source.title) == ("csv", "train.csv")
    assert source.files == {"": [tmp_path / "train.csv"]}


def test_names_that_are_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_source("closed_world").kind == "closed_world"
    source = find_source("owner/stories")
    assert (source.kind, source.title) == ("hub", "owner/stories")
    # What is there wins over what the Hub may have.
    touch(tmp_path, "owner/stories/a.jsonl")
    assert find_source("owner/stories").kind == "json"


def test_what_is_no_data_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    touch(tmp_path / "mixed", "a.csv", "b.jsonl")
    touch(tmp_path / "half", "train.csv", "others.csv")
    cases = {
        "nowhere": "nowhere: there is no such file or folder; pass 'closed_world', a file (.jsonl, .json, .csv, .parquet)",
        "no/articles.jsonl": "no/articles.jsonl: there is no such file or folder; pass",
        "notes.txt": "notes.txt: files of this kind are not read; pass .jsonl, .json, .csv, .parquet or a folder.",
        "empty": "empty: the folder holds no data; pass",
        "mixed": "mixed: the folder holds .csv and .jsonl files; pass one of the files.",
        "half": "half: the name of others.csv tells no split, as those of others do",
    }
    for name, message in cases.items():
        with pytest.raises(OwnDataError) as error:
            find_source(name)
        assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_split_names_of_others():
    assert [split_named(name) for name in ("dev", "valid", "eval", "training", "extra")] == [
        *("validation", "validation", "test", "train"),
        None,
    ]


def test_options_without_use(tmp_path):
    (tmp_path / "a.csv").touch()
    for source, columns, config, message in (
        ("closed_world", ["text=story"], None, "columns: those of closed_world are known; leave it out."),
        (
            str(tmp_path / "a.csv"),
            [],
            "3.0.0",
            "is no dataset of the Hub, and has no configurations; leave '3.0.0' out.",
        ),
    ):
        with pytest.raises(OwnDataError, match=message):
            check_no_own_options(find_source(source), columns, config)
    check_no_own_options(find_source("owner/name"), ["text=story"], "3.0.0")
