"""From a LLaVA-OneVision checkpoint and a full SigLIP to SPeCTrA-Sum.

LLaVA-OneVision reads its patches from a SigLIP tower that has lost its last layers and its pooling head and was trained
further; the relevance predictor and the alignment loss need the pooled embeddings of the original.
"""

from dataclasses import fields
from typing import Any, NamedTuple, TypeVar

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    SiglipImageProcessorPil,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import is_torchvision_available, logging

from .backbones import generation_settings, load_vision_tower
from .configuration_spectra import DERIVED_FIELDS, SpectraSumConfig
from .llava_onevision_weights import (
    LlavaOnevisionReport,
    compare_towers,
    compare_with_files,
    lacking_keys,
)
from .processing_spectra import SpectraSumProcessor
from .tensor_files import safetensors_files

logger = logging.get_logger(__name__)

Model = TypeVar("Model", bound=PreTrainedModel)

PIXEL_SETTINGS = ("size", "do_resize", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
LLAVA_ONEVISION_FIELDS = DERIVED_FIELDS | {"vision_feature_layer", "projector_hidden_act"}


class Source(NamedTuple):
    """Where a checkpoint lies: folder or Hub id, and which revision of it."""

    name: str
    revision: str = "main"


def load_llava_onevision(
    model_class: type[Model],
    llava_source: Source,
    embedding_source: Source | None,
    *,
    dtype: torch.dtype | None = None,
    **config: Any,
) -> tuple[Model, SpectraSumProcessor, LlavaOnevisionReport]:
    """The work of [`SpectraSumForConditionalGeneration.from_llava_onevision`], which documents it."""
    checkpoint, revision = llava_source
    concat = config.get("fusion") == "concat"
    if embedding_source is None and not concat:
        raise ValueError(
            f'{checkpoint}\'s tower gives no image embeddings, which all but fusion="concat" need: pass as embedding_vision '
            "the SigLIP that it was made from."
        )
    prompt_template = config.pop("prompt_template", None)
    known = {entry.name for entry in fields(SpectraSumConfig)} - LLAVA_ONEVISION_FIELDS
    if unknown := sorted(set(config) - known):
        raise TypeError(f"{unknown} are no fields of SpectraSumConfig, or fields that come from the checkpoints.")
    llava_config = AutoConfig.from_pretrained(checkpoint, revision=revision)
    _check_configuration(llava_config, checkpoint)
    if embedding_source is None:
        # Whatever follows the patches is read by nobody.
        embedding_config = llava_config.vision_config
        embedding_config.vision_use_head = False
    else:
        embedding_config = AutoConfig.from_pretrained(embedding_source.name, revision=embedding_source.revision)
        embedding_config = getattr(embedding_config, "vision_config", embedding_config)
        _check_embedding_tower(embedding_config, llava_config.vision_config, embedding_source.name, checkpoint)
    # What cannot be built is refused before the weights are read; which towers are held is not known yet.
    SpectraSumConfig(vision_config=embedding_config, text_config=llava_config.text_config, **config)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, revision=revision)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    image_processor = _image_processor(llava_source, embedding_source, llava_config.vision_config.image_size)
    image_token = _image_token(llava_config, tokenizer, checkpoint) if concat else None

    files = {source.name: safetensors_files(*source) for source in (llava_source, embedding_source) if source}
    llava, loading = LlavaOnevisionForConditionalGeneration.from_pretrained(
        checkpoint,
        config=llava_config,
        revision=revision,
        dtype=dtype or "auto",
        use_safetensors=True,
        output_loading_info=True,
    )
    dtype = dtype or llava.dtype
    layers_read = _layers_read(llava_config)
    lacking = lacking_keys(loading["missing_keys"], concat, layers_read)
    if lacking:
        raise ValueError(
            f"{checkpoint} lacks {len(lacking)} tensors, the first is {lacking[0]}; use a whole checkpoint."
        )

    report = LlavaOnevisionReport()
    own, full = llava.model.vision_tower, None
    if embedding_source is not None:
        full = load_vision_tower(embedding_source.name, dtype, embedding_source.revision)
        compare_towers(own, full, layers_read, report)
    if full is None:
        towers, tower_fields = {"vision_tower": own}, {"vision_config": own.config}
        tower_fields["vision_feature_layer"] = llava_config.vision_feature_layer
    elif report.one_tower:
        # Counted from the end, as in LLaVA: the full tower has more layers after the one that is read.
        layer = layers_read - full.config.num_hidden_layers - 1
        towers, tower_fields = {"vision_tower": full}, {"vision_config": full.config, "vision_feature_layer": layer}
    else:
        towers = {"vision_tower": own, "embedding_tower": full}
        tower_fields = {"vision_config": own.config, "embedding_vision_config": full.config}
        tower_fields["vision_feature_layer"] = llava_config.vision_feature_layer
    report.additional_parameters = sum(map(_number, towers.values())) - _number(own)

    language_model = _causal_language_model(llava)
    spectra_config = SpectraSumConfig(
        text_config=language_model.config,
        image_token_id=llava_config.image_token_id if concat else None,
        projector_hidden_act=llava_config.projector_hidden_act,
        **tower_fields,
        **config,
    )
    model = model_class(spectra_config, language_model=language_model, **towers)
    if concat:
        projector, taken = model.visual_path.projector, llava.model.multi_modal_projector
        projector.linear_1, projector.linear_2 = taken.linear_1, taken.linear_2
        projector.image_newline = llava.model.image_newline
    model.cast_parameters(dtype)
    generation_config = generation_settings(llava.generation_config, tokenizer)
    del llava, own, full, towers, language_model
    compare_with_files(model, files, concat, layers_read, report)
    logger.info(report.summary())

    model.generation_config = generation_config
    processor = SpectraSumProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        chat_template=_chat_template(llava_source) or tokenizer.chat_template,
        prompt_template=prompt_template,
        image_token=image_token or SpectraSumProcessor.default_image_token,
        **spectra_config.processor_options(),
        pad_to_square=True,
        images_first=concat,
    )
    return model.eval(), processor, report


