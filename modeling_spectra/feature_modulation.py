"""Vision-conditioned modulation of a decoder layer's norm (§11: LaVi, Yue et al., 2025)."""

from typing import ClassVar

import torch
from torch.nn import functional as F

from .configuration_spectra import SpectraSumConfig
from .fusion_layer import FusionLayer, of_images
from .visual_bottleneck import VisualBottleneck
from .visual_layers import ScaledLinear


class FeatureModulation(FusionLayer):
    """§11: norm(H) ⊙ (γ + Δγ(H, V)) + Δβ(H, V) in the place of norm(H) ⊙ γ, in front of a layer's self-attention.

    [Δγ, Δβ] = W φ(c + CrossAttention_r(c, V)) with c = W_down norm(H), token by token: the conditioning module; W starts at
    zero. γ stays the language model's own.

    Args:
        config (`SpectraSumConfig`): `modulation_rank`, and what [`VisualBottleneck`] reads.
        state_size (`int`): Width d_s of the visual states.
    """

    changes_norm: ClassVar[bool] = True

    def __init__(self, config: SpectraSumConfig, state_size: int):
        super().__init__()
        size, rank = config.text_config.hidden_size, config.modulation_rank
        self.eps = config.text_config.rms_norm_eps
        self.bottleneck = VisualBottleneck(config, rank, state_size)
        self.delta_proj = ScaledLinear(rank, 2 * size, bias=True, init_scale=0.0)

    def project_visual_states(self, visual_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.bottleneck.project_key_values(visual_states)

    def forward(
        self,
        hidden_states: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attention_mask: torch.Tensor | None,
        has_image: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """norm(H) ⊙ Δγ + Δβ (B, T, d), which is to be added to the layer's normalized input, and the attention weights."""
        normed = F.rms_norm(hidden_states.float(), hidden_states.shape[-1:], eps=self.eps).to(hidden_states.dtype)
        narrow, weights = self.bottleneck(normed, keys, values, attention_mask)
        scale, shift = self.delta_proj(narrow).chunk(2, dim=-1)
        return of_images(normed * scale + shift, has_image), of_images(weights, has_image)


__all__ = ["FeatureModulation"]
