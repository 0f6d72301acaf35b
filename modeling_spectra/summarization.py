"""From articles to summaries with a model: prompts that fit, the generated texts, and what each sentence attended to."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import (
    BatchFeature,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from .generated_tokens import repetition_rules
from .processing_spectra import SpectraSumProcessor
from .prompt_options import MAX_LENGTH
from .sentences import sentence_spans


class GeneratedSummary(NamedTuple):
    """A summary as it was generated: its text, its tokens (T,) without the end token, and whether it had one."""

    text: str
    tokens: torch.Tensor
    ended: bool


class ReadTokens(NamedTuple):
    """Text tokens of an article's prompt, visual placeholders not counted: all, and the last ones, which were cut; and how
    many caption lines were cut, which goes before the body is."""

    whole: int
    cut: int
    cut_captions: int = 0


def end_token_ids(generation_config: GenerationConfig, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a summary: the tokenizer's end token, and whatever else the language model stops at."""
    ends = generation_config.eos_token_id
    return sorted({tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None})


def text_length_limit(
    model: PreTrainedModel,
    processor: SpectraSumProcessor,
    num_images: int,
    max_new_tokens: int,
    max_length: int = MAX_LENGTH,
) -> int:
    """Text tokens of a prompt (§8: `max_length`) that leave the model's positions for the images and the summary."""
    placeholders = min(num_images, processor.max_images) * processor.num_image_tokens
    return min(max_length, model.config.text_config.max_position_embeddings - max_new_tokens - placeholders)


def prepare_articles(
    model: PreTrainedModel,
    processor: SpectraSumProcessor,
    text: Sequence[str],
    title: Sequence[str],
    images: Sequence[Sequence[Any]],
    max_new_tokens: int,
    max_length: int = MAX_LENGTH,
    captions: Sequence[Sequence[str]] | None = None,
) -> tuple[BatchFeature, list[ReadTokens]]:
    """The inputs of a batch of B articles on the model's device, each cut to its own [`text_length_limit`].

    Among them are the images' features: summaries, selection and evidence of the same articles run no tower again.

    Args:
        captions (`list[list[str]]`, *optional*): As [`SpectraSumProcessor.__call__`] takes them.

    Raises:
        ValueError: what the processor raises: the limit leaves no room for a body, or an image cannot be read.
    """
    limits = [text_length_limit(model, processor, len(row), max_new_tokens, max_length) for row in images]
    inputs = processor(text=text, title=title, images=images, captions=captions, max_length=limits)
    read = []
    for index, size in enumerate(inputs["attention_mask"].sum(dim=1).tolist()):
        placeholders = min(len(images[index]), processor.max_images) * processor.num_image_tokens
        article = text[index], title[index], len(images[index]), (captions[index] or ()) if captions else ()
        whole = processor.num_text_tokens(*article)
        lines = processor.num_caption_lines(*article), processor.num_caption_lines(*article, limits[index])
        read.append(ReadTokens(whole, whole + placeholders - size, lines[0] - lines[1]))
    return with_image_features(model, inputs.to(model.device)), read


def with_image_features(model: PreTrainedModel, inputs: BatchFeature) -> BatchFeature:
    """The processor's inputs with what `model.image_features` makes of their images, if there are any."""
    if "pixel_values" not in inputs:
        return inputs
    features = model.image_features(inputs["pixel_values"], inputs["image_mask"])
    return BatchFeature({**inputs, **features})


@torch.no_grad()
def generate_summaries(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    inputs: BatchFeature,
    max_new_tokens: int = 128,
    num_beams: int = 1,
    *,
    do_sample: bool = False,
    temperature: float | None = None,
    top_p: float | None = None,
    repetition_penalty: float | None = None,
    no_repeat_ngram_size: int | None = None,
    streamer: BaseStreamer | None = None,
    stopping_criteria: StoppingCriteriaList | None = None,
) -> list[GeneratedSummary]:
    """The summaries of a batch of articles. What is `None` is as the model's `generation_config` says.

    Args:
        inputs (`BatchFeature`): Of [`prepare_articles`].
        max_new_tokens (`int`, *optional*, defaults to `128`): Most tokens of a summary.
        num_beams (`int`, *optional*, defaults to `1`): Beams of the search; 1 is greedy.
        do_sample (`bool`, *optional*, defaults to `False`): Sample, from all tokens unless `top_p` says otherwise.
        temperature, top_p (`float`, *optional*): Of sampling.
        repetition_penalty (`float`, *optional*), no_repeat_ngram_size (`int`, *optional*): As in transformers, but of the
            generated tokens alone, see [`repetition_rules`].
        streamer (`BaseStreamer`, *optional*): Is put the prompts (B, P), and then the tokens (B,) of each step, those behind
            a row's end among them.
        stopping_criteria (`StoppingCriteriaList`, *optional*): Further reasons for a row to end; it then has no end token.

    Raises:
        ValueError: for a streamer and beams: which of them is the summary is known when the search has ended.
    """
    if streamer is not None and num_beams > 1:
        raise ValueError(
            f"a streamer needs num_beams 1, not {num_beams}: no beam is the summary before the search ends."
        )
    ends = end_token_ids(model.generation_config, tokenizer)
    options: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "top_k": 0 if do_sample else None}
    # Given here, a rule takes the place of the model's own, which would count the prompt.
    options["repetition_penalty"] = None if repetition_penalty is None else 1.0
    options["no_repeat_ngram_size"] = None if no_repeat_ngram_size is None else 0
    prompt_length = inputs["input_ids"].shape[1]
    sequences = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=do_sample,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
        logits_processor=repetition_rules(prompt_length, repetition_penalty, no_repeat_ngram_size),
        streamer=streamer,
        stopping_criteria=stopping_criteria,
        **{name: value for name, value in options.items() if value is not None},
    )
    summaries = []
    for tokens in sequences[:, prompt_length:]:
        end = next((index for index, token in enumerate(tokens.tolist()) if token in ends), None)
        summaries.append(GeneratedSummary(_decode(tokenizer, tokens[:end]), tokens[:end], end is not None))
    return summaries