def _number(tower: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in tower.parameters())


def _check_configuration(config: LlavaOnevisionConfig, checkpoint: str) -> None:
    """Raise a ValueError for what SPeCTrA-Sum cannot represent."""
    if config.model_type != "llava_onevision":
        raise ValueError(f"{checkpoint} is a {config.model_type!r} model, and no LLaVA-OneVision.")
    if config.vision_config.model_type != "siglip_vision_model":
        raise ValueError(
            f"the tower of {checkpoint} is a {config.vision_config.model_type!r}; only SigLIP (siglip_vision_model) is "
            "supported."
        )
    if not isinstance(config.vision_feature_layer, int):
        raise ValueError(
            f"{checkpoint} reads its patches from several layers (vision_feature_layer {config.vision_feature_layer}); "
            "only one is supported."
        )
    if config.vision_feature_select_strategy != "full":
        raise ValueError(
            f"{checkpoint} drops a patch (vision_feature_select_strategy {config.vision_feature_select_strategy!r}); "
            "only 'full' is supported."
        )
    if not config.multimodal_projector_bias:
        raise ValueError(f"the projector of {checkpoint} has no biases (multimodal_projector_bias), which ours has.")


def _check_embedding_tower(
    embedding: PreTrainedConfig, own: PreTrainedConfig, embedding_vision: str, checkpoint: str
) -> None:
    """Raise a ValueError for a tower that cannot stand beside the checkpoint's."""
    for name in ("image_size", "patch_size"):
        values = getattr(embedding, name, None), getattr(own, name)
        if values[0] != values[1]:
            raise ValueError(
                f"{embedding_vision} has {name} {values[0]} and the tower of {checkpoint} {values[1]}; pass the SigLIP "
                "that LLaVA-OneVision was made from."
            )
    if not getattr(embedding, "vision_use_head", True):
        raise ValueError(
            f"{embedding_vision} has vision_use_head=False; image embeddings come from SigLIP's pooling head: pass a "
            "checkpoint that has it."
        )


