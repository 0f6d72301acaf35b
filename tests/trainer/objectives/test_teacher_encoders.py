"""The teacher on the dual encoders that are published: SigLIP with its own tokenizer, and SigLIP 2 with Gemma's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import SiglipModel, SiglipProcessor, SiglipTokenizer

from spectra_sum.metrics.dual_encoder import DualEncoder
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.spectra_sum.selection.dpp_enumeration import enumerate_marginals, likelihood_kernel
from tests.tiny import picture, save_text_folder, save_vision_folder, tiny_config, tiny_tokenizer
from tests.tiny_encoders import gemma_tokenizer, save_siglip, siglip_tokenizer
from tests.trainer.training_setup import write_settings
from trainer.building import build_teacher, build_trainer
from trainer.features.key import describe_teacher
from trainer.train import parse_arguments

SUMMARY = ["The Harbour reopened, on Monday!", "Two bridges were closed."]
CPU = torch.device("cpu")
# What labels depended on before there was a rule for the case of texts.
OLD_KEY = {"weights", "config", "tokenizer", "long_summary", "kappa", "sigma", "beta", "epsilon"}


@pytest.fixture(scope="module")
def siglip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("siglip")
    return save_siglip(folder / "model", siglip_tokenizer(folder))


@pytest.fixture(scope="module")
def siglip2(tmp_path_factory) -> Path:
    return save_siglip(tmp_path_factory.mktemp("siglip2"), gemma_tokenizer())


def test_labels_on_siglip_are_those_of_its_own_classes(siglip):
    config = tiny_config(teacher_beta=20.0, teacher_sigma=0.8, teacher_kappa=2.0)
    teacher = build_teacher(str(siglip), config, CPU)
    processor, images = SiglipProcessor.from_pretrained(siglip), [picture(seed) for seed in range(4)]
    assert isinstance(processor.tokenizer, SiglipTokenizer)
    inputs = processor(text=SUMMARY, images=images, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        outputs = SiglipModel.from_pretrained(siglip).eval()(**inputs)
    mask = torch.ones(1, 4, dtype=torch.bool)
    labels = teacher.label(outputs.image_embeds[None], mask, [SUMMARY])
    torch.testing.assert_close(labels.sentence_embeds[0], outputs.text_embeds, rtol=1e-5, atol=1e-6)
    assert teacher.truncated_texts == 0
    # The process of the paper over these embeddings, by enumeration of all sets; 1e-6 of a cosine is magnified by beta.
    vectors, texts = outputs.image_embeds.double().numpy(), outputs.text_embeds.double().numpy()
    kernel = likelihood_kernel(vectors, (vectors @ texts.T).max(1), 20.0, 0.8, config.teacher_epsilon)
    np.testing.assert_allclose(labels.marginals[0].numpy(), enumerate_marginals(kernel, 2), atol=1e-4)


def test_a_training_has_siglip_as_its_teacher(siglip, tmp_path):
    save_text_folder(tmp_path / "text")
    config = write_settings(tmp_path / "config.yaml", max_steps=1, predict_with_generate=False)
    arguments = ["--config", str(config), "--output_dir", str(tmp_path / "run"), "--vision_backbone", str(siglip)]
    records = closed_world_dataset({"train": 4, "validation": 2, "test": 2}, seed=5)
    trainer = build_trainer(*parse_arguments([*arguments, "--text_backbone", str(tmp_path / "text")]), records)
    assert isinstance(trainer.teacher.text_reader.tokenizer, SiglipTokenizer)
    trainer.train()
    (entry,) = [entry for entry in trainer.state.log_history if "loss_distill" in entry]
    assert entry["loss_distill"] > 0 and entry["loss_align"] > 0 and 0 < entry["teacher_spread"] <= 1


def test_teacher_and_metric_read_siglip2_in_lower_case(siglip2):
    teacher = build_teacher(str(siglip2), tiny_config(), CPU)
    cased, mask = teacher.embed_summaries([["The Blue Group", "Two Bridges"]])
    lower, _ = teacher.embed_summaries([["the blue group", "two bridges"]])
    assert torch.equal(cased, lower) and mask.all()
    assert (cased[0, 0] - cased[0, 1]).abs().max() > 0.002
    of_metric = DualEncoder(str(siglip2)).embed_texts(["The Blue Group", "two bridges"])
    np.testing.assert_allclose(cased[0].numpy(), of_metric, atol=1e-6)


def test_the_key_of_labels_has_the_rule_where_it_changes_texts(siglip, siglip2, tmp_path):
    config = tiny_config()
    tiny_tokenizer().save_pretrained(save_vision_folder(tmp_path / "other"))
    tiny_tokenizer().save_pretrained(save_vision_folder(tmp_path / "clip", "clip"))
    described = describe_teacher(str(siglip2), config)
    assert set(described) == OLD_KEY | {"lower_case"} and described["lower_case"] is True
    for folder in (siglip, tmp_path / "other", tmp_path / "clip"):
        assert set(describe_teacher(str(folder), config)) == OLD_KEY