@torch.no_grad()
def sentence_evidence(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    inputs: BatchFeature,
    summary: GeneratedSummary,
    num_images: int,
) -> list[tuple[str, list[float | None]]]:
    """The gated cross-attention of each sentence's tokens, by image.

    Averaged over tokens, heads and gates; a gate counts by its opening, since what a closed one attends to has no
    effect on the summary.

    Args:
        inputs (`BatchFeature`): Of one article (B = 1), as it was summarized.
        summary (`GeneratedSummary`): What was generated from them.
        num_images (`int`): Images of the article; those beyond the model's limits too.

    Returns:
        Per sentence its text and the weight of each image, `None` for the images that the summarizer did not see. An
        empty list for an article without images or summary, and for a model without gates or whose gates are closed.
    """
    openings = torch.tensor(list(model.gate_openings().values()), device=model.device)
    if (
        "pixel_values" not in inputs
        or not inputs["image_mask"].any()
        or not summary.text.strip()
        or not openings.any()
    ):
        return []
    weights, seen = _image_attention(model, inputs, summary.tokens, openings / openings.sum())
    ends = [len(_decode(tokenizer, summary.tokens[: index + 1])) for index in range(len(summary.tokens))]
    # A token belongs to each sentence that it has a character of; one that only completes a character (a byte of it)
    # belongs where that character is.
    spans = [(min(start, end - 1), end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    evidence = []
    for first, last in sentence_spans(summary.text):
        own = [token for token, (start, end) in enumerate(spans) if start < last and first < end]
        image_weights: list[float | None] = [None] * num_images
        for index, weight in zip(seen, weights[own].mean(dim=0).tolist(), strict=True):
            if index >= 0:
                image_weights[index] = weight
        evidence.append((summary.text[first:last], image_weights))
    return evidence


def _image_attention(
    model: PreTrainedModel, inputs: BatchFeature, tokens: torch.Tensor, gate_weights: torch.Tensor
) -> tuple[torch.Tensor, list[int]]:
    """Attention (T, N') of the summary's tokens on the images, and which images these are (−1 for none)."""
    prompt = model(**inputs, use_cache=True, logits_to_keep=1)
    implementations = model.attn_implementations()
    # Only eager attention gives its weights; with the prompt in the cache they cover the summary's tokens alone.
    model.set_attn_implementation("eager")
    try:
        outputs = model(
            input_ids=tokens[None],
            attention_mask=torch.cat([inputs["attention_mask"], torch.ones_like(tokens)[None]], dim=1),
            past_key_values=prompt.past_key_values,
            visual_key_values=prompt.visual_key_values,
            output_attentions=True,
            logits_to_keep=1,
        )
    finally:
        model.set_attn_implementation(implementations)
    heads_mean = torch.stack([gate[0].float().mean(dim=0) for gate in outputs.cross_attentions])
    weights = torch.einsum("g,gts->ts", gate_weights, heads_mean)
    seen = prompt.summarizer_images[0].tolist()
    return weights.unflatten(1, (len(seen), -1)).sum(dim=2), seen


def _decode(tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor) -> str:
    # One call for the text and for its prefixes, whose lengths are then offsets into it.
    return tokenizer.decode(tokens, skip_special_tokens=True)


__all__ = [
    "MAX_LENGTH",
    "GeneratedSummary",
    "ReadTokens",
    "end_token_ids",
    "generate_summaries",
    "prepare_articles",
    "sentence_evidence",
    "text_length_limit",
    "with_image_features",
]
