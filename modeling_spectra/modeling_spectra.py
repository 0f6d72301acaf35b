"""SPeCTrA-Sum as a `PreTrainedModel`: a vision tower, a language model, and the visual path between them."""

import math
import os
import re
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, Cache, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_utils import slice_logits_to_keep
from transformers.utils import can_return_tuple

from .alignment_head import AlignmentHead
from .attention_implementation import AttentionImplementationMixin
from .backbones import build_vision_tower
from .concat_projector import ConcatProjector, insert_visual_tokens
from .configuration_spectra import SpectraSumConfig
from .feature_query import FeatureQuery
from .fusions import FUSIONS
from .gated_cross_attention import TanhGate
from .image_encoding import ImageEncodingMixin
from .outputs_spectra import SpectraSumOutput

# Saving a model copies the files that this one imports, and the pipeline is to come with every saved model.
from .pipeline_spectra import MultimodalSummarizationPipeline
from .pooling_attention import replace_pooling_attention
from .pretrained_parts import PretrainedPartsMixin
from .qformer_sampler import QFormerSampler
from .vision_sampler import VisionSampler
from .visual_context import VisualKeyValues, register_injection, visual_context
from .visual_generation import VisualGenerationMixin
from .visual_layers import ScaledLinear
from .visual_path import VisualPath


class SpectraSumPreTrainedModel(PreTrainedModel):
    """Initialisation and declarations shared by SPeCTrA-Sum models."""

    config_class = SpectraSumConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    # What generate() compiles: the decode step with a static cache. Prefill, whose sizes depend on data, runs as it is.
    _can_compile_fullgraph = True
    # What a device map keeps on one device. FSDP leaves some of them out, see `trainer/sharding.py`.
    _no_split_modules = [
        "VisionSampler",
        "VisionSamplerBlock",
        "QFormerSampler",
        "KMeansSampler",
        "FeatureQuery",
        "DeepVisualProcessorBlock",
        "GatedCrossAttention",
        "VisualAdapter",
        "FeatureModulation",
        "ConcatProjector",
        "VisualRelevancePredictor",
        "AlignmentHead",
    ]
    _skip_keys_device_placement = ["past_key_values"]
    # Relevance predictor, norms (but a Q-Former's own), the gates' α and τ stay in float32 where the rest is in half
    # precision: rankings live on small differences, and steps on α, τ and norms around 1 are lost in bfloat16's 8 bits. Not
    # "gate" and "norm", which are in every gate_proj and in the norms of tower and language model, too. transformers reads *
    # as a glob.
    _keep_in_fp32_modules_strict = [
        r"visual_path\.relevance_predictor\.",
        r"visual_path\.(?!sampler\.former\.).+norm\.weight$",
        r"gate\.alpha$",
        r"\.log_temperature$",
    ]

    @property
    def device(self) -> torch.device:
        """Where inputs belong: the device of the first parameter or buffer that is not offloaded to CPU or disk."""
        tensors = chain(self.parameters(), self.buffers())
        return next((tensor.device for tensor in tensors if not tensor.is_meta), torch.device("meta"))

    def cast_parameters(self, dtype: torch.dtype) -> None:
        """Cast all parameters as loading in `dtype` does: some stay in float32 where the rest is in half precision.

        Of buffers the statistics of batch norms alone: `to(dtype)` would round the frequencies of rotary positions.
        """
        kept = self._keep_in_fp32_modules_strict if dtype in (torch.float16, torch.bfloat16) else ()
        for name, parameter in self.named_parameters():
            keeps = any(re.search(pattern, name) for pattern in kept)
            parameter.data = parameter.data.to(torch.float32 if keeps else dtype)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.data = module.running_mean.data.to(dtype)
                module.running_var.data = module.running_var.data.to(dtype)

    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, ScaledLinear):
            init.normal_(module.weight, mean=0.0, std=std * module.init_scale)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, TanhGate):
            init.constant_(module.alpha, module.init_value)
        elif isinstance(module, VisionSampler):
            init.normal_(module.latents, mean=0.0, std=std)
        elif isinstance(module, QFormerSampler):
            init.normal_(module.query_tokens, mean=0.0, std=std)
        elif isinstance(module, AlignmentHead):
            init.constant_(module.log_temperature, math.log(module.init_temperature))
        elif isinstance(module, FeatureQuery):
            init.zeros_(module.cross_scale)
            init.zeros_(module.self_scale)
        elif isinstance(module, ConcatProjector):
            init.normal_(module.image_newline, mean=0.0, std=std)
        else:
            super()._init_weights(module)


