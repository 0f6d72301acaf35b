"""From an InstructBLIP checkpoint to SPeCTrA-Sum (§9): its tower, Q-Former, projection and language model, bit for bit."""

import re
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch
from transformers import (
    AutoConfig,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    PreTrainedModel,
)

from .backbones import check_complete, generation_settings, processed_side
from .configuration_spectra import DERIVED_FIELDS, SpectraSumConfig
from .llava_onevision import Source
from .processing_spectra import SpectraSumProcessor
from .tensor_files import check_taken, safetensors_files, tensors_of

Model = TypeVar("Model", bound=PreTrainedModel)

# Prefixes of the checkpoint's keys, in the layouts of transformers 4 and 5, and where SPeCTrA-Sum holds the tensors.
DESTINATIONS = (
    (r"(?:model\.)?vision_model\.", "vision_tower."),
    (r"(?:model\.)?(?=query_tokens$)", "visual_path.sampler."),
    (r"(?:model\.)?qformer\.", "visual_path.sampler.former."),
    (r"(?:model\.)?language_projection\.", "visual_path.latent_projection."),
    (r"(?:model\.)?(?=language_model\.)", ""),
)
# What the checkpoint decides.
OWN_FIELDS = {
    "fusion": "concat",
    "concat_tokens": "latents",
    "sampler_type": "qformer",
    "patch_position_embedding": False,
    "add_pooled_embedding": False,
}
SAMPLER_FIELDS = {"num_latents", "sampler_depth", "sampler_num_heads", "sampler_feed_forward_multiplier"}


@dataclass
class InstructBlipReport:
    """What became of each tensor of the checkpoint.

    Attributes:
        used (`dict[str, str]`): Key of the checkpoint → tensor of the model, equal to it bit for bit (after the cast to the
            model's dtype, where that is another).
        newly_initialized (`list[str]`): Tensors of the model that the checkpoint does not have.
    """

    used: dict[str, str] = field(default_factory=dict)
    newly_initialized: list[str] = field(default_factory=list)


def load_instructblip(
    model_class: type[Model], source: Source, *, dtype: torch.dtype | None = None, **config: Any
) -> tuple[Model, SpectraSumProcessor, InstructBlipReport]:
    """The work of [`SpectraSumForConditionalGeneration.from_instructblip`], which documents it."""
    checkpoint, revision = source
    prompt_template = config.pop("prompt_template", None)
    derived = DERIVED_FIELDS | SAMPLER_FIELDS | {"vision_feature_layer"}
    known = {entry.name for entry in fields(SpectraSumConfig)} - derived
    if unknown := sorted(set(config) - known):
        raise TypeError(f"{unknown} are no fields of SpectraSumConfig, or fields that come from the checkpoint.")
    if other := sorted(name for name, value in OWN_FIELDS.items() if config.get(name, value) != value):
        raise TypeError(
            f"{other} come from the checkpoint: leave them out, or set them to InstructBLIP's own, {OWN_FIELDS}."
        )
    theirs = AutoConfig.from_pretrained(checkpoint, revision=revision)
    _check_configuration(theirs, checkpoint)
    config = {
        **config,
        **OWN_FIELDS,
        "qformer_config": theirs.qformer_config,
        "qformer_text": True,
        "num_latents": theirs.num_query_tokens,
        "image_token_id": theirs.image_token_id,
    }
    # What cannot be built is refused before the weights are read.
    SpectraSumConfig(vision_config=theirs.vision_config, text_config=theirs.text_config, **config)
    parts = InstructBlipProcessor.from_pretrained(checkpoint, revision=revision)
    image_size = processed_side(parts.image_processor, checkpoint)
    tokenizer = parts.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    image_token = tokenizer.convert_ids_to_tokens(theirs.image_token_id)
    if image_token is None or theirs.image_token_id >= theirs.text_config.vocab_size:
        raise ValueError(
            f"{checkpoint} has its visual tokens at id {theirs.image_token_id} (image_token_index), which its tokenizer or its "
            "embedding table lacks; use the checkpoint's own tokenizer."
        )

    files = safetensors_files(*source)
    loaded, report = InstructBlipForConditionalGeneration.from_pretrained(
        checkpoint,
        config=theirs,
        revision=revision,
        dtype=dtype or "auto",
        use_safetensors=True,
        output_loading_info=True,
    )
    check_complete(report, checkpoint, "use a whole checkpoint.")
    dtype = dtype or loaded.dtype
    config["qformer_config"] = loaded.qformer.config
    spectra_config = SpectraSumConfig(
        vision_config=loaded.vision_model.config,
        text_config=loaded.language_model.config,
        image_size=image_size,
        **config,
    )
    model = model_class(spectra_config, vision_tower=loaded.vision_model, language_model=loaded.language_model)
    sampler = model.visual_path.sampler
    sampler.query_tokens, sampler.former = loaded.query_tokens, loaded.qformer
    model.visual_path.latent_projection = loaded.language_projection
    model.config.qformer_config = sampler.former.config
    model.cast_parameters(dtype)
    generation_config = generation_settings(loaded.generation_config, tokenizer)
    del loaded
    compared = _compare(model, checkpoint, files)

    model.generation_config = generation_config
    processor = SpectraSumProcessor(
        image_processor=parts.image_processor,
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
        prompt_template=prompt_template,
        image_token=image_token,
        images_before_start=True,
        qformer_tokenizer=parts.qformer_tokenizer,
        **spectra_config.processor_options(),
    )
    return model.eval(), processor, compared


def _check_configuration(config: InstructBlipConfig, checkpoint: str) -> None:
    """Raise a ValueError for what SPeCTrA-Sum cannot represent."""
    if config.model_type != "instructblip":
        raise ValueError(f"{checkpoint} is a {config.model_type!r} model, and no InstructBLIP.")
    if not config.use_decoder_only_language_model:
        raise ValueError(
            f"the language model of {checkpoint} is a {config.text_config.model_type!r}, which has an encoder of its own; use "
            "an InstructBLIP on a decoder, as those on Vicuna."
        )
    if config.image_token_id is None:
        raise ValueError(
            f"{checkpoint} names no image_token_index, so that visual tokens have no place in its prompts; use a checkpoint "
            "in the format of transformers 4.46 or later."
        )


def _compare(model: PreTrainedModel, checkpoint: str, files: list[str]) -> InstructBlipReport:
    """Compare every tensor of the files with the model's.

    Raises:
        ValueError: naming the tensor that differs, or that no file has.
    """
    report = InstructBlipReport()
    state = model.state_dict()
    for key, tensor in tensors_of(files):
        matches = ((re.match(pattern, key), prefix) for pattern, prefix in DESTINATIONS)
        name = next((prefix + key[match.end() :] for match, prefix in matches if match), key)
        check_taken(state, name, key, tensor, checkpoint)
        report.used[key] = name
    taken = set(report.used.values())
    if model.config.text_config.tie_word_embeddings:
        taken.add("language_model.lm_head.weight")
    report.newly_initialized = sorted(set(state) - taken)
    parts = tuple(prefix or "language_model." for _, prefix in DESTINATIONS)
    if lacking := [name for name in report.newly_initialized if name.startswith(parts)]:
        raise ValueError(f"{checkpoint} lacks {lacking[0]}; use a whole checkpoint.")
    return report


__all__ = ["InstructBlipReport", "load_instructblip"]
