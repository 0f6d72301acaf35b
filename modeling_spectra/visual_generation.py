"""What generation does with an article's images: they are encoded once per article, before beams multiply them."""

from typing import Any

import torch
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
    SuppressTokensLogitsProcessor,
)
from transformers.generation import CandidateGenerator, EarlyExitCandidateGenerator

from .outputs_spectra import SpectraSumOutput

# What `_expand_inputs_for_generation` makes of the images.
VISUAL_STATES = ("visual_key_values", "visual_tokens", "summarizer_images")


class VisualGenerationMixin(GenerationMixin):
    """transformers' generation with images; part of [`SpectraSumForConditionalGeneration`]."""

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: torch.LongTensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[torch.LongTensor, dict[str, Any]]:
        """Encode the images before the beams multiply them: once per article, whatever the number of beams or steps."""
        images = {
            name: model_kwargs.pop(name, None) for name in ("pixel_values", "image_mask", "image_embeds", "patches")
        }
        article_mask = model_kwargs.pop("article_mask", None)
        texts = [model_kwargs.pop(name, None) for name in ("image_text_ids", "image_text_mask")]
        query = {name: model_kwargs.pop(name, None) for name in ("qformer_input_ids", "qformer_attention_mask")}
        key_values = model_kwargs.pop("visual_key_values", None)
        has_images = any(images[name] is not None for name in ("pixel_values", "image_embeds", "patches"))
        if key_values is None and has_images:
            article_embeds, cache = None, model_kwargs.get("past_key_values")
            # The tokens of a later call are not those of the article alone, and embeddings have no tokens.
            starts = (cache is None or cache.get_seq_length() == 0) and model_kwargs.get("inputs_embeds") is None
            if self.config.vrp_context != "none" and starts:
                article_embeds = self.article_embeddings(input_ids, model_kwargs.get("attention_mask"), article_mask)
            encoded = self.encode_images(
                **images,
                **query,
                article_embeds=article_embeds,
                rank_images=False,
                image_text_embeds=self.image_text_embeddings(*texts),
            )
            key_values = encoded.visual_key_values
            if encoded.visual_tokens is not None:
                model_kwargs["visual_tokens"] = encoded.visual_tokens
                model_kwargs["summarizer_images"] = encoded.summarizer_images
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        if key_values is not None:
            model_kwargs["visual_key_values"] = key_values.repeat_interleave(expand_size)
        return input_ids, model_kwargs

    def _update_model_kwargs_for_generation(
        self, outputs: SpectraSumOutput, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """Decode steps that read a cache leave out the prompt's visual tokens, which are in it."""
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
        if model_kwargs.get("use_cache"):
            for name in ("visual_tokens", "summarizer_images"):
                model_kwargs.pop(name, None)
        return model_kwargs

    def _get_candidate_generator(
        self,
        generation_config: GenerationConfig,
        input_ids: torch.LongTensor,
        inputs_tensor: torch.Tensor,
        logits_processor: LogitsProcessorList,
        model_kwargs: dict[str, Any],
        assistant_model: PreTrainedModel | None = None,
        **tokenizers: Any,
    ) -> CandidateGenerator:
        """Candidates of assisted generation come from the text alone: an assistant, or the first layers of the language
        model (`assistant_early_exit`), proposes tokens without the images, and the model accepts those that it would have
        generated itself.
        """
        text_kwargs = {name: value for name, value in model_kwargs.items() if name not in VISUAL_STATES}
        if self.config.image_token_id is not None:
            # A proposed placeholder would be taken for one of an image.
            suppressed = SuppressTokensLogitsProcessor([self.config.image_token_id], device=input_ids.device)
            logits_processor = LogitsProcessorList([*logits_processor, suppressed])
        arguments = {
            "generation_config": generation_config,
            "input_ids": input_ids,
            "inputs_tensor": inputs_tensor,
            "logits_processor": logits_processor,
            "model_kwargs": text_kwargs,
        }
        if generation_config.assistant_early_exit is not None:
            return EarlyExitCandidateGenerator(assistant_model=self.language_model, **arguments)
        return super()._get_candidate_generator(**arguments, assistant_model=assistant_model, **tokenizers)


__all__ = ["VisualGenerationMixin"]
