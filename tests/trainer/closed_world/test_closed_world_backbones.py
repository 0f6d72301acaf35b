"""The demo's backbones at two steps: their folders load, training moves the weights, and nothing is trained twice."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    SiglipModel,
)

from modeling_spectra import SpectraSumProcessor
from modeling_spectra.processing_spectra import PLAIN_PROMPT
from spectra_sum.msmo.closed_world import caption_pairs, closed_world_dataset, generate_articles
from spectra_sum.msmo.closed_world_difficulty import DIFFICULTIES
from spectra_sum.summaries.remarks import closed_world_vocabulary
from tests.double_precision import EPSILON
from tests.tiny import tiny_image_processor, tiny_tokenizer
from trainer.closed_world.backbones import (
    SiglipSettings,
    TextModelSettings,
    TokenizerSettings,
    _facts_only,
    _siglip_loss,
    siglip_settings,
    train_siglip,
    train_text_model,
    train_tokenizer,
)

SIGLIP = SiglipSettings(steps=2, batch_size=4)
TEXT = TextModelSettings(copy_steps=1, steps=1, batch_size=2)


@pytest.fixture(scope="module")
def articles() -> Dataset:
    return closed_world_dataset({"train": 12}, seed=0)["train"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, articles: Dataset) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("backbones")
    tokenizer = train_tokenizer(root / "tokenizer", TokenizerSettings(articles=200))
    siglip = train_siglip(root / "siglip", tokenizer, SIGLIP)
    text = train_text_model(root / "text", tokenizer, articles, TEXT)
    return {"tokenizer": tokenizer, "siglip": siglip, "text": text}


def words_of(rows: Iterable[dict]) -> set[str]:
    """The words of articles and summaries, each once."""
    texts = (row["article"] + " " + " ".join(row["summary"]) for row in rows)
    return {word for text in texts for word in text.replace(".", " ").split()}


def test_one_tokenizer_for_all_folders(folders, articles):
    texts = [PLAIN_PROMPT.format(title=row["title"], body=row["article"]) for row in articles] + [
        "Ünïcode 日本 1,234\n\nx <image>"
    ]
    tokenizers = {name: AutoTokenizer.from_pretrained(folder) for name, folder in folders.items()}
    for tokenizer in tokenizers.values():
        assert isinstance(tokenizer, Qwen2Tokenizer)
        assert len(tokenizer) <= 880
        for text in texts:
            ids = tokenizer(text)["input_ids"]
            assert ids == tokenizers["tokenizer"](text)["input_ids"]
            assert tokenizer.decode(ids) == text
    tokenizer = tokenizers["text"]
    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<pad>", "<eos>")
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<image>")}) == 3
    assert tokenizer("<image>")["input_ids"] == [tokenizer.convert_tokens_to_ids("<image>")]


def test_each_word_of_the_closed_world_is_one_token(tmp_path, articles):
    tokenizer = AutoTokenizer.from_pretrained(train_tokenizer(tmp_path / "tokenizer"))
    for word in words_of(articles):
        assert len(tokenizer(" " + word)["input_ids"]) == 1, word


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_a_model_with_this_tokenizer_is_known_as_one_of_the_closed_world(tmp_path, difficulty):
    folder = train_tokenizer(tmp_path / "new", TokenizerSettings(seed=1, difficulty=difficulty))
    content = json.loads((folder / "tokenizer.json").read_text())
    size = len({*content["model"]["vocab"], *(token["content"] for token in content["added_tokens"])})
    processor = SpectraSumProcessor(tiny_image_processor(), AutoTokenizer.from_pretrained(folder))
    processor.save_pretrained(tmp_path / "model")
    tokenizer = SpectraSumProcessor.from_pretrained(tmp_path / "model").tokenizer
    assert tokenizer.init_kwargs["closed_world"] == {"seed": 1, "difficulty": difficulty}
    assert closed_world_vocabulary(tokenizer) == size
    # As earlier versions saved it.
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["closed_world"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert closed_world_vocabulary(AutoTokenizer.from_pretrained(folder)) == size
    assert closed_world_vocabulary(tiny_tokenizer()) is None


@pytest.mark.parametrize("difficulty", [name for name in DIFFICULTIES if name != "standard"])
def test_words_and_sentences_of_every_difficulty_fit(tmp_path, difficulty):
    settings = TokenizerSettings(difficulty=difficulty)
    tokenizer = AutoTokenizer.from_pretrained(train_tokenizer(tmp_path / "tokenizer", settings))
    rows = list(generate_articles(50, seed=0, split="validation", difficulty=difficulty))
    for word in words_of(rows):
        assert len(tokenizer(" " + word)["input_ids"]) == 1, word
    for sentence in {sentence for row in rows for sentence in row["summary"]}:
        assert len(tokenizer(sentence)["input_ids"]) <= SiglipSettings().text_length


def test_the_siglip_learns_the_pairs_of_its_difficulty(tmp_path, folders, monkeypatch):
    asked = []

    def record(*args, **kwargs):
        asked.append(kwargs["difficulty"])
        return caption_pairs(*args, **kwargs)

    monkeypatch.setattr("trainer.closed_world.backbones.caption_pairs", record)
    settings = SiglipSettings(steps=1, batch_size=2, difficulty="counts")
    train_siglip(tmp_path / "siglip", folders["tokenizer"], settings)
    assert asked == ["counts"]
    # At most twice the steps of the standard world.
    assert {siglip_settings(1, name).steps for name in ("standard", "far", "paired")} == {240}
    assert {siglip_settings(1, name).steps for name in ("thin", "counts")} == {480}
    assert siglip_settings(1, "thin", steps=2) == SiglipSettings(seed=1, difficulty="thin", steps=2)


def test_the_siglip_folder_loads_and_reads_pixels_as_it_was_trained(folders):
    model = AutoModel.from_pretrained(folders["siglip"])
    assert isinstance(model, SiglipModel)
    assert 600_000 < model.num_parameters() < 1_000_000
    tokens = AutoTokenizer.from_pretrained(folders["siglip"])(
        ["The chart shows red rising over the year."], padding="max_length", truncation=True, return_tensors="pt"
    )
    assert set(tokens) == {"input_ids"}
    assert tokens["input_ids"].shape == (1, 16)
    assert model.get_text_features(**tokens).pooler_output.shape == (1, 128)
    image, _, _ = next(caption_pairs(1, seed=0, split="test"))
    pixels = AutoImageProcessor.from_pretrained(folders["siglip"])(images=image, return_tensors="pt")["pixel_values"]
    expected = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    # Another rounding for each of three operations on numbers up to 1.
    torch.testing.assert_close(pixels, expected, atol=4 * EPSILON, rtol=0)


@pytest.mark.usefixtures("float64")
def test_the_siglip_loss_counts_all_pairs_of_a_meaning_as_positives(folders):
    model = AutoModel.from_pretrained(folders["siglip"], dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folders["siglip"])
    captions = {0: "The chart shows red rising over the year.", 7: "The chart shows yellow dipping over the year."}
    meanings = [7, 0, 7]
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    with torch.no_grad():
        loss = _siglip_loss(model, tokenizer, images, torch.tensor(meanings), captions).item()
        output = model(
            pixel_values=torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1,
            **tokenizer([captions[m] for m in meanings], padding="max_length", return_tensors="pt"),
        )
    logits = output.logits_per_image.tolist()
    total = 0.0
    for row, left in enumerate(meanings):
        for column, right in enumerate(meanings):
            sign = 1 if left == right else -1
            total += math.log1p(math.exp(-sign * logits[row][column]))
    assert loss == pytest.approx(total / 3, rel=1e-9)


def test_the_text_folder_loads_and_generates(folders, articles):
    model = AutoModelForCausalLM.from_pretrained(folders["text"]).eval()
    assert isinstance(model, Qwen2ForCausalLM)
    tokenizer = AutoTokenizer.from_pretrained(folders["text"], padding_side="left")
    assert model.config.vocab_size == len(tokenizer)
    prompts = [PLAIN_PROMPT.format(title=row["title"], body=row["article"]) for row in articles.select(range(2))]
    inputs = tokenizer(prompts, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[0] == 2


def test_training_moves_every_weight(tmp_path, folders, articles):
    def weights(folder: Path, kind: type) -> dict[str, torch.Tensor]:
        return kind.from_pretrained(folder).state_dict()

    shorter_siglip = train_siglip(tmp_path / "siglip", folders["tokenizer"], SiglipSettings(steps=1, batch_size=4))
    shorter_text = train_text_model(
        tmp_path / "text", folders["tokenizer"], articles, TextModelSettings(copy_steps=1, steps=0, batch_size=2)
    )
    for kind, folder, other in (
        (SiglipModel, folders["siglip"], shorter_siglip),
        (Qwen2ForCausalLM, folders["text"], shorter_text),
    ):
        before, after = weights(other, kind), weights(folder, kind)
        assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_copying_articles_hold_the_facts_of_the_text_only():
    article = {
        "title": "News from the red group",
        "article": "The red group met. It is a shop of Oslo and more. Nothing was said. They hired Anna.",
        "summary": ["The red group of Oslo hired Anna.", "The chart shows red rising over the year."],
        "facts": [
            {"kind": "group", "value": "red", "alternatives": ["blue"], "source": "text"},
            {"kind": "city", "value": "Oslo", "alternatives": ["Rome"], "source": "text"},
            {"kind": "person", "value": "Anna", "alternatives": ["Leo"], "source": "text"},
            {"kind": "trend", "value": "rising", "alternatives": ["falling"], "source": "image"},
        ],
    }
    assert _facts_only(article) == {
        "title": "News from the red group",
        "article": "It is a shop of Oslo and more. They hired Anna.",
        "summary": ["The red group of Oslo hired Anna."],
    }


def test_copying_articles_of_two_groups_hold_no_trend():
    (article,) = generate_articles(1, seed=0, split="train", difficulty="paired")
    shortened = _facts_only(article)
    assert shortened["summary"] == article["summary"][:1]
    assert shortened["title"] == article["title"]
    assert len(shortened["article"]) < len(article["article"])


def test_a_complete_folder_is_kept_and_other_settings_are_refused(folders, articles):
    files = {path: path.stat().st_mtime_ns for folder in folders.values() for path in folder.iterdir()}
    train_tokenizer(folders["tokenizer"], TokenizerSettings(articles=200))
    train_siglip(folders["siglip"], folders["tokenizer"], SIGLIP)
    train_text_model(folders["text"], folders["tokenizer"], articles, TEXT)
    assert {path: path.stat().st_mtime_ns for folder in folders.values() for path in folder.iterdir()} == files
    with pytest.raises(ValueError, match="remove it to train anew"):
        train_siglip(folders["siglip"], folders["tokenizer"], SiglipSettings(steps=3))


def test_an_interrupted_run_starts_anew(tmp_path):
    partial = tmp_path / "tokenizer.partial"
    partial.mkdir()
    (partial / "left_over.json").write_text("{}")
    folder = train_tokenizer(tmp_path / "tokenizer", TokenizerSettings(articles=20))
    assert not partial.exists()
    assert not (folder / "left_over.json").exists()
    assert AutoTokenizer.from_pretrained(folder)("The red group")["input_ids"]
