"""A tiny InstructBLIP folder, saved by transformers: tower, Q-Former, a Llama, and both tokenizers."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    BertTokenizer,
    BlipImageProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    PreTrainedTokenizerFast,
)

from tests.tiny import IMAGE_SIZE, PATCH_SIZE, SENTENCES, SPREAD, VISION_WIDTH, text_config, tiny_tokenizer

NUM_QUERIES, QFORMER_WIDTH = 3, 20


def qformer_tokenizer() -> PreTrainedTokenizerFast:
    """Words and pieces of words, in lower case, between [CLS] and [SEP], as the Q-Former's BERT vocabulary."""
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces.train_from_iterator(
        SENTENCES, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    )
    return BertTokenizer(
        vocab=pieces.get_vocab(with_added_tokens=False) | {token: i for i, token in enumerate(special)}
    )


def save_instructblip_folder(folder: Path, *, dtype: torch.dtype = torch.float32, seed: int = 4, **fields) -> Path:
    """An InstructBLIP of two tower layers and three Q-Former layers, which read its patches and 40 tokens of text at most.

    Args:
        fields: Of `InstructBlipConfig`.
    """
    torch.manual_seed(seed)
    tokenizer, query = tiny_tokenizer(), qformer_tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.convert_tokens_to_ids("<|im_start|>"))]
    )
    processor = InstructBlipProcessor(
        BlipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}), tokenizer, query, NUM_QUERIES
    )
    config = InstructBlipConfig(
        **{
            "vision_config": InstructBlipVisionConfig(
                hidden_size=VISION_WIDTH,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=IMAGE_SIZE,
                patch_size=PATCH_SIZE,
                initializer_range=SPREAD,
            ),
            "qformer_config": InstructBlipQFormerConfig(
                vocab_size=len(query),
                hidden_size=QFORMER_WIDTH,
                num_hidden_layers=3,
                num_attention_heads=2,
                intermediate_size=28,
                max_position_embeddings=40,
                initializer_range=SPREAD,
            ),
            "text_config": text_config("llama", bos_token_id=tokenizer.bos_token_id),
            "num_query_tokens": NUM_QUERIES,
            "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
            **fields,
        }
    )
    model = InstructBlipForConditionalGeneration(config)
    for parameter in (model.query_tokens, *model.language_projection.parameters()):
        nn.init.normal_(parameter, std=SPREAD)
    model.to(dtype).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
