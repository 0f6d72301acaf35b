"""The visual path: every new module of SPeCTrA-Sum under one parent, so that PEFT can train and save it as a whole."""

import torch
from torch import nn

from .alignment_head import AlignmentHead
from .concat_projector import ConcatProjector
from .configuration_spectra import SpectraSumConfig
from .deep_visual_processor import DeepVisualProcessor
from .feature_query import FeatureQuery
from .fusion_layer import FusionLayer
from .fusion_settings import tower_layer_of
from .fusions import FUSIONS, build_fusion_layers
from .image_guidance import ImageGuidance
from .kmeans_sampler import KMeansSampler
from .qformer_sampler import QFormerSampler, QueryText
from .vision_sampler import VisionSampler
from .visual_context import VisualKeyValues, attendable
from .visual_relevance_predictor import VisualRelevancePredictor

SAMPLERS = {"perceiver": VisionSampler, "qformer": QFormerSampler, "kmeans": KMeansSampler}


class VisualPath(nn.Module):
    """All that SPeCTrA-Sum adds to a vision tower and a language model.

    `fusion` decides what is built: for `"concat"` with patches a projector, for all that read latents a sampler, and with
    `image_guidance` what it is guided by; for a fusion inside the language model its layers, and for the states of the
    `"dvp"` the Deep Visual Processor. Relevance predictor and alignment head are always there.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        self.gate_layers = list(config.gate_layers)
        self.feature_query = FeatureQuery(config) if config.feature_fusion == "query" else None
        self.projector = self.sampler = self.image_guidance = self.latent_projection = None
        self.deep_visual_processor = self.cross_attentions = self.adapters = self.modulations = None
        # Of each layer's patches among those that the tower gives side by side.
        self.tower_widths, self.tower_places = config.tower_widths, None
        if config.has_sampler:
            self.sampler = SAMPLERS[config.sampler_type](config)
            if config.image_guidance != "none":
                self.image_guidance = ImageGuidance(config)
            # The Vision Sampler's latents have the text's width, and gates project what they read themselves.
            if config.sampler_type != "perceiver" or config.fusion == "concat":
                self.latent_projection = nn.Linear(config.sampler_width, config.text_config.hidden_size)
        if config.fusion == "concat":
            self.fusion_layers_name = None
            if not config.has_sampler:
                self.projector = ConcatProjector(config)
        else:
            self.fusion_layers_name = FUSIONS[config.fusion].name
            setattr(self, self.fusion_layers_name, build_fusion_layers(config))
        if config.states_read == "dvp":
            self.deep_visual_processor = DeepVisualProcessor(config)
        if config.states_read == "tower":
            places = config.tower_layers
            self.tower_places = {layer: places.index(tower_layer_of(layer, config)) for layer in self.gate_layers}
        self.relevance_predictor = VisualRelevancePredictor(config)
        self.alignment_head = AlignmentHead(config)

    @property
    def fusion_layers(self) -> nn.ModuleDict | None:
        """{layer of G: its [`FusionLayer`]}; None for `"concat"`."""
        return None if self.fusion_layers_name is None else getattr(self, self.fusion_layers_name)

    @property
    def reads_embeddings(self) -> bool:
        """Whether the visual states depend on the images' pooled embeddings."""
        return self.sampler is not None and self.sampler.pooled_proj is not None

    def fusion_layer(self, layer: int) -> FusionLayer | None:
        """What the fusion has at the language model's layer `layer` (from 1), None where there is nothing."""
        return self.fusion_layers[str(layer)] if layer in self.gate_layers else None

    def read_patches(self, patches: torch.Tensor) -> torch.Tensor:
        """What the tower gives (B, N, P, Σ d_v) → the patches that are read (B, N, P, d_v)."""
        if self.feature_query is None:
            return patches
        return self.feature_query(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])

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
        patches = self.read_patches(patches)
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
            return self.projector(self.read_patches(patches))
        return self.latents(patches, image_embeds, image_mask, query_text)

    def forward(
        self,
        patches: torch.Tensor,
        image_embeds: torch.Tensor | None,
        image_mask: torch.Tensor,
        query_text: QueryText | None = None,
    ) -> VisualKeyValues:
        """From an article's images to what the fusion's layers read (§1, §2, and the keys and values of §3).

        Args:
            patches: (B, N, P, Σ d_v), N at most `max_images`.
            image_embeds: (B, N, d_img), L2-normalised; not needed unless they are read.
            image_mask: (B, N), true on real images.
            query_text: Of the articles (B, S), for a Q-Former that reads text.
        """
        if self.sampler is None:
            read = self.read_patches(patches)
            mask = image_mask.repeat_interleave(read.shape[2], dim=1)
            states = self._tower_states(read.flatten(1, 2))
        else:
            latents = self.latents(patches, image_embeds, image_mask, query_text)
            mask = image_mask.repeat_interleave(latents.shape[2], dim=1)
            if self.deep_visual_processor is None:
                states = dict.fromkeys(self.gate_layers, latents.flatten(1, 2))
            else:
                states = self.deep_visual_processor(latents, attendable(mask))
        projected = [self.fusion_layer(layer).project_visual_states(states[layer]) for layer in self.gate_layers]
        # Layers may lie on several devices; each one takes its keys and values to its own.
        keys, values = ([part.to(mask.device) for part in parts] for parts in zip(*projected, strict=True))
        return VisualKeyValues(torch.stack(keys, dim=1), torch.stack(values, dim=1), mask)

    def _tower_states(self, patches: torch.Tensor) -> dict[int, torch.Tensor]:
        """{layer of G: the patches (B, N·P, d_s) that it reads}."""
        if self.tower_places is None:
            return dict.fromkeys(self.gate_layers, patches)
        parts = patches.split(self.tower_widths, dim=-1)
        return {layer: parts[place] for layer, place in self.tower_places.items()}


__all__ = ["VisualPath"]