class SpectraSumForConditionalGeneration(
    PretrainedPartsMixin,
    ImageEncodingMixin,
    AttentionImplementationMixin,
    SpectraSumPreTrainedModel,
    VisualGenerationMixin,
):
    """Multimodal summarization: text and images in, a summary and a ranking of the images out.

    Args:
        config (`SpectraSumConfig`): The configuration.
        vision_tower (`PreTrainedModel`, *optional*): A ready tower for `config.vision_config`; built if not given.
        language_model (`PreTrainedModel`, *optional*): A ready causal language model for `config.text_config`.
        embedding_tower (`PreTrainedModel`, *optional*): A ready tower for `config.embedding_vision_config`.
    """

    _auto_class = "AutoModel"

    def __init__(
        self,
        config: SpectraSumConfig,
        vision_tower: PreTrainedModel | None = None,
        language_model: PreTrainedModel | None = None,
        embedding_tower: PreTrainedModel | None = None,
    ):
        super().__init__(config)
        self.vision_tower = vision_tower or build_vision_tower(config.vision_config)
        self.embedding_tower = embedding_tower
        if config.embedding_vision_config is not None and embedding_tower is None:
            self.embedding_tower = build_vision_tower(config.embedding_vision_config)
        self.language_model = language_model or AutoModelForCausalLM.from_config(config.text_config)
        # What is set for a part reaches it through its configuration, which must be the very object.
        config.vision_config, config.text_config = self.vision_tower.config, self.language_model.config
        if self.embedding_tower is not None:
            config.embedding_vision_config = self.embedding_tower.config
        self.visual_path = VisualPath(config)
        if config.has_sampler and config.sampler_type == "qformer":
            config.qformer_config = self.visual_path.sampler.former.config
        replace_pooling_attention(self)
        if config.fusion != "concat":
            changes_norms = FUSIONS[config.fusion].layer.changes_norm
            register_injection(self.language_model.get_decoder().layers, into_norms=changes_norms)
        # Each variant has its own modules, and names those alone.
        names = [name for name, _ in self.named_parameters()]
        self._keep_in_fp32_modules_strict = [
            entry for entry in self._keep_in_fp32_modules_strict if any(re.search(entry, name) for name in names)
        ]
        self.post_init()
        # A ready part may carry another attention implementation than the one chosen for it.
        self.set_attn_implementation(self.attn_implementations())

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> nn.Module:
        return self.language_model.get_decoder()

    def train(self, mode: bool = True) -> "SpectraSumForConditionalGeneration":
        """As in every module, but a frozen tower or sampler stays in evaluation mode: batch norms would take the statistics of
        the batches over, and dropout would blur features that nobody trains. In a tower that is trained the batch norms do.
        """
        super().train(mode)
        for module in self.vision_tower.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        for tower in (self.vision_tower, self.embedding_tower, self.visual_path.sampler):
            if tower is not None and not any(parameter.requires_grad for parameter in tower.parameters()):
                tower.eval()
        return self

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """As in every model of transformers; a ValueError for reentrant checkpointing of `fusion="modulation"`, whose changes of
        the norms enter a layer beside its hidden states, where reentrant checkpointing loses gradients."""
        if self.config.fusion == "modulation" and (activation_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError(
                'fusion="modulation" cannot be checkpointed with use_reentrant=True: set use_reentrant to False.'
            )
        super().activation_checkpointing_enable(activation_checkpointing_kwargs, *args, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in every model of transformers; a ValueError for what could not be loaded again: a visual path in 4 bits, and
        adapters of PEFT that are not merged into the layers that they stand in."""
        packed = [name for name, value in self.visual_path.named_parameters() if not value.is_floating_point()]
        if packed:
            raise ValueError(
                f"visual_path.{packed[0]} is in 4 bits, and could not be loaded again: save the unquantized model, and "
                "quantize when loading."
            )
        adapted = [name for name, _ in self.named_parameters() if ".base_layer." in name]
        if adapted and not self._hf_peft_config_loaded:
            raise ValueError(
                f"{adapted[0]} has an adapter beside it that is not merged, and could not be loaded again: keep the "
                "adapter's own folder, or load it unquantized, which merges it, and save that."
            )
        super().save_pretrained(save_directory, *args, **kwargs)

    def gate_openings(self) -> dict[int, float]:
        """{gate layer: mean |tanh α|} (§3); empty for a fusion without gates."""
        openings = {int(layer): module.opening() for layer, module in (self.visual_path.fusion_layers or {}).items()}
        return {layer: opening for layer, opening in openings.items() if opening is not None}

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        article_mask: torch.Tensor | None = None,
        image_text_ids: torch.LongTensor | None = None,
        image_text_mask: torch.Tensor | None = None,
        qformer_input_ids: torch.LongTensor | None = None,
        qformer_attention_mask: torch.Tensor | None = None,
        image_embeds: torch.Tensor | None = None,
        patches: torch.Tensor | None = None,
        visual_key_values: VisualKeyValues | None = None,
        visual_tokens: torch.Tensor | None = None,
        summarizer_images: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        reduce_by_relevance: bool = True,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> SpectraSumOutput:
        """One pass over a batch of articles (B articles, T tokens, N images).

        To continue from a cache, pass the same `pixel_values` or the returned `visual_key_values`; with neither, the
        later tokens are computed as in a text-only article.

        Args:
            input_ids: (B, T). With `fusion="concat"` it holds `num_image_tokens` placeholders per image.
            attention_mask: (B, past + T), 0 on padding.
            position_ids: (B, T). By default they count the tokens that `attention_mask` attends to, as in generation: a
                prompt that is padded on the left gets the positions that it has alone.
            pixel_values: (B, N, 3, H, W), or None for text-only articles.
            image_mask: (B, N), true on real images; all by default.
            article_mask: (B, up to T), true on the article's own tokens, for a relevance predictor with context.
            image_text_ids, image_text_mask: (B, N, S), tokens of each image's caption, for a relevance predictor with
                `vrp_image_texts`; an image without them has no caption.
            qformer_input_ids, qformer_attention_mask: (B, S), the prompt's text in tokens of the Q-Former, for one with
                `qformer_text`.
            image_embeds: (B, N, d_img), and
            patches: (B, N, P, d_v), of the frozen towers, where they were computed before; see [`encode_images`].
            visual_key_values: Output of an earlier call on the same articles; takes the place of `pixel_values`.
            visual_tokens, summarizer_images: The same for `fusion="concat"`, from [`encode_images`].
            labels: (B, T), −100 everywhere but on the summary.
            reduce_by_relevance: See [`encode_images`].
            logits_to_keep: As in every causal language model of transformers. With `labels`, only the positions kept
                count in the loss: keeping those whose next token has a label gives the whole loss without the rest of
                the logits.
            num_items_in_batch: Tokens to divide the loss by; the labels of this batch by default.
            kwargs: `shift_labels` (B, T), each position's label, which is the next token's id: they take the place of `labels`
                in the loss, as in transformers' loss functions, and `labels` follow from them where there are none. The
                rest goes to the decoder.

        Raises:
            ValueError: for inputs that contradict each other; the message names the argument.
        """
        config = self.config
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds.")
        record_attentions = config.output_attentions if output_attentions is None else output_attentions
        past_length = past_key_values.get_seq_length() if past_key_values is not None else 0
        # Not in the signature, where the Trainer would take it for a label that every batch has.
        shift_labels = kwargs.pop("shift_labels", None)
        if shift_labels is not None:
            shape = (input_ids if input_ids is not None else inputs_embeds).shape[:2]
            if shift_labels.shape != shape:
                raise ValueError(
                    f"shift_labels has the shape {tuple(shift_labels.shape)} and the input {tuple(shape)}: pass one label "
                    "per position of the input; logits_to_keep drops its own."
                )
            if labels is None:
                labels = F.pad(shift_labels, (1, 0), value=-100)[:, :-1]

        encoded = None
        has_images = any(values is not None for values in (pixel_values, image_embeds, patches))
        if has_images and visual_key_values is None and visual_tokens is None:
            article_embeds = None
            if config.vrp_context != "none" and input_ids is not None and past_length == 0:
                article_embeds = self.article_embeddings(input_ids, attention_mask, article_mask, labels)
            encoded = self.encode_images(
                pixel_values,
                image_mask,
                article_embeds,
                reduce_by_relevance,
                image_embeds,
                patches,
                image_text_embeds=self.image_text_embeddings(image_text_ids, image_text_mask),
                qformer_input_ids=qformer_input_ids,
                qformer_attention_mask=qformer_attention_mask,
            )
            visual_key_values, visual_tokens = encoded.visual_key_values, encoded.visual_tokens
            summarizer_images = encoded.summarizer_images

        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        # When a cache is continued, the visual tokens of the prompt are already in it.
        if visual_tokens is not None and past_length == 0:
            inputs_embeds = insert_visual_tokens(
                input_ids, inputs_embeds, visual_tokens, summarizer_images, config.image_token_id
            )
        if position_ids is None and isinstance(attention_mask, torch.Tensor) and attention_mask.dim() == 2:
            end = past_length + inputs_embeds.shape[1]
            position_ids = self._prepare_position_ids_for_generation(inputs_embeds, {"attention_mask": attention_mask})
            position_ids = position_ids[:, past_length:end]
        context = None
        if visual_key_values is not None:
            context = visual_context(
                self.visual_path, visual_key_values, config, inputs_embeds, bool(record_attentions)
            )
            kwargs["visual_context"] = context

        outputs = self.get_decoder()(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            output_attentions=record_attentions,
            output_hidden_states=config.output_hidden_states if output_hidden_states is None else output_hidden_states,
            return_dict=True,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        logits = self.get_output_embeddings()(slice_logits_to_keep(hidden_states, logits_to_keep))
        loss = summary_embeds = temperature = None
        if labels is not None:
            # The label of a position is the next token's; positions without logits have no loss.
            if shift_labels is None:
                shift_labels = F.pad(labels, (0, 1), value=-100)[:, 1:]
            loss = self.loss_function(
                logits=logits,
                labels=None,
                shift_labels=slice_logits_to_keep(shift_labels[..., None], logits_to_keep).squeeze(-1).contiguous(),
                vocab_size=config.text_config.vocab_size,
                num_items_in_batch=num_items_in_batch,
            )
            summary_embeds, temperature = self.visual_path.alignment_head(hidden_states, labels != -100)
        return SpectraSumOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            cross_attentions=tuple(context.recorded_weights) if context and record_attentions else None,
            image_embeds=encoded.image_embeds if encoded else None,
            selection_logits=encoded.selection_logits if encoded else None,
            summary_embeds=summary_embeds,
            alignment_temperature=temperature,
            visual_key_values=visual_key_values,
            summarizer_images=summarizer_images,
        )


__all__ = [
    "MultimodalSummarizationPipeline",
    "SpectraSumConfig",
    "SpectraSumForConditionalGeneration",
    "SpectraSumOutput",
    "SpectraSumPreTrainedModel",
]
