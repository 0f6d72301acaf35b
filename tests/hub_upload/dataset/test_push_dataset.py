"""`spectra-sum push dataset`: what `load_dataset` gives elsewhere, the rights, interrupted and repeated pushes."""

import errno
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image, ImageOps

import hub_upload.dataset.shards
from hub_upload.dataset.push import push_dataset, wanted_privacy
from hub_upload.errors import HubError
from hub_upload.repository import Target
from spectra_sum.cli import main
from spectra_sum.msmo import load_msmo
from tests.bare_process import WITHOUT_THE_PROJECT

pytestmark = pytest.mark.usefixtures("preloaded_python")

HASHES = [f"{number:040x}" for number in range(12)]
BARE = (
    WITHOUT_THE_PROJECT
    + """
import hashlib, io, json
import datasets

def record(row, kept):
    shown = [image.convert("RGB") for image in row["images"]]
    pixels = [[*image.size, hashlib.sha256(image.tobytes()).hexdigest()] for image in shown]
    images = [[image["path"], hashlib.sha256(image["bytes"]).hexdigest()] for image in kept["images"]]
    return {**row, "images": images, "pixels": pixels}

result = {}
for streaming in (False, True):
    loaded = datasets.load_dataset(sys.argv[1], streaming=streaming)
    kept = loaded.cast_column("images", datasets.List(datasets.Image(decode=False)))
    result["streamed" if streaming else "loaded"] = {
        split: [record(*pair) for pair in zip(loaded[split], kept[split], strict=True)] for split in loaded
    }
    result["features"] = repr(loaded["train"].features)
json.dump(result, sys.stdout)
"""
)


def write_article(folder: Path, name: str, summary: str = "First.\nSecond.") -> None:
    (folder / "article").mkdir(parents=True, exist_ok=True)
    (folder / "article" / f"{name}.txt").write_text(f"@title\nA title\n\n@body\nOne.\n\nTwo.\n\n@summary\n{summary}\n")


def write_image(folder: Path, name: str, seed: int, format: str = "JPEG", orientation: int | None = None) -> None:
    (folder / "img").mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[ExifTags.Base.Orientation] = orientation
    Image.effect_noise((40, 30), seed).convert("RGB").save(folder / "img" / name, format, exif=exif)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """
    A copy with two splits: articles with no, one and several images (one a PNG by content, one stored lying on its side),
    with and without captions and gold images, a broken image, and an article without a summary.
    """
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    train, test = tmp_path / "copy" / "train_data", tmp_path / "copy" / "test_data"
    for number, name in enumerate(HASHES[:6]):
        write_article(train, name, summary="Only one." if number != 1 else "")
        for image in range(number):
            orientation = 6 if (number, image) == (2, 1) else None
            write_image(train, f"{name}_{image}.jpg", 10 * number + image + 20, orientation=orientation)
    for name in HASHES[6:8]:
        write_article(test, name)
        write_image(test, f"{name}_0.jpg", 80)
        write_image(test, f"{name}_1.jpg", 90, "PNG")
    write_image(test, f"{HASHES[6]}_2.jpg", 95)
    broken = test / "img" / f"{HASHES[6]}_0.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    (test / "caption").mkdir()
    (test / "caption" / f"{HASHES[6]}_1.caption").write_text("A caption | with a bar\n")
    (test / "image_annotation.txt").write_text(f"{HASHES[6]}_2.jpg\nNone\n")
    return tmp_path / "copy"


