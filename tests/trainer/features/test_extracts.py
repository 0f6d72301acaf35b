"""Long bodies as extracts: what is replaced, and what of an earlier run is kept."""

import json
import logging

import pytest
from datasets import Dataset, DatasetDict

from spectra_sum.extraction.extract import extract
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.hashing_encoder import HashingEncoder
from trainer.arguments import DataArguments
from trainer.data import load_records
from trainer.features import extracts
from trainer.features.extracts import select_bodies, word_count

WORDS = 20
SHORT = "Only a few words stand here."


def long_body(number: int) -> str:
    """Forty sentences of eight words."""
    topics = ["harbour", "bridge", "storm", "ships"]
    return " ".join(f"The {topics[(n + number) % 4]} number {n} was closed in {1900 + number}." for n in range(40))


def articles(*bodies: str) -> Dataset:
    columns = {
        "title": [f"t{n}" for n in range(len(bodies))],
        "article": list(bodies),
        "summary": [["S."]] * len(bodies),
    }
    return Dataset.from_dict(columns)


@pytest.fixture
def encoder(monkeypatch):
    made = HashingEncoder()
    monkeypatch.setattr(extracts, "load_text_encoder", lambda name: made)
    return made


def selected(folder, *bodies, words=WORDS):
    return select_bodies(DatasetDict({"train": articles(*bodies)}), "any", words, str(folder))["train"]["article"]


def test_long_bodies_are_their_extracts_and_the_rest_is_untouched(tmp_path, encoder):
    splits = DatasetDict({"train": articles(long_body(0), SHORT), "validation": articles(SHORT, long_body(1))})
    found = select_bodies(splits, "any", WORDS, str(tmp_path))
    assert list(found) == ["train", "validation"]
    for name, split in found.items():
        assert split.column_names == splits[name].column_names and split.features == splits[name].features
        assert split["title"] == splits[name]["title"] and split["summary"] == splits[name]["summary"]
    for number, body in ((0, found["train"]["article"][0]), (1, found["validation"]["article"][1])):
        assert body == extract(long_body(number), HashingEncoder(), WORDS, word_count).text
        # As many sentences of eight words as fit.
        assert word_count(body) == 16 and all(
            f"{part.strip()}." in long_body(number) for part in body.split(".") if part.strip()
        )
    assert found["train"]["article"][1] == found["validation"]["article"][0] == SHORT


def test_a_body_at_the_limit_is_short(tmp_path, encoder):
    body = " ".join(["word"] * WORDS)
    assert list(selected(tmp_path, body)) == [body] and encoder.embedded == []


def test_a_second_run_embeds_nothing(tmp_path, encoder, caplog):
    first = list(selected(tmp_path, long_body(0), long_body(1), long_body(0)))
    assert first[0] == first[2] != first[1]
    # Each body once, though it comes twice.
    assert len(encoder.embedded) == 80
    encoder.embedded.clear()
    assert list(selected(tmp_path, long_body(1), SHORT, long_body(0))) == [first[1], SHORT, first[0]]
    assert encoder.embedded == []
    logging.getLogger("trainer").addHandler(caplog.handler)
    selected(tmp_path, long_body(2), long_body(0))
    logging.getLogger("trainer").removeHandler(caplog.handler)
    assert len(encoder.embedded) == 40
    [file] = (tmp_path / "extracts").iterdir()
    assert len(file.read_text().splitlines()) == 3


@pytest.mark.parametrize("torn", [1, 20, None])
def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path, encoder, torn):
    """Killed within the last line: between its characters, and before its line break."""
    expected = list(selected(tmp_path, long_body(0), long_body(1)))
    [file] = (tmp_path / "extracts").iterdir()
    whole = file.read_bytes()
    first, second, _ = whole.split(b"\n")
    file.write_bytes(first + b"\n" + second[:torn])
    encoder.embedded.clear()
    assert list(selected(tmp_path, long_body(0), long_body(1))) == expected
    assert len(encoder.embedded) == 40 and file.read_bytes() == whole
    assert all(len(json.loads(line)) == 2 for line in whole.splitlines())


def test_extracts_of_other_settings_are_others(tmp_path, encoder):
    twenty, [forty] = selected(tmp_path, long_body(0)), selected(tmp_path, long_body(0), words=40)
    assert word_count(forty) == 40 and list(twenty) != [forty]
    encoder.revision = "another"
    encoder.embedded.clear()
    selected(tmp_path, long_body(0))
    assert len(encoder.embedded) == 40 and len(list((tmp_path / "extracts").iterdir())) == 3


def test_by_default_they_lie_in_the_cache_of_datasets(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    select_bodies(DatasetDict({"train": articles(long_body(0))}), "any", WORDS)
    assert len(list((tmp_path / "cache" / "extracts").iterdir())) == 1


def test_a_training_reads_extracts_of_as_many_articles_as_are_asked_for(tmp_path, encoder):
    sizes = {
        "closed_world_articles": 4,
        "closed_world_eval_articles": 3,
        "max_train_articles": 2,
        "max_eval_articles": 1,
    }
    select = {"long_documents": "select", "extract_words": 12, "cache_dir": str(tmp_path)}
    whole = closed_world_dataset({"train": 4, "validation": 3, "test": 3}, seed=0)
    cut = load_records(DataArguments("closed_world", **sizes))
    read = load_records(DataArguments("closed_world", **sizes, **select))
    for name, count in (("train", 2), ("validation", 1), ("test", 1)):
        bodies = whole[name]["article"][:count]
        assert cut[name]["article"] == bodies and all(word_count(body) > 12 for body in bodies)
        expected = [extract(body, HashingEncoder(), 12, word_count).text for body in bodies]
        assert read[name]["article"] == expected != bodies
        assert read[name]["title"] == whole[name]["title"][:count]
