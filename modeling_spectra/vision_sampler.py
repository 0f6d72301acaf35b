"""Vision Sampler (§1): a Perceiver resampler from the patches of an image to a few latents of the text's width."""

import torch
from torch import nn

from .configuration_spectra import SpectraSumConfig
from .image_guidance import ImageContext, ImageGuidance
from .visual_layers import FeedForward, VisualAttention, VisualRMSNorm


class VisionSamplerBlock(nn.Module):
    """Cross-attention from the latents to [patches ; latents], self-attention, feed-forward; pre-norm, residual."""

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        size, heads = config.text_config.hidden_size, config.sampler_num_heads
        self.patch_norm = VisualRMSNorm(size, config.norm_eps)
        self.cross_norm = VisualRMSNorm(size, config.norm_eps)
        self.cross_attention = VisualAttention(config, size, heads)
        self.self_norm = VisualRMSNorm(size, config.norm_eps)
        self.self_attention = VisualAttention(config, size, heads)
        self.feed_forward_norm = VisualRMSNorm(size, config.norm_eps)
        self.feed_forward = FeedForward(size, config.sampler_feed_forward_multiplier, config.hidden_act)

    def forward(self, latents: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        normed = self.cross_norm(latents)
        keys_values = self.cross_attention.project_key_values(torch.cat([self.patch_norm(patches), normed], dim=1))
        latents = latents + self.cross_attention(normed, *keys_values)[0]
        normed = self.self_norm(latents)
        latents = latents + self.self_attention(normed, *self.self_attention.project_key_values(normed))[0]
        return latents + self.feed_forward(self.feed_forward_norm(latents))


class VisionSampler(nn.Module):
    """§1: M trainable latent queries read an image's patches, `sampler_depth` times.

    Args:
        config (`SpectraSumConfig`): `num_latents`, `sampler_*`, `patch_position_embedding`, `add_pooled_embedding`.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        size = config.text_config.hidden_size
        self.patch_proj = nn.Linear(config.patch_embedding_size, size)
        self.position_embedding = nn.Embedding(config.num_patches, size) if config.patch_position_embedding else None
        self.latents = nn.Parameter(torch.empty(config.num_latents, size))
        self.blocks = nn.ModuleList(VisionSamplerBlock(config) for _ in range(config.sampler_depth))
        self.norm = VisualRMSNorm(size, config.norm_eps)
        self.pooled_proj = nn.Linear(config.image_embedding_size, size) if config.add_pooled_embedding else None

    def forward(
        self,
        patches: torch.Tensor,
        image_embeds: torch.Tensor | None,
        guidance: ImageGuidance | None = None,
        context: ImageContext | None = None,
    ) -> torch.Tensor:
        """Patches (B·N, P, d_v) and, with `add_pooled_embedding`, L2-normalised embeddings (B·N, d_img) → latents (B·N, M, d).

        `guidance` and `context` are of the other images, see [`ImageGuidance`].
        """
        read = self._read(patches)
        latents = self.latents.expand(patches.shape[0], -1, -1)
        if guidance is None:
            for block in self.blocks:
                latents = block(latents, read)
        else:
            latents = guidance(self.blocks, latents, read, context, self._read)
        latents = self.norm(latents)
        if self.pooled_proj is not None:
            latents = latents + self.pooled_proj(image_embeds)[:, None]
        return latents

    def _read(self, patches: torch.Tensor) -> torch.Tensor:
        patches = self.patch_proj(patches)
        if self.position_embedding is None:
            return patches
        # By a call, not by its weight: hooks of accelerate load what is offloaded when a module is called.
        return patches + self.position_embedding(torch.arange(patches.shape[1], device=patches.device))
