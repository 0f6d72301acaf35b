"""`spectra-sum data linked-pairs`: from cut-outs and backgrounds to a folder that training reads."""

import io
import json

import datasets
import pytest
from PIL import Image

from spectra_sum.cli import main
from spectra_sum.linked_pairs import making
from spectra_sum.linked_pairs.contact_sheet import spread
from spectra_sum.msmo import load_msmo
from spectra_sum.own_data.formats import find_source
from tests.spectra_sum.linked_pairs.cutout_files import write_backgrounds, write_groups


def run(*arguments):
    return main(["data", "linked-pairs", *map(str, arguments)])


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    groups = write_groups(folder / "groups", 9)
    return "--groups", groups, "--backgrounds", write_backgrounds(folder / "scenes"), "--size", 96


@pytest.fixture(scope="module")
def result(sources, tmp_path_factory):
    output = tmp_path_factory.mktemp("result") / "pairs"
    assert run(*sources, "--output", output, "--pairs", 12, "--sheet", output.with_name("sheet.png")) == 0
    return output


@pytest.fixture(scope="module")
def records(result):
    return [json.loads(line) for line in (result / "pairs.jsonl").read_text().splitlines()]


def test_the_msmo_layout_and_the_folder_of_datasets_have_the_same_contents(result, records, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    assert find_source(str(result)).kind == "msmo"
    articles, saved = (
        load_msmo(str(result), cache_dir=str(tmp_path / "cache")),
        datasets.load_from_disk(result / "dataset"),
    )
    assert {split: len(rows) for split, rows in saved.items()} == {"train": 4, "validation": 4, "test": 4}
    by_id = {record["id"]: record for record in records}
    for split, rows in saved.items():
        assert list(articles[split]["id"]) == list(rows["id"])
        for row, article in zip(rows, articles[split], strict=True):
            record = by_id[row["id"]]
            assert row["instruction"] == article["article"] == record["instruction"]
            assert [row["answer"]] == article["summary"] == [record["answer"]]
            assert (row["shared_object"], row["description"]) == (record["shared"], record["description"])
            others = [item["group"] for image in record["images"] for item in image["objects"] if not item["shared"]]
            assert row["other_objects"] == others
            assert len(row["images"]) == len(article["images"]) == 2
            for ours, theirs, image in zip(row["images"], article["images"], record["images"], strict=True):
                assert ours.size == (96, 96) and ours.convert("RGB").tobytes() == theirs.convert("RGB").tobytes()
                with Image.open(result / image["file"]) as file:
                    assert file.convert("RGB").tobytes() == theirs.convert("RGB").tobytes()


def test_no_object_is_in_two_splits(records):
    found = {split: set() for split in ("train", "validation", "test")}
    for record in records:
        found[record["split"]] |= {item["group"] for image in record["images"] for item in image["objects"]}
    assert all(len(groups) == 3 for groups in found.values()) and len(set().union(*found.values())) == 9


def test_the_same_inputs_and_seed_give_the_same_bytes(sources, result, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    sheet = tmp_path / "sheet.png"
    assert run(*sources, "--output", again, "--pairs", 12, "--sheet", sheet) == 0
    assert files(again) == files(result)
    assert sheet.read_bytes() == result.with_name("sheet.png").read_bytes()
    assert run(*sources, "--output", other, "--pairs", 12, "--seed", 1) == 0
    assert (other / "pairs.jsonl").read_bytes() != (result / "pairs.jsonl").read_bytes()


def test_counts_are_printed_and_written_and_add_up(sources, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(*sources, "--output", output, "--pairs", 30, "--tries", 2, "--least-visible", 0.97) == 1
    printed = capsys.readouterr().out
    counts = json.loads((output / "counts.json").read_text())
    made = sum(counts["pairs"].values())
    assert counts["tries"] == 2 * made + counts["unused"] + sum(counts["rejected"].values())
    assert counts["given_up"] == 30 - made > 0
    assert len((output / "pairs.jsonl").read_text().splitlines()) == made
    assert counts["settings"]["limits"] == {"least_visible": 0.97, "most_overlap": 0.15, "least_size": 0.02}
    assert sorted(name for groups in counts["groups"].values() for name in groups) == [
        f"thing_{number}" for number in range(9)
    ]
    assert "read: 9 groups, 18 cut-outs, 3 backgrounds\n" in printed
    assert f"images: {counts['tries']} tried, {2 * made} kept, " in printed
    assert f"{counts['rejected']['hidden']} rejected with an object that is too little to see" in printed
    assert f"pairs given up: {counts['given_up']}, after too many rejected tries\n" in printed


def test_the_sheet_shows_twelve_pairs(result):
    with Image.open(result.with_name("sheet.png")) as sheet:
        assert sheet.format == "PNG" and sheet.width > 6 * 240 and sheet.height > 4 * 240
    assert spread(12) == list(range(12)) and spread(5) == list(range(5)) and spread(1) == [0]
    assert spread(1000)[0] == 0 and spread(1000)[-1] == 999 and len(set(spread(1000))) == 12


def test_the_closed_world_needs_no_files(tmp_path, capsys):
    output = tmp_path / "out"
    texts = ("--instructions", "What is in both?", "--answer", "{object}!")
    assert run("--closed-world", "--output", output, "--pairs", 5, "--size", 64, *texts) == 0
    assert "read: 48 groups, 192 cut-outs, 48 backgrounds\n" in capsys.readouterr().out
    saved = datasets.load_from_disk(output / "dataset")
    row = saved["train"][0]
    assert row["instruction"] == "What is in both?" and row["answer"] == f"A{row['description'][1:]}!"


def test_damaged_files_are_named_and_the_exit_code_tells(tmp_path, capsys):
    groups = write_groups(tmp_path / "groups", 3)
    (groups / "thing_0" / "bad.png").write_bytes(b"x")
    scenes = write_backgrounds(tmp_path / "scenes")
    arguments = ("--groups", groups, "--backgrounds", scenes, "--size", 64, "--pairs", 2, "--output", tmp_path / "out")
    assert run(*arguments) == 1
    captured = capsys.readouterr()
    assert "cut-outs left out: 1 cannot be read\n" in captured.out
    assert captured.err.startswith("spectra-sum: left out: thing_0/bad.png: no image in one of the formats")
    assert captured.err.count("\n") == 1


def test_what_is_there_is_replaced_only_with_overwrite(sources, tmp_path, capsys, monkeypatch):
    output, sheet = tmp_path / "out", tmp_path / "sheet.png"
    output.mkdir()
    (output / "pairs.jsonl").write_text("old")
    sheet.write_bytes(b"old")
    arguments = (*sources, "--pairs", 3, "--output", output)
    assert run(*arguments) == 2
    assert "the folder is not empty" in capsys.readouterr().err

    def fail(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(making, "write_dataset", fail)
        assert run(*arguments, "--overwrite") == 2
    # The old one is whole, and nothing else is left.
    assert files(tmp_path) == {"out/pairs.jsonl": b"old", "sheet.png": b"old"}
    assert run(*sources, "--pairs", 3, "--output", tmp_path / "new", "--sheet", sheet) == 2
    assert not (tmp_path / "new").exists() and sheet.read_bytes() == b"old"
    assert run(*arguments, "--overwrite", "--sheet", sheet) == 0
    assert len((output / "pairs.jsonl").read_text().splitlines()) == 3
    assert Image.open(io.BytesIO(sheet.read_bytes())).format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--groups", "absent", "--backgrounds", "scenes"), "--groups absent: there is no such folder."),
        (("--groups", "groups", "--backgrounds", "absent"), "--backgrounds absent: there is no such folder."),
        (("--groups", "groups"), "--groups needs --backgrounds"),
        (("--closed-world", "--photographs"), "--photographs is for files"),
        (("--groups", "two", "--backgrounds", "scenes"), "--groups: pairs need at least 3 objects"),
        (
            ("--groups", "groups", "--backgrounds", "one"),
            "--backgrounds: pairs need at least two backgrounds",
        ),
        (("--closed-world", "--size", "20"), "--size 20: images have 64 to 4096 pixels"),
        (("--closed-world", "--sheet", "sheet.jpg"), "--sheet sheet.jpg: the sheet is a PNG"),
        (("--closed-world", "--sheet", "absent/a.png"), "--sheet absent/a.png: there is no folder absent"),
        (("--closed-world", "--answer", "@title {object}"), "an instruction or answer begins with @title"),
        (("--groups", "groups", "--backgrounds", "scenes", "--least-size", "1"), "no pair passed quality control"),
    ],
)
def test_errors_in_one_line(tmp_path, capsys, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    write_groups(tmp_path / "groups", 3)
    write_groups(tmp_path / "two", 2)
    write_backgrounds(tmp_path / "scenes")
    write_backgrounds(tmp_path / "one", 1)
    size = () if "--size" in arguments else ("--size", "96")
    assert run(*arguments, *size, "--pairs", 2, "--tries", 2, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("spectra-sum: error: ") and told in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
