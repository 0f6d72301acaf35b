"""Any causal language model as a summarizer of texts: it reads an article's text and captions, and sees no images."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration, SpectraSumProcessor
from modeling_spectra.backbones import check_complete, generation_settings

from .kinds import CAUSAL, check_gguf
from .loaded import DAMAGED_SETTINGS_ERRORS, LOADING_ERRORS, LoadedModel, loading, one_line
from .precision import computing_dtype
from .quantization_choices import LANGUAGE_MODEL, check_quantization, is_4bit
from .row_prefill import prefill_rows
from .sources import ModelError, find_smollm2

# Nothing is ever seen by it; a model without a vision tower is no SPeCTrA-Sum.
_CLOSED_EYE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
_EYE_SIDE = 16
# Positions of a model whose configuration sets no limit, as those with ALiBi.
_POSITIONS = 2048
_ROWS_PER_PROMPT = ("num_beams", "num_return_sequences")
_OWN_CACHE = frozenset({"past_key_values", "cache_implementation", "use_cache"})
# What a tokenizer's error names when the package that reads it is missing.
_TOKENIZER_WHEELS = ("sentencepiece", "tiktoken", "protobuf")


class TextModel(SpectraSumForConditionalGeneration):
    """A causal language model in the place of a SPeCTrA-Sum; passes and generation are the language model's own.

    Some architectures do more than decoder and output head (Gemma bounds its logits, Granite scales them), or keep caches of
    their own, which a pass with images would not. Images are refused.
    """

    def forward(self, input_ids: torch.Tensor | None = None, article_mask: torch.Tensor | None = None, **kwargs: Any):
        """A pass of the language model; `article_mask` is what the processor tells relevance predictors."""
        return self.language_model(input_ids=input_ids, **kwargs)

    def generate(
        self, inputs: torch.Tensor | None = None, article_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        """`generate` of the language model. On a CPU, prompts of unlike length are read one by one; see `row_prefill.py`."""
        prompts = kwargs.get("input_ids", inputs), kwargs.get("attention_mask")
        config = kwargs.get("generation_config") or self.generation_config
        # `generate` multiplies the rows of these, but not those of a cache.
        single = all((kwargs.get(name) or getattr(config, name) or 1) == 1 for name in _ROWS_PER_PROMPT)
        if single and all(torch.is_tensor(prompt) for prompt in prompts) and not kwargs.keys() & _OWN_CACHE:
            with torch.no_grad():
                kwargs["past_key_values"] = prefill_rows(self.language_model, *prompts)
        return self.language_model.generate(inputs, **kwargs)


def load_causal(name: str, *, revision: str | None = None, quantize: str | None = None) -> LoadedModel:
    """
    Any causal language model of transformers, from safetensors or GGUF, with transformers' code alone.

    Its dtype is that of [`computing_dtype`]. Its prompt is that of its chat template, without "thinking" where the template
    can be told so, or a plain one without a template.

    Args:
        name (`str`): Folder, Hub id, or a `.gguf` file.
        revision (`str`, *optional*): Of the Hub.
        quantize (`str`, *optional*): `"language-model"` puts its decoder in 4 bits (NF4).

    Raises:
        ModelError: It cannot be loaded or quantized; the message names it and the fix.
    """
    path = Path(name)
    place, gguf = name, {}
    if path.suffix == ".gguf" and not path.is_dir():
        check_gguf(path)
        if quantize is not None:
            raise ModelError(f"{name}: the weights of a GGUF file are unpacked as they are; leave --quantize out.")
        place, gguf = str(path.parent), {"gguf_file": path.name}
    # Code of a repository never runs, also where a tokenizer asks for it.
    options = {"revision": revision or "main", "trust_remote_code": False, **gguf}
    with loading(name):
        config = AutoConfig.from_pretrained(place, **options)
        _check_architecture(config, name)
        tokenizer = _load_tokenizer(place, name, options)
        language_model = _load_language_model(place, name, config, options, quantize)
        model, processor = _with_closed_eye(language_model, tokenizer)
        # A template that cannot show an article is told now.
        processor.prompt_text("text", "title")
    notice = (
        f"{path.name if gguf else name} is a pretrained text model ({config.model_type}): it reads text and captions and sees "
        "no images; they are selected after the summary, by their texts and, with --vision, by what they show."
    )
    return LoadedModel(model.eval(), processor, False, CAUSAL, notice, revision)


def load_smollm2(*, quantize: str | None = None) -> LoadedModel:
    """
    SmolLM2-135M-Instruct as its wheel brings it, by [`load_causal`].

    Raises:
        ModelError: The wheel is not installed, its file cannot be read, or it is to be quantized.
    """
    return load_causal(str(find_smollm2()), quantize=quantize)


def _check_architecture(config: PreTrainedConfig, name: str) -> None:
    needed = ("hidden_size", "num_hidden_layers", "num_attention_heads")
    if not all(isinstance(getattr(config, field, None), int) for field in needed):
        raise ModelError(
            f"{name}: a {config.model_type!r} model is no transformer with attention heads, which is all that is read; choose "
            "another."
        )


def _load_tokenizer(place: str, name: str, options: dict[str, Any]) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
    except (*LOADING_ERRORS, *DAMAGED_SETTINGS_ERRORS, ImportError) as error:
        for wheel in _TOKENIZER_WHEELS:
            if wheel in str(error).lower() and importlib.util.find_spec(wheel) is None:
                raise ModelError(
                    f"{name}: its tokenizer needs {wheel}; install it with: pip install {wheel}"
                ) from error
        raise ModelError(
            f"{name}: its tokenizer is missing or cannot be loaded ({one_line(error)}); save it into the folder with the "
            "model."
        ) from error
    # Without its files transformers makes some tokenizers with an empty vocabulary.
    read = tokenizer.decode(tokenizer("word", add_special_tokens=False)["input_ids"], skip_special_tokens=True)
    if "word" not in read.lower():
        raise ModelError(f"{name}: its tokenizer is missing or has no words; save it into the folder with the model.")
    if tokenizer.eos_token is None:
        raise ModelError(f"{name}: its tokenizer has no end token, so that no summary would end; set its eos_token.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_language_model(
    place: str, name: str, config: PreTrainedConfig, options: dict[str, Any], quantize: str | None
) -> PreTrainedModel:
    how: dict[str, Any] = {"dtype": computing_dtype(getattr(config, "dtype", None))}
    if "gguf_file" not in options:
        check_safetensors(place, options["revision"])
        how["use_safetensors"] = True
    if quantize is not None:
        check_quantization(quantize, config.to_dict(), name)
        if quantize != LANGUAGE_MODEL:
            raise ModelError(f"{name}: a text model has no new modules; choose --quantize {LANGUAGE_MODEL}.")
        from .quantization import NOT_CAUSAL_LAYERS, nf4_config

        how["quantization_config"] = nf4_config(how["dtype"], skipped=NOT_CAUSAL_LAYERS)
    language_model, report = AutoModelForCausalLM.from_pretrained(
        place, config=config, output_loading_info=True, **how, **options
    )
    check_complete(report, name, "use a checkpoint of the causal language model with its output head.")
    if quantize is not None or is_4bit(config.to_dict()):
        from .quantization import settle_4bit_layers

        settle_4bit_layers(language_model)
    return language_model


def check_safetensors(name: str, revision: str = "main") -> None:
    """
    Checks that a model's weights are there as safetensors; those of a Hub id in one file are fetched.

    Raises:
        ModelError: They are not; pickle files are never read.
    """
    for file in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME):
        if cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False) is not None:
            return
    raise ModelError(
        f"{name}: it has no weights as safetensors ({SAFE_WEIGHTS_NAME}), and pickle files (pytorch_model.bin) are never read; "
        "save it anew with save_pretrained of transformers, or choose another model."
    )


def _with_closed_eye(
    language_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> tuple[TextModel, SpectraSumProcessor]:
    """The language model as a SPeCTrA-Sum whose tower nobody asks, and its processor."""
    attention = language_model.config._attn_implementation
    vision = SiglipVisionConfig(**_CLOSED_EYE, image_size=_EYE_SIDE, patch_size=_EYE_SIDE, vision_use_head=False)
    heads = dict.fromkeys(("sampler_num_heads", "dvp_num_heads", "cross_attention_num_heads"), 1)
    config = SpectraSumConfig(
        vision_config=vision, text_config=language_model.config, fusion="concat", distill_weight=0.0, **heads
    )
    # The configuration forgets it, and not every architecture has torch's.
    config._attn_implementation = attention
    model = TextModel(config, language_model=language_model)
    if getattr(language_model.config, "max_position_embeddings", None) is None:
        language_model.config.max_position_embeddings = min(tokenizer.model_max_length, _POSITIONS)
    # What a base was published with (a temperature, a penalty) would bend its summaries.
    settings = generation_settings(language_model.generation_config, tokenizer)
    model.generation_config = language_model.generation_config = settings
    processor = SpectraSumProcessor(
        image_processor=SiglipImageProcessorPil(size={"height": _EYE_SIDE, "width": _EYE_SIDE}),
        tokenizer=tokenizer,
        chat_template=_without_thinking(tokenizer.chat_template),
    )
    return model, processor


def _without_thinking(template: Any) -> str | None:
    """A chat template that does not ask for a train of thought, where it can be told so."""
    template = template.get("default") if isinstance(template, dict) else template
    if template and "enable_thinking" in template:
        return "{% set enable_thinking = false %}" + template
    return template
