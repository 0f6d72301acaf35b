"""Captions in training: the batches that the collator makes, and what the losses and an evaluation read of them."""

import logging
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from PIL import Image

from modeling_spectra import SpectraSumProcessor
from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo import load_msmo
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.double_precision import double_precision
from tests.tiny import picture, tiny_processor
from tests.trainer.features.feature_setup import save_backbones, write_msmo
from tests.trainer.training_setup import write_settings
from trainer.building import build_trainer
from trainer.collator import SummarizationCollator
from trainer.data import check_articles, drop_oversized
from trainer.evaluation.sets import EvaluationCollator, evaluated_columns
from trainer.train import parse_arguments

pytestmark = pytest.mark.usefixtures("float64")
RECORD = {
    "id": "a",
    "title": "Ships",
    "article": "Two ships left the harbour.",
    "summary": ["Ships left."],
    "images": [picture(0), picture(1), picture(2), picture(3)],
    "captions": ["A storm.", "", "", "The harbour."],
    "alt_texts": ["Waves.", "A bridge.", "", ""],
}
LINES = "\n\nFigure 1: A storm.\nFigure 2: A bridge."


def broken():
    """An image that is left out when it is decoded."""
    return {"bytes": b"no image", "path": "broken.jpg"}


def prompt_of(processor, batch, row=0):
    labels, ids = batch["labels"][row], batch["input_ids"][row]
    return processor.tokenizer.decode(ids[batch["attention_mask"][row].bool() & (labels == -100)])


def test_the_collator_writes_captions_and_else_alternative_texts():
    processor = tiny_processor(captions="prompt")
    batch = SummarizationCollator(processor, 400)([RECORD])
    assert prompt_of(processor, batch) == f"Ships\n\n{RECORD['article']}{LINES}\n\nSummary:"
    assert "image_text_ids" not in batch and "image_texts" not in batch
    # Text alone: a line for every image that has a text.
    batch = SummarizationCollator(processor, 400, use_images=False)([RECORD])
    assert f"{LINES}\nFigure 4: The harbour.\n\nSummary:" in prompt_of(processor, batch)
    # A broken image is none: those behind it move up.
    images = [Image.new("RGB", (9, 9)), broken(), picture(2), picture(3)]
    batch = SummarizationCollator(processor, 400)([{**RECORD, "images": images}])
    assert "\n\nFigure 1: A storm.\nFigure 3: The harbour.\n\nSummary:" in prompt_of(processor, batch)


def test_without_the_option_batches_are_those_of_before():
    plain = {name: value for name, value in RECORD.items() if name not in ("captions", "alt_texts")}
    first, second = (SummarizationCollator(tiny_processor(), 400)([record]) for record in (RECORD, plain))
    assert set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first if isinstance(first[name], torch.Tensor))


def test_texts_for_predictor_and_teacher():
    processor = tiny_processor(image_text_length=8)
    images = [picture(0), picture(1), broken(), picture(3)]
    records = [{**RECORD, "images": images}, {**RECORD, "id": "b", "images": [], "captions": [], "alt_texts": []}]
    batch = SummarizationCollator(processor, 400, teacher_reads_texts=True)(records)
    assert batch["image_texts"] == [["A storm.", "A bridge.", "The harbour."], []]
    assert batch["image_text_ids"].shape[:2] == batch["image_mask"].shape == (2, 3)
    assert batch["image_text_mask"].any(-1).tolist() == [[True] * 3, [False] * 3]
    assert "Figure" not in prompt_of(processor, batch)


def test_what_lacks_captions_is_refused_at_once():
    plain = {name: value for name, value in RECORD.items() if name not in ("captions", "alt_texts")}
    for fields, reads in (({"captions": "prompt"}, False), ({"image_text_length": 8}, False), ({}, True)):
        collate = SummarizationCollator(tiny_processor(**fields), 400, teacher_reads_texts=reads)
        with pytest.raises(SpectraSumError, match="train_dataset: its articles lack captions"):
            check_articles([plain], "train_dataset", collate.columns)
        check_articles([RECORD], "train_dataset", collate.columns)
        assert ("captions" in evaluated_columns(collate, True, without_summaries=True)) != reads
    assert "captions" not in SummarizationCollator(tiny_processor(), 400).columns


def test_prompts_of_an_evaluation_have_the_same_lines():
    processor = tiny_processor(captions="prompt", image_text_length=8)
    collate = SummarizationCollator(processor, 400)
    images = [picture(0), broken(), picture(2), picture(3)]
    record = {**RECORD, "images": images}
    for use_images in (True, False):
        batch = EvaluationCollator(collate, processor, 400, use_images, with_prompts=True)([record])
        texts = ["A storm.", "", "The harbour."] if use_images else ["A storm.", "A bridge.", "", "The harbour."]
        pages = [images[0], *images[2:]] if use_images else None
        expected = processor(RECORD["article"], title="Ships", images=pages, captions=texts, max_length=400)
        assert set(batch["prompts"]) == set(expected)
        assert all(torch.equal(batch["prompts"][name], expected[name]) for name in expected)


