"""The visual path: every new module of SPeCTrA-Sum under one parent, so that PEFT can train and save it as a whole."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .alignment_head import AlignmentHead
from .configuration_spectra import SpectraSumConfig
from .deep_visual_processor import DeepVisualProcessor
from .gated_cross_attention import GatedCrossAttention, VisualKeyValues
from .image_guidance import ImageGuidance
from .qformer_sampler import QFormerSampler, QueryText
from .vision_sampler import VisionSampler
from .visual_relevance_predictor import VisualRelevancePredictor


class ConcatProjector(nn.Module):
    """The OneVision variant (§7): patches → visual tokens of the prompt, as LLaVA-OneVision does for several images."""

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        size = config.text_config.hidden_size
        self.linear_1 = nn.Linear(config.patch_embedding_size, size)
        self.activation = ACT2FN[config.projector_hidden_act]
        self.linear_2 = nn.Linear(size, size)
        self.image_newline = nn.Parameter(torch.empty(size))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (B, N, P, d_v) → visual tokens (B, N, P + 1, d), the last one of each image being its newline."""
        tokens = self.linear_2(self.activation(self.linear_1(patches)))
        return torch.cat([tokens, self.image_newline.expand(*tokens.shape[:2], 1, -1)], dim=2)


def insert_visual_tokens(
    input_ids: torch.Tensor | None,
    inputs_embeds: torch.Tensor,
    tokens: torch.Tensor,
    images: torch.Tensor,
    image_token_id: int,
) -> torch.Tensor:
    """The input embeddings (B, T, d) with the images' tokens (B, N, S, d) in the placeholders' places (§7, `"concat"`).

    Args:
        input_ids: (B, T), with S placeholders `image_token_id` per image.
        images: (B, N), −1 where there is no image.

    Raises:
        ValueError: without `input_ids`, or when the numbers of placeholders and images differ.
    """
    if input_ids is None:
        raise ValueError('fusion="concat" finds its image placeholders in input_ids; inputs_embeds have none.')
    placeholders = input_ids == image_token_id
    real = images >= 0
    expected = real.sum(1) * tokens.shape[2]
    if not torch.equal(placeholders.sum(1), expected):
        raise ValueError(
            f"the prompts hold {placeholders.sum(1).tolist()} image placeholders, but their images need "
            f"{expected.tolist()}; build the prompt with this model's processor."
        )
    return inputs_embeds.masked_scatter(placeholders[..., None], tokens[real].to(inputs_embeds.dtype))


class VisualPath(nn.Module):
    """All that SPeCTrA-Sum adds to a vision tower and a language model.

    `fusion` decides what is built: for `"concat"` with patches a projector, otherwise a sampler, and with `image_guidance` what
    it is guided by; for the gated variants one cross-attention per gate layer, and for `"dvp"` the Deep Visual Processor.
    Relevance predictor and alignment head are always there.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        self.gate_layers = list(config.gate_layers)
        self.projector = self.sampler = self.image_guidance = self.latent_projection = None
        self.deep_visual_processor = self.cross_attentions = None
        if config.has_sampler:
            qformer = config.sampler_type == "qformer"
            self.sampler = QFormerSampler(config) if qformer else VisionSampler(config)
            if config.image_guidance != "none":
                self.image_guidance = ImageGuidance(config)
            # The Vision Sampler's latents have the text's width, and gates project what they read themselves.
            if qformer or config.fusion == "concat":
                self.latent_projection = nn.Linear(config.sampler_width, config.text_config.hidden_size)
        else:
            self.projector = ConcatProjector(config)
        if config.fusion != "concat":
            self.cross_attentions = nn.ModuleDict(
                {str(layer): GatedCrossAttention(config) for layer in self.gate_layers}
            )
        if config.fusion == "dvp":
            self.deep_visual_processor = DeepVisualProcessor(config)
        self.relevance_predictor = VisualRelevancePredictor(config)
        self.alignment_head = AlignmentHead(config)

    @property
    def reads_embeddings(self) -> bool:
        """Whether the visual states depend on the images' pooled embeddings."""
        return self.sampler is not None and self.sampler.pooled_proj is not None

    def cross_attention(self, layer: int) -> GatedCrossAttention | None:
        """The gated cross-attention in front of the language model's layer `layer` (from 1), None where there is none."""
        return self.cross_attentions[str(layer)] if layer in self.gate_layers else None

    def latents(
        self,
        patches: torch.Tensor,
        image_embeds: torch.Tensor | None,
        image_mask: torch.Tensor,
        query_text: QueryText | None = None,
    ) -> torch.Tensor:
        """The sampler's latents (B, N, M, d) of an article's images, of the text's width (§1, §9).

        Arguments as of [`forward`].
        """
        guided = (
            ()
            if self.image_guidance is None
            else (self.image_guidance, self.image_guidance.merge(patches, image_mask))
        )
        pooled = None if image_embeds is None else image_embeds.flatten(0, 1)
        options = {}
        if query_text is not None:
            # Each image is read with the whole query.
            repeated = (part.repeat_interleave(image_mask.shape[1], dim=0) for part in query_text)
            options["query_text"] = QueryText(*repeated)
        latents = self.sampler(patches.flatten(0, 1), pooled, *guided, **options)
        if self.latent_projection is not None:
            latents = self.latent_projection(latents)
        return latents.unflatten(0, image_mask.shape)

    def visual_tokens(
        self,
        patches: torch.Tensor,
        image_embeds: torch.Tensor | None,
        image_mask: torch.Tensor,
        query_text: QueryText | None = None,
    ) -> torch.Tensor:
        """The visual tokens (B, N, S, d) of an article's images for the prompt (§7, `"concat"`); arguments as of [`forward`]."""
        if self.projector is not None:
            return self.projector(patches)
        return self.latents(patches, image_embeds, image_mask, query_text)

    def forward(
        self,
        patches: torch.Tensor,
        image_embeds: torch.Tensor | None,
        image_mask: torch.Tensor,
        query_text: QueryText | None = None,
    ) -> VisualKeyValues:
        """From an article's images to what its gates read (§1, §2, and the keys and values of §3).

        Args:
            patches: (B, N, P, d_v), N at most `max_images`.
            image_embeds: (B, N, d_img), L2-normalised; not needed unless they are read.
            image_mask: (B, N), true on real images.
            query_text: Of the articles (B, S), for a Q-Former that reads text.
        """
        latents = self.latents(patches, image_embeds, image_mask, query_text)
        mask = image_mask.repeat_interleave(latents.shape[2], dim=1)
        if self.deep_visual_processor is None:
            states = dict.fromkeys(self.gate_layers, latents.flatten(1, 2))
        else:
            states = self.deep_visual_processor(latents, attendable(mask))
        projected = [
            self.cross_attentions[str(layer)].project_visual_states(states[layer]) for layer in self.gate_layers
        ]
        # Gates may lie on several devices; each one takes its keys and values to its own.
        keys, values = ([part.to(mask.device) for part in parts] for parts in zip(*projected, strict=True))
        return VisualKeyValues(torch.stack(keys, dim=1), torch.stack(values, dim=1), mask)


def attendable(mask: torch.Tensor) -> torch.Tensor:
    """A mask (B, S) in which rows without any true entry are all true.

    A softmax over nothing is NaN in one attention implementation and an average over padding in another. Such rows
    attend to their padding instead, and what they get is discarded by the caller.
    """
    return mask | ~mask.any(dim=1, keepdim=True)
