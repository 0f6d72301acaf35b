"""Q-Former (§9) as a sampler: InstructBLIP's queries read an image's patches, and the query's text with them."""

from typing import NamedTuple

import torch
from torch import nn
from transformers import InstructBlipQFormerModel
from transformers.masking_utils import create_bidirectional_mask

from .configuration_spectra import SpectraSumConfig
from .image_guidance import ImageContext, ImageGuidance, Layer


class QueryText(NamedTuple):
    """The text that a Q-Former reads beside its queries: `ids` and `mask` (B·N, S), in tokens of its own."""

    ids: torch.Tensor
    mask: torch.Tensor


class QFormerSampler(nn.Module):
    """transformers' InstructBLIP Q-Former, called layer by layer: its own forward pass has no entry in the middle.

    Args:
        config (`SpectraSumConfig`): `qformer_config`, `qformer_text`, `num_latents`, `patch_position_embedding` and
            `add_pooled_embedding`.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        qformer = config.qformer_config
        self.reads_text = config.qformer_text
        self.query_tokens = nn.Parameter(torch.empty(1, config.num_latents, qformer.hidden_size))
        self.former = InstructBlipQFormerModel(qformer)
        if not self.reads_text:
            # Nothing would go through them: the feed-forwards of queries are others.
            self.former.embeddings.word_embeddings = self.former.embeddings.position_embeddings = None
            for layer in self.former.encoder.layer:
                layer.intermediate = layer.output = None
        patches, positions = config.patch_embedding_size, config.patch_position_embedding
        self.position_embedding = nn.Embedding(config.num_patches, patches) if positions else None
        pooled = config.add_pooled_embedding
        self.pooled_proj = nn.Linear(config.image_embedding_size, qformer.hidden_size) if pooled else None

    def forward(
        self,
        patches: torch.Tensor,
        image_embeds: torch.Tensor | None,
        guidance: ImageGuidance | None = None,
        context: ImageContext | None = None,
        query_text: QueryText | None = None,
    ) -> torch.Tensor:
        """Patches (B·N, P, d_v) and, with `add_pooled_embedding`, L2-normalised embeddings (B·N, d_img) → latents
        (B·N, M, d_s).

        Args:
            guidance, context: Of the other images, see [`ImageGuidance`].
            query_text: What a Q-Former with `qformer_text` needs.

        Raises:
            ValueError: The Q-Former reads text, and there is none.
        """
        if self.reads_text and query_text is None:
            raise ValueError(
                "the Q-Former reads the prompt's text, too: pass qformer_input_ids, which this model's processor makes."
            )
        num_latents = self.query_tokens.shape[1]
        queries = self.query_tokens.expand(patches.shape[0], -1, -1)
        if not self.reads_text:
            queries, mask = self.former.embeddings(query_embeds=queries), None
        else:
            queries = self.former.embeddings(input_ids=query_text.ids, query_embeds=queries)
            mask = torch.cat([query_text.mask.new_ones(queries.shape[0], num_latents), query_text.mask], dim=1)
            mask = create_bidirectional_mask(self.former.config, queries, mask)
        layers = [_called(layer, mask, num_latents) for layer in self.former.encoder.layer]
        read = self._read(patches)
        if guidance is None:
            states = queries
            for layer in layers:
                states = layer(states, read)
        else:
            states = guidance(layers, queries, read, context, self._read)
        latents = states[:, :num_latents]
        if self.pooled_proj is not None:
            latents = latents + self.pooled_proj(image_embeds)[:, None]
        return latents

    def _read(self, patches: torch.Tensor) -> torch.Tensor:
        if self.position_embedding is None:
            return patches
        # By a call, not by its weight: hooks of accelerate load what is offloaded when a module is called.
        return patches + self.position_embedding(torch.arange(patches.shape[1], device=patches.device))


def _called(layer: nn.Module, mask: torch.Tensor | None, num_latents: int) -> Layer:
    def call(states: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        return layer(states, mask, patches, query_length=num_latents)

    return call


__all__ = ["QFormerSampler", "QueryText"]
