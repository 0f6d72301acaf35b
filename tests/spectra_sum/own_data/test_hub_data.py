"""Datasets on the Hub, checked, evaluated and, as a stream, trained on: in processes of their own, which are online."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.hub import Hub
from tests.own_data import COLUMNS, colour, make_articles, write_data
from tests.tiny import tiny_tokenizer
from tests.trainer.training_setup import save_setup, setup_arguments

pytestmark = pytest.mark.usefixtures("preloaded_python")

ROOT = Path(__file__).parents[3]


def run(hub: Hub, home: Path, *argv: object) -> subprocess.CompletedProcess:
    environment = hub.environment(home, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    command = [sys.executable, *map(str, argv)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def spectra_sum(hub: Hub, home: Path, *argv: object) -> subprocess.CompletedProcess:
    return run(hub, home, "-m", "spectra_sum.cli", *argv)


@pytest.fixture
def published(hub, tmp_path, monkeypatch):
    """Publishes articles as data of a kind, and returns the dataset's id."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def publish(kind: str, files: list[str], articles: list[dict[str, Any]]) -> str:
        folder = tmp_path / kind
        write_data(kind, folder, articles, "train")
        repo_id = hub.new_id(f"stories-{kind}", "dataset")
        hub.api.create_repo(repo_id, repo_type="dataset")
        hub.api.upload_folder(repo_id=repo_id, repo_type="dataset", folder_path=folder, allow_patterns=files)
        return repo_id

    return publish


def test_parquet_is_checked_trained_on_as_a_stream_and_evaluated(hub, published, tmp_path):
    name, home = published("parquet", ["*.parquet"], make_articles(12)), tmp_path / "home"
    columns = ["--columns", *COLUMNS["parquet"]]
    save_setup(tmp_path / "setup", {"final_evaluation": "validation"})
    tokenizer = ["--tokenizer", tmp_path / "setup" / "vision"]
    checked = spectra_sum(hub, home, "data", "check", name, *columns, *tokenizer)
    assert checked.returncode == 0, checked.stderr
    assert (
        f"{name} (Hub): id = key, article = body, summary = tldr, images = pictures, alt_texts = alts"
        in checked.stdout
    )
    assert "train: 12 articles\n  images             12 in 8 articles, at most 2\n" in checked.stdout
    argv = setup_arguments(tmp_path / "setup", tmp_path / "run", "--dataset", name, *columns, "--streaming", "true")
    trained = run(hub, home, "trainer/train.py", *argv, "--validation_share", "0.3")
    assert trained.returncode == 0, trained.stderr
    assert json.loads((tmp_path / "run" / "trainer_state.json").read_text())["global_step"] == 2
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"] == {
        "name": name,
        "source": "hub",
        "articles": {},
    }
    options = ["--baseline", "lead-3", "--output", tmp_path / "scores"]
    scored = spectra_sum(hub, home, "evaluate", "--data", name, *columns, "--split", "train", *options)
    assert scored.returncode == 0, scored.stderr
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["data"]["name"] == name
    missing = spectra_sum(hub, home, "evaluate", "--data", name, *columns, *options)
    assert (missing.returncode, missing.stderr.splitlines()[-1]) == (
        2,
        f"spectra-sum: error: {name} has no split 'test'; it has train.",
    )


def test_a_folder_of_images_is_read_from_the_cache_and_as_a_stream(hub, published, tmp_path):
    # The library's builder reads no article without images.
    articles = [article for article in make_articles(12) if article["images"]]
    name = published("imagefolder", ["metadata.jsonl", "pictures/*"], articles)
    code = """
import json, sys
from spectra_sum.own_data.formats import find_source
from spectra_sum.own_data.loading import load_split, load_splits
from spectra_sum.records.article_images import UndecodedArticles, read_images
whole = load_split(sys.argv[1], "train")
(stream,) = load_splits(find_source(sys.argv[1]), streaming=True).values()
rows = [list(map(UndecodedArticles(whole).__getitem__, range(len(whole)))), list(stream)]
print(json.dumps([[[image.getpixel((0, 0)) for image in read_images(row).images] for row in part] for part in rows]))
"""
    done = run(hub, tmp_path / "home", "-c", code, name)
    assert done.returncode == 0, done.stderr
    whole, stream = json.loads(done.stdout)
    expected = [
        [list(colour(number, image)) for image in range(len(article["images"]))]
        for number, article in enumerate(articles)
    ]
    assert whole == expected and stream == expected


def test_what_cannot_be_fetched_is_one_line(hub, tmp_path):
    missing = f"{hub.namespace}/no-such-dataset"
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    done = spectra_sum(hub, tmp_path, "data", "check", missing, "--tokenizer", tmp_path / "tokenizer")
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"spectra-sum: error: {missing}: there is no such file or folder here, and http"), line