def _layers_read(config: LlavaOnevisionConfig) -> int:
    """Number of encoder layers in front of the hidden state that LLaVA-OneVision reads."""
    layer, depth = config.vision_feature_layer, config.vision_config.num_hidden_layers
    return layer if layer >= 0 else depth + 1 + layer


def _image_processor(llava_source: Source, embedding_source: Source | None, image_size: int) -> BaseImageProcessor:
    """SigLIP's image processor, with LLaVA-OneVision's interpolation.

    Of an image of up to 1024 pixels a side ([`flat_rgb`] reduces larger ones) it makes LLaVA-OneVision's own pixels.

    Raises:
        ValueError: when the two make different pixels of the same square image.
    """
    checkpoint = llava_source.name
    own = AutoImageProcessor.from_pretrained(checkpoint, revision=llava_source.revision)
    if embedding_source is None:
        processor = _siglip_class()(**{name: _plain(getattr(own, name)) for name in PIXEL_SETTINGS})
    else:
        processor = AutoImageProcessor.from_pretrained(embedding_source.name, revision=embedding_source.revision)
        for name in PIXEL_SETTINGS:
            values = [_plain(getattr(each, name)) for each in (own, processor)]
            if values[0] != values[1]:
                raise ValueError(
                    f"the image processors of {checkpoint} and {embedding_source.name} differ in {name}: {values[0]} and "
                    f"{values[1]}; both towers read the same pixels: pass the SigLIP that LLaVA-OneVision was made from."
                )
    if _plain(own.size) != {"height": image_size, "width": image_size}:
        raise ValueError(
            f"the image processor of {checkpoint} makes images of {_plain(own.size)}, but its tower reads {image_size} "
            "pixels; repair the checkpoint's preprocessor_config.json."
        )
    processor.resample = own.resample
    return processor


def _siglip_class() -> type[BaseImageProcessor]:
    """SigLIP's image processor with the backend that `AutoImageProcessor` chooses here."""
    if is_torchvision_available():
        from transformers import SiglipImageProcessor

        return SiglipImageProcessor
    return SiglipImageProcessorPil


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return list(value)
    return {name: size for name, size in dict(value).items() if size is not None} if hasattr(value, "keys") else value


def _image_token(config: LlavaOnevisionConfig, tokenizer: Any, checkpoint: str) -> str:
    """The placeholder that LLaVA-OneVision itself puts its visual tokens in the place of."""
    index = config.image_token_id
    token = tokenizer.convert_ids_to_tokens(index) if index < len(tokenizer) else None
    if token is None or index >= config.text_config.vocab_size:
        raise ValueError(
            f"{checkpoint} has its visual tokens at id {index} (image_token_index), which its tokenizer or its embedding "
            "table lacks; use the checkpoint's own tokenizer."
        )
    return token


def _chat_template(source: Source) -> str | None:
    """The processor's template; it may differ from the tokenizer's, which comes from the language model."""
    template = ProcessorMixin.get_processor_dict(source.name, revision=source.revision)[0].get("chat_template")
    return template["default"] if isinstance(template, dict) else template


def _causal_language_model(llava: LlavaOnevisionForConditionalGeneration) -> PreTrainedModel:
    """LLaVA-OneVision's decoder and output head as a causal language model, without a copy of a tensor."""
    decoder, head = llava.model.language_model, llava.lm_head
    config = decoder.config
    # The checkpoint's outer configuration decides, and some say it in the outer one alone.
    config.tie_word_embeddings = head.weight is decoder.get_input_embeddings().weight
    with torch.device("meta"):
        language_model = AutoModelForCausalLM.from_config(config)
    setattr(language_model, language_model.base_model_prefix, decoder)
    language_model.set_output_embeddings(head)
    language_model.config = config
    return language_model


__all__ = ["Source", "load_llava_onevision"]
