"""Tiny dual encoders with the tokenizers of the published ones: SigLIP's own (sentencepiece), and Gemma's for SigLIP 2."""

import io
import json
from pathlib import Path

import sentencepiece
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    GemmaTokenizer,
    PreTrainedTokenizerBase,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2Processor,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
)

from tests.tiny import PATCH_SIZE, SENTENCES, SPREAD, VISION_WIDTH, tiny_image_processor, vision_config

TEXT_LENGTH = 64
# With capitals in many places: a tokenizer that tells them apart has tokens for them.
CORPUS = [*SENTENCES, *(sentence.upper() for sentence in SENTENCES), "The Blue Group and the blue group."] * 3


def siglip_tokenizer(folder: Path) -> SiglipTokenizer:
    """Like the published one: of canonical text, padded with its end token, no start token, and no attention mask."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentence.lower() for sentence in CORPUS),
        model_writer=model,
        vocab_size=120,
        hard_vocab_limit=False,
        pad_id=-1,
        bos_id=-1,
        eos_id=1,
        unk_id=2,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(model.getvalue())
    return SiglipTokenizer(str(folder / "spiece.model"), model_input_names=["input_ids"])


def gemma_tokenizer() -> GemmaTokenizer:
    """As the checkpoints of SigLIP 2 have it: byte-fallback BPE that tells capitals apart, and an end token."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    bpe.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=200, special_tokens=special, show_progress=False))
    trained = json.loads(bpe.to_str())["model"]
    tokenizer = GemmaTokenizer(trained["vocab"], [tuple(merge) for merge in trained["merges"]], padding_side="right")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", tokenizer.eos_token_id)]
    )
    return tokenizer


def save_siglip(folder: Path, tokenizer: PreTrainedTokenizerBase, model_type: str = "siglip") -> Path:
    """A dual encoder of type "siglip" or "siglip2" with random weights and a processor with this tokenizer."""
    torch.manual_seed(0)
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": VISION_WIDTH,
        "projection_size": VISION_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": TEXT_LENGTH,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = vision_config().to_dict()
    if model_type == "siglip":
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        processor = SiglipProcessor(tiny_image_processor(), tokenizer)
    else:
        vision = {name: value for name, value in vision.items() if name not in ("model_type", "image_size")}
        model = Siglip2Model(Siglip2Config(text_config=text, vision_config={**vision, "num_patches": 16}))
        processor = Siglip2Processor(Siglip2ImageProcessor(patch_size=PATCH_SIZE, max_num_patches=16), tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, SPREAD)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
