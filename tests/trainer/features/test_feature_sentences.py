"""The feature cache and summaries in one paragraph: what is cached of their sentences, and which shards stay valid."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from spectra_sum.msmo import load_msmo
from tests.trainer.features.feature_setup import Setup, save_backbones, write_msmo
from trainer.building import build_teacher
from trainer.features import cache, extraction, shards
from trainer.features.shards import article_digests

PARAGRAPH = 3
"""The article whose summary is one paragraph; shard 1 of three holds it."""


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_backbones(tmp_path_factory.mktemp("backbones"))["siglip"]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six articles whose summaries have two sentences, one a line."""
    folder = tmp_path_factory.mktemp("data")
    return load_msmo(write_msmo(folder / "msmo"), cache_dir=folder / "cache")["train"]


@pytest.fixture(scope="module")
def records(lines) -> Dataset:
    def joined(row: dict, index: int) -> dict:
        return {"summary": [" ".join(row["summary"])] if index == PARAGRAPH else row["summary"]}

    return lines.map(joined, with_indices=True)


def old_digest(row: dict, images: list) -> bytes:
    """How an article was told from others when its lines were its sentences."""
    return hashlib.sha256(json.dumps([row["id"], row["summary"], images]).encode()).digest()


def test_sentences_of_a_paragraph_are_cached_one_by_one(tmp_path, records, lines, vision):
    setup = Setup(tmp_path / "features", records, vision)
    setup.fill()
    teacher = build_teacher(vision, setup.model.config, torch.device("cpu"))
    for identifier, summary in zip(lines["id"], lines["summary"], strict=True):
        article = setup.features().read(identifier)
        sentences, mask = teacher.embed_summaries([summary])
        assert mask.shape == (1, 2)
        torch.testing.assert_close(article["sentence_embeds"], sentences[0], rtol=1e-5, atol=1e-6)
    stored = setup.shards()
    assert sum(len(shard["sentence_embeds"]) for shard in stored.values()) == 12
    # What it takes on disk was foreseen, but for the headers: names and places of eight tensors.
    sizes = [path.stat().st_size for path in sorted(setup.split.folder.glob("*.safetensors"))]
    for shard, size in enumerate(sizes):
        assert 0 < size - setup.split.size([shard]) < 1500
    # Its lines or its paragraph: the same features.
    before = setup.times()
    Setup(setup.split.folder, lines, vision).fill()
    assert setup.times() == before


def test_digests_change_where_a_line_is_several_sentences_and_nowhere_else(records):
    rows = [{"id": "a", "summary": ["One line. And more."]}, {"id": "b", "summary": ["One line.", "And more."]}]
    image = [{"bytes": b"content", "path": None}]
    described = [[hashlib.sha256(b"content").hexdigest()]]
    table = Dataset.from_list([{**row, "images": image} for row in rows]).with_format("arrow")[:]
    assert [
        digest == old_digest(row, described) for row, digest in zip(rows, article_digests(table, 4), strict=True)
    ] == [
        False,
        True,
    ]


def test_a_shard_that_knew_only_lines_is_computed_anew(tmp_path, records, vision, monkeypatch):
    folder = tmp_path / "features"
    with monkeypatch.context() as earlier:
        for module in (cache, extraction, shards):
            earlier.setattr(module, "reference_sentences", list)
        Setup(folder, records, vision).fill()
    setup = Setup(folder, records, vision)
    before, counts = setup.times(), [len(shard["sentence_embeds"]) for shard in setup.shards().values()]
    assert counts == [4, 3, 4]
    setup.fill()
    after = setup.times()
    assert {Path(name).stem for name in before if after[name] != before[name]} == {"shard-00001"}
    assert [len(shard["sentence_embeds"]) for shard in setup.shards().values()] == [4, 4, 4]
