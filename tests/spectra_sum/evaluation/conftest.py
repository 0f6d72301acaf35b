"""A tiny model, a tiny dual encoder and a small closed world, built once a session."""

from pathlib import Path

import datasets
import pytest
import torch
from transformers import BertConfig, BertModel, SiglipProcessor

from spectra_sum.msmo.closed_world import closed_world_dataset
from tests import tiny


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose predictor selects at most 2 of the first 4 images."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    fields = {"max_candidate_images": 4, "max_selected_images": 2}
    tiny.tiny_model(gate=0.8, vrp_context="article", align_weight=0.0, distill_weight=0.5, **fields).save_pretrained(
        folder
    )
    tiny.tiny_processor(max_candidate_images=4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP that reads 16 text tokens."""
    folder = tiny.save_vision_folder(tmp_path_factory.mktemp("encoder"))
    tokenizer = tiny.tiny_tokenizer()
    tokenizer.model_max_length = 16
    SiglipProcessor(tiny.tiny_image_processor(), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def records() -> datasets.Dataset:
    """Seven articles of the closed world with 4 to 6 images; the fourth one has no gold images, the last no images."""
    rows = closed_world_dataset({"test": 7}, seed=5)["test"]
    bare = [{**rows[3], "gold_images": []}, *rows.select([4, 5]), {**rows[6], **dict.fromkeys(_IMAGES, [])}]
    return datasets.concatenate_datasets([rows.select(range(3)), datasets.Dataset.from_list(bare, rows.features)])


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text encoder for BERTScore whose tokenizer, as RoBERTa's, tells a line break from a space."""
    folder = tmp_path_factory.mktemp("encoder") / "bert"
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    # Weights of the usual spread make all cosines of a tiny model nearly 1.
    BertModel(BertConfig(vocab_size=tiny.VOCABULARY, **size, initializer_range=0.5)).save_pretrained(folder)
    tiny.tiny_tokenizer().save_pretrained(folder)
    return folder


_IMAGES = ("images", "captions", "alt_texts", "gold_images")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory, records: datasets.Dataset) -> Path:
    """The articles as the test split of a folder of `save_to_disk`."""
    folder = tmp_path_factory.mktemp("data") / "small"
    datasets.DatasetDict({"test": records}).save_to_disk(folder)
    return folder
