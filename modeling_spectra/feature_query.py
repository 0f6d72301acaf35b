"""Deep features of the vision tower query its shallow ones (§11: MMFuser, Cao et al., 2024)."""

import torch
from torch import nn

from .configuration_spectra import SpectraSumConfig
from .visual_layers import VisualAttention, VisualRMSNorm


class FeatureQuery(nn.Module):
    """F ← F_L + γ₁ ⊙ CrossAttention(F_L, [F_1 … F_L₋₁]), then F ← F + γ₂ ⊙ SelfAttention(F), on normed features.

    F_1 … F_L are the patches of `vision_feature_layers`, the last of which are the deep ones. γ₁ and γ₂ (d_v) start at
    zero: a new model reads the deep features alone.

    Args:
        config (`SpectraSumConfig`): `vision_feature_layers`; the heads are the vision tower's.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        size = config.patch_embedding_size
        heads = getattr(config.vision_config, "num_attention_heads", 1)
        self.deep_norm = VisualRMSNorm(size, config.norm_eps)
        self.shallow_norm = VisualRMSNorm(size, config.norm_eps)
        self.cross_attention = VisualAttention(config, size, heads)
        self.cross_scale = nn.Parameter(torch.empty(size))
        self.self_norm = VisualRMSNorm(size, config.norm_eps)
        self.self_attention = VisualAttention(config, size, heads)
        self.self_scale = nn.Parameter(torch.empty(size))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (images, P, L·d_v), layer behind layer → (images, P, d_v)."""
        *shallow, deep = patches.split(self.self_scale.shape[0], dim=-1)
        keys_values = self.cross_attention.project_key_values(self.shallow_norm(torch.cat(shallow, dim=1)))
        read = self.cross_attention(self.deep_norm(deep), *keys_values)[0]
        states = deep + self.cross_scale.to(deep.dtype) * read
        normed = self.self_norm(states)
        read = self.self_attention(normed, *self.self_attention.project_key_values(normed))[0]
        return states + self.self_scale.to(deep.dtype) * read


__all__ = ["FeatureQuery"]
