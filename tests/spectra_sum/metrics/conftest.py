"""Tiny text encoders for BERTScore, built once a session."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat ran dog one two , . blue".split()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    """Folder of a BERT of 3 layers and 12 positions, whose tokenizer states no longest input."""
    folder = tmp_path_factory.mktemp("encoder") / "tiny-bert"
    BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        # Weights of the usual spread make all cosines of a tiny model nearly 1.
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return folder