def test_captions_leave_no_article_out():
    """Lines are cut, so that an article fits with captions where it fits without."""
    records = load_records_of_one()
    limit = next(n for n in range(1, 99) if tiny_processor().room_for_body("Ships", "Ships left.", n) == 1)
    processor = tiny_processor(captions="prompt")
    assert len(drop_oversized(records, processor, limit)["train"]) == 1
    batch = SummarizationCollator(processor, limit)([RECORD])
    assert batch["input_ids"].shape[1] == limit


def load_records_of_one():
    columns = {name: [RECORD[name]] for name in ("id", "title", "article", "summary", "captions")}
    return DatasetDict(train=Dataset.from_dict(columns))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("captions")
    write_msmo(root / "msmo")
    with double_precision():
        backbones = save_backbones(root)
    return root, backbones, load_msmo(root / "msmo", cache_dir=root / "cache")


@pytest.fixture
def make_trainer(tmp_path: Path, folders):
    root, backbones, records = folders
    config = write_settings(tmp_path / "config.yaml", dtype="auto", max_steps=3, per_device_train_batch_size=3)

    def make(*argv: str, records=records):
        common = ["--config", str(config), "--output_dir", str(tmp_path / "run"), "--dataset", str(root / "msmo")]
        common += ["--vision_backbone", backbones["siglip"]]
        common += [] if "--model_name_or_path" in argv else ["--text_backbone", backbones["text"]]
        return build_trainer(*parse_arguments([*common, *argv]), records)

    return make


def first_losses(trainer):
    trainer.train()
    entry = next(entry for entry in trainer.state.log_history if "loss_lm" in entry)
    return {name: entry[name] for name in ("loss_lm", "loss_distill", "loss_align")}


def test_each_argument_changes_its_own_loss(make_trainer):
    plain = first_losses(make_trainer())
    prompt = first_losses(make_trainer("--captions", "prompt"))
    assert prompt["loss_lm"] != plain["loss_lm"] and prompt["loss_distill"] == plain["loss_distill"]
    texts = first_losses(make_trainer("--vrp_image_texts", "true"))
    assert texts["loss_distill"] != plain["loss_distill"]
    teacher = first_losses(make_trainer("--teacher_text_scale", "0.5"))
    assert teacher["loss_lm"] == plain["loss_lm"] and teacher["loss_distill"] != plain["loss_distill"]
    # Captions that are not there change nothing.
    assert first_losses(make_trainer("--captions", "none")) == plain


def test_a_trained_model_is_saved_with_its_options_and_trained_on(make_trainer, tmp_path):
    argv = ("--captions", "prompt", "--vrp_image_texts", "true", "--gradient_checkpointing", "true")
    trainer = make_trainer(*argv)
    first = trainer.base_model.visual_path.relevance_predictor.up_proj.weight.detach().clone()
    trainer.train()
    # What belongs to the texts has learned, too.
    width = trainer.base_model.config.text_config.hidden_size
    moved = (trainer.base_model.visual_path.relevance_predictor.up_proj.weight - first).abs()
    assert moved[:, -2 * width :].max() > 0
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] > 0 and "eval_rougeL" in metrics
    trainer.save_model(str(tmp_path / "model"))
    processor = SpectraSumProcessor.from_pretrained(tmp_path / "model")
    assert (processor.captions, processor.image_text_length) == ("prompt", 128)
    again = make_trainer("--model_name_or_path", str(tmp_path / "model"), "--captions", "none")
    assert again.processing_class.captions == "none" and again.processing_class.image_text_length == 128
    assert again.evaluate()["eval_loss_lm"] != pytest.approx(metrics["eval_loss_lm"])
    again = make_trainer("--model_name_or_path", str(tmp_path / "model"))
    found = again.evaluate()
    for name in ("eval_loss_lm", "eval_loss_distill"):
        assert found[name] == pytest.approx(metrics[name])


def test_data_sets_of_before_have_no_alternative_texts(make_trainer, folders, tmp_path):
    old = folders[2].map(lambda row: {"captions": row["captions"]}, remove_columns=["alt_texts"])
    assert "alt_texts" not in old["train"].column_names
    assert first_losses(make_trainer(records=old)) == first_losses(make_trainer())
    assert first_losses(make_trainer("--captions", "prompt", records=old))["loss_lm"] > 0
    with pytest.raises(SpectraSumError, match="teacher_text_scale: the train articles have no captions"):
        argv = ("--teacher_text_scale", "0.5", "--cache", "embeddings", "--cache_dir", str(tmp_path / "cache"))
        make_trainer(*argv, records=old.remove_columns("captions"))


def test_the_closed_worlds_captions_are_warned_of(make_trainer, caplog):
    world = closed_world_dataset({"train": 4, "validation": 2, "test": 2}, seed=5)
    logging.getLogger("transformers").propagate = True
    with caplog.at_level(logging.WARNING):
        make_trainer("--dataset", "closed_world", records=world)
        assert "closed world's captions" not in caplog.text
        make_trainer("--dataset", "closed_world", "--captions", "prompt", records=world)
    assert "the closed world's captions say in words what its images show" in caplog.text
