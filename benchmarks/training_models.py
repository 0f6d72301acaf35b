"""What the training benchmark trains: a DVP model with random weights, its teacher, and articles with and without a cache."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.profiler import record_function
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel

from benchmarks.overhead_models import SEED, SIZES, Row, Size, build_model, make_article, make_rows
from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration
from trainer.objectives.dpp_teacher import DPPTeacher, TeacherLabels

# MSMO has nine images per article on average, and reference summaries of a few sentences.
CANDIDATES = 9
SENTENCES = 4
WORDS_PER_SENTENCE = 20
CACHES = ("none", "embeddings", "patches")
# (align_weight, distill_weight)
LOSSES = {"LM": (0.0, 0.0), "three": (0.1, 1.0)}
WORDS = [f"word{index}" for index in range(200)]


class RecordedTeacher(DPPTeacher):
    """A teacher whose time a profile shows under its name; `span` is what makes a named range."""

    span: Callable[[str], AbstractContextManager] = staticmethod(record_function)

    def label(self, *args: Any, **kwargs: Any) -> TeacherLabels:
        with self.span("teacher"):
            return super().label(*args, **kwargs)


def training_size(name: str, images: int | None = None, text_tokens: int | None = None) -> Size:
    """A size of the overhead benchmark with the candidates of a training article."""
    size = SIZES[name]
    return replace(size, images=images or CANDIDATES, text_tokens=text_tokens or size.text_tokens)


def build_student(
    size: Size, device: torch.device, dtype: torch.dtype, one_tower: bool
) -> SpectraSumForConditionalGeneration:
    """The model of the row MM-DVP with dropout off, so that equal batches give equal losses."""
    (row,) = [row for row in make_rows(size) if row.name == "MM-DVP"]
    row = Row(row.name, row.fields | {"vrp_dropout": 0.0})
    return build_model(row, size, device, dtype, "sdpa", one_tower)


def build_teacher(size: Size, config: SpectraSumConfig, device: torch.device) -> RecordedTeacher:
    """A dual encoder of the tower's width with SigLIP's text tower: 64 tokens, as deep as the image tower, float32."""
    tower = {name: value for name, value in size.tower.items() if name not in ("image_size", "patch_size")}
    layers = {"num_hidden_layers": size.tower_layers + 1}
    text = tower | layers | {"vocab_size": 32000, "max_position_embeddings": 64}
    text |= {"projection_size": size.tower["hidden_size"], "pad_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(SEED)
    with device:
        dual_encoder = SiglipModel(SiglipConfig(text_config=text, vision_config=dict(size.tower) | layers))
    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    return RecordedTeacher(
        dual_encoder,
        tokenizer,
        beta=config.teacher_beta,
        sigma=config.teacher_sigma,
        kappa=config.teacher_kappa,
        epsilon=config.teacher_epsilon,
        long_summary=config.teacher_long_summary,
    )


@torch.no_grad()
def make_batches(
    size: Size,
    model: SpectraSumForConditionalGeneration,
    teacher: DPPTeacher,
    sample: int,
    summary_tokens: int,
    device: torch.device,
) -> dict[str, dict[str, Any]]:
    """One article as the collator gives it to a training with each kind of cache, on the device."""
    article = make_article(size, sample)
    ids = article["text"].to(device)
    labels = ids.clone()
    labels[:, :-summary_tokens] = -100
    generator = torch.Generator().manual_seed(SEED + sample)
    picked = torch.randint(len(WORDS), (SENTENCES, WORDS_PER_SENTENCE), generator=generator).tolist()
    sentences = [[" ".join(WORDS[index] for index in row) for row in picked]]
    mask = torch.ones(1, size.images, dtype=torch.bool, device=device)
    common = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "article_mask": labels == -100,
        "labels": labels,
        "image_mask": mask,
        "summary_sentences": sentences,
        "negative_keys": torch.tensor([sample], device=device),
        "article_ids": [f"sample {sample}"],
    }
    pixels = {"pixel_values": article["pixel_values"].to(device, model.dtype)}
    patches, embeds = model.embed_images(pixels["pixel_values"], mask)
    known = {"image_embeds": embeds, **teacher.label(embeds, mask, sentences)._asdict()}
    return {
        "none": common | pixels,
        "embeddings": common | pixels | known,
        "patches": common | known | {"patches": patches},
    }


def feature_bytes(batch: Mapping[str, Any]) -> int:
    """What a cache holds of the article of a batch."""
    names = ("image_embeds", "patches", *TeacherLabels._fields[:2])
    return sum(batch[name].nbytes for name in names if name in batch)