def load_bare(hub, repo_id: str, home: Path) -> dict:
    process = subprocess.run(
        [sys.executable, "-I", "-c", BARE, repo_id],
        env=hub.environment(home, HF_DATASETS_DISABLE_PROGRESS_BARS="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def expected_records(root: Path) -> dict[str, list[dict]]:
    """The records by the local builder, and the images by the files of the copy."""
    parts = load_msmo(root, verify="full").cast_column("images", datasets.List(datasets.Image(decode=False)))
    result = {}
    for split, part in parts.items():
        result[split] = []
        for row in part:
            files = [Path(image["path"]) for image in row["images"]]
            row["images"] = [[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in files]
            row["pixels"] = []
            for file in files:
                with Image.open(file) as image:
                    image = ImageOps.exif_transpose(image).convert("RGB")
                row["pixels"].append([*image.size, hashlib.sha256(image.tobytes()).hexdigest()])
            result[split].append(row)
    return result


def commits(hub, repo_id: str) -> list[str]:
    return [commit.commit_id for commit in hub.api.list_repo_commits(repo_id, repo_type="dataset")]


def test_a_bare_machine_gets_the_builders_records(hub, root, tmp_path, capsys):
    repo_id = hub.new_id("msmo", "dataset")
    assert main(["push", "dataset", str(root), "--repo-id", repo_id]) == 0
    assert "MSMO may not be redistributed" in capsys.readouterr().out
    assert hub.api.dataset_info(repo_id).private
    assert len(commits(hub, repo_id)) == 2  # the repository's own first one, and the push

    bare = load_bare(hub, repo_id, tmp_path / "home")
    expected = expected_records(root)
    assert [len(expected[split]) for split in ("train", "test")] == [5, 2]
    assert [len(record["images"]) for record in expected["train"]] == [0, 2, 3, 4, 5]
    assert [pixels[:2] for pixels in expected["train"][1]["pixels"]] == [[40, 30], [30, 40]]
    assert [image[0] for image in expected["test"][0]["images"]] == [f"{HASHES[6]}_1.jpg", f"{HASHES[6]}_2.jpg"]
    assert expected["test"][0]["gold_images"] == [1] and expected["test"][1]["gold_images"] == []
    assert bare["loaded"] == expected
    assert bare["streamed"] == expected
    assert bare["features"] == repr(load_msmo(root)["train"].features)


def test_nothing_local_is_uploaded_and_a_repeated_push_makes_no_commit(hub, root, tmp_path, capsys, monkeypatch):
    repo_id = hub.new_id("msmo", "dataset")
    assert main(["push", "dataset", str(root), "--repo-id", repo_id]) == 0
    before = commits(hub, repo_id)
    for file in hub.api.list_repo_files(repo_id, repo_type="dataset"):
        content = Path(hub.api.hf_hub_download(repo_id, file, repo_type="dataset", cache_dir=tmp_path / "download"))
        assert str(tmp_path).encode() not in content.read_bytes(), file
    # The same data elsewhere, read anew on a machine that has nothing.
    shutil.copytree(root, tmp_path / "elsewhere")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "other-cache")
    capsys.readouterr()
    assert main(["push", "dataset", str(tmp_path / "elsewhere"), "--repo-id", repo_id]) == 0
    assert "nothing to change" in capsys.readouterr().out
    assert commits(hub, repo_id) == before
    assert not list((tmp_path / "other-cache" / "msmo-push").iterdir())


def test_the_card_counts_what_is_there_and_what_is_not(root, tmp_path):
    arguments = ["push", "dataset", str(root), "--repo-id", "ns/msmo", "--dry-run", str(tmp_path / "dry")]
    assert main(arguments) == 0
    card = huggingface_hub.DatasetCard.load(tmp_path / "dry" / "README.md")
    assert card.data.license == "other" and "spectra-sum" in card.data.tags
    assert card.data.configs[0]["data_files"] == [
        {"split": "train", "path": "data/train-*"},
        {"split": "test", "path": "data/test-*"},
    ]
    lines = card.text.splitlines()
    # Of six articles the one with one image has no summary; 0 + 2 + 3 + 4 + 5 images. Of five test images one is broken.
    assert "| train | 5 | 14 | 0 | 0 | 6 |" in lines
    assert "| test | 2 | 4 | 1 | 1 | 2 |" in lines
    assert "| `gold_images` | test | `test_data/image_annotation.txt` | 2 |" in lines
    assert "| `gold_images` | train | no file | 5 |" in lines
    assert "| `captions` | test | `test_data/caption/*_*.caption` | 1 |" in lines
    assert "| `captions` | test | no file | 1 |" in lines
    assert "| `summary` | train | `train_data/article/*.txt` | 5 |" in lines
    assert any(line.startswith("| train |") and line.endswith("(`article_without_summary`) | 1 |") for line in lines)
    assert any(line.startswith("| test |") and line.endswith("(`broken_image`) | 1 |") for line in lines)


def test_a_public_push_without_the_right_is_refused(hub, root, capsys):
    repo_id = hub.new_id("msmo", "dataset")
    assert main(["push", "dataset", str(root), "--repo-id", repo_id, "--public"]) == 1
    assert "--i-have-the-right-to-redistribute" in capsys.readouterr().err
    assert not hub.api.repo_exists(repo_id, repo_type="dataset")

    hub.api.create_repo(repo_id, repo_type="dataset", private=False)
    before = commits(hub, repo_id), hub.api.list_repo_files(repo_id, repo_type="dataset")
    assert main(["push", "dataset", str(root), "--repo-id", repo_id]) == 1
    error = capsys.readouterr().err
    assert repo_id in error and "public" in error and error.count("\n") == 1
    assert (commits(hub, repo_id), hub.api.list_repo_files(repo_id, repo_type="dataset")) == before
    # It was refused before any work.
    assert not (Path(datasets.config.HF_DATASETS_CACHE) / "msmo").exists()


def test_with_the_right_it_is_public_and_the_card_says_who_declared_it(hub, root, tmp_path):
    repo_id = hub.new_id("msmo", "dataset")
    declared = ["--i-have-the-right-to-redistribute", "--license", "cc-by-4.0", "--splits", "train"]
    assert main(["push", "dataset", str(root), "--repo-id", repo_id, *declared]) == 0
    assert not hub.api.dataset_info(repo_id).private
    card = huggingface_hub.DatasetCard.load(repo_id)
    assert card.data.license == "cc-by-4.0"
    assert "declared to have the right to redistribute" in card.text
    assert not any("test" in file for file in hub.api.list_repo_files(repo_id, repo_type="dataset"))


@pytest.mark.parametrize(
    ("private", "public", "may_redistribute", "result"),
    [(False, False, False, True), (True, False, False, True), (True, False, True, True), (False, False, True, False)],
)
def test_the_repository_is_public_only_with_the_right(private, public, may_redistribute, result):
    assert wanted_privacy(private, public, may_redistribute) is result


@pytest.mark.parametrize("private", [None, False])
def test_without_the_right_nothing_is_pushed_but_to_a_private_repository(root, tmp_path, private):
    target = Target("ns/msmo", "dataset", private)
    with pytest.raises(HubError, match="ns/msmo: MSMO may not be redistributed.*--i-have-the-right-to-redistribute"):
        push_dataset(root, target, dry_run=tmp_path / "dry")
    assert not (tmp_path / "cache").exists() and not (tmp_path / "dry").exists()


def test_a_licence_that_the_hub_does_not_know_by_that_name(root, tmp_path, capsys):
    arguments = ["--repo-id", "ns/msmo", "--dry-run", str(tmp_path / "dry"), "--license", "CC BY 4.0"]
    assert main(["push", "dataset", str(root), *arguments]) == 1
    assert "--license 'CC BY 4.0': this is no identifier of the Hub" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "place", ["datasets.arrow_writer.ArrowWriter.finalize", "hub_upload.dataset.shards._write_shard"]
)
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_full_disk_is_one_line_with_a_fix_that_helps(root, tmp_path, monkeypatch, capsys, place, processes):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    # Processes that decode images are forks of this one.
    monkeypatch.setattr(place, full)
    arguments = ["--repo-id", "ns/msmo", "--dry-run", str(tmp_path / "dry"), "--num-proc", processes]
    assert main(["push", "dataset", str(root), *arguments]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "disk" in line or "Traceback" in line]
    assert line == (
        f"spectra-sum: error: ns/msmo: the disk of {tmp_path / 'cache'} is full; make room, or set HF_DATASETS_CACHE to a "
        "folder on a larger disk, and run the same command again."
    )


def test_an_error_of_another_process_is_one_line(root, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ValueError("first line\nthe reason")

    monkeypatch.setattr("datasets.arrow_writer.ArrowWriter.finalize", broken)
    with pytest.raises(HubError) as caught:
        push_dataset(root, Target("ns/msmo", "dataset", True), num_proc=2, dry_run=tmp_path / "dry")
    assert str(caught.value) == f"{root}: the copy cannot be read: the reason"


KILLED = """
import os, signal, sys
from pathlib import Path
import datasets, hub_upload.dataset.shards as shards
from hub_upload.dataset.push import push_dataset
from hub_upload.repository import Target

datasets.config.HF_DATASETS_CACHE = Path(sys.argv[3])
write = shards._write_shard

def write_or_die(dataset, shard, path):
    write(dataset, shard, path)
    if (shard.split, shard.index) == ("train", 1):
        os.truncate(path, 100)
        os.kill(os.getpid(), signal.SIGKILL)

shards._write_shard = write_or_die
push_dataset(Path(sys.argv[1]), Target("ns/msmo", "dataset", True), max_shard_size="5KB", dry_run=Path(sys.argv[2]))
"""


def test_a_killed_push_goes_on_with_the_shard_it_was_writing(root, tmp_path, monkeypatch):
    dry, cache = tmp_path / "dry", Path(datasets.config.HF_DATASETS_CACHE)
    process = subprocess.run([sys.executable, "-c", KILLED, str(root), str(dry), str(cache)], check=False)
    assert process.returncode == -9
    assert not dry.exists()
    (finished,) = cache.glob("msmo-push/*/repository/data/*")
    first = finished.stat().st_mtime_ns, finished.read_bytes()

    written = []
    write = hub_upload.dataset.shards._write_shard
    monkeypatch.setattr(
        hub_upload.dataset.shards,
        "_write_shard",
        lambda dataset, shard, path: (written.append(shard.name), write(dataset, shard, path)),
    )
    assert push_dataset(root, Target("ns/msmo", "dataset", True), max_shard_size="5KB", dry_run=dry) is None
    files = sorted(path.relative_to(dry).as_posix() for path in dry.glob("data/*"))
    assert sorted(written) == [name for name in files if not name.endswith(finished.name)]
    assert len(written) == len(files) - 1 >= 4
    copied = dry / "data" / finished.name
    assert (copied.stat().st_mtime_ns, copied.read_bytes()) == first
    assert not list((cache / "msmo-push").iterdir())
    # All records are there once, in order; a shard has more than 5 KB only when it is one record.
    tables = [pq.read_table(path, columns=["id"]) for path in sorted(dry.glob("data/train-*"))]
    assert [row for table in tables for row in table["id"].to_pylist()] == [HASHES[0], *HASHES[2:6]]
    for table, path in zip(tables, sorted(dry.glob("data/train-*")), strict=True):
        sizes = [path.stat().st_size for name in table["id"].to_pylist() for path in root.glob(f"*/img/{name}_*")]
        assert sum(sizes) <= 5000 or len(table) == 1, path


def test_bad_places_are_refused_before_any_work(root, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    assert main(["push", "dataset", str(root), "--repo-id", "a/b", "--dry-run", str(tmp_path / "full")]) == 1
    assert "full" in capsys.readouterr().err
    assert main(["push", "dataset", str(tmp_path / "none"), "--repo-id", "a/b", "--dry-run", str(tmp_path / "d")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_copy_without_articles_left_is_refused(root, tmp_path):
    shutil.rmtree(root / "train_data")
    for article in (root / "test_data" / "article").iterdir():
        article.write_text("@title\nA title\n")
    with pytest.raises(HubError, match="no article is left"):
        push_dataset(root, Target("ns/msmo", "dataset", True), dry_run=tmp_path / "dry")
    assert not (tmp_path / "dry").exists()
