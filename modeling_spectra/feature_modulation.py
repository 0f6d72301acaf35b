"""Vision-conditioned modulation of a decoder layer's norm (§11: LaVi, Yue et al., 2025)."""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from .configuration_spectra import SpectraSumConfig
from .fusion_layer import FusionLayer
from .visual_layers import ScaledLinear, VisualAttention, VisualRMSNorm


class FeatureModulation(FusionLayer):
    """§11: norm(H) ⊙ (γ + Δγ(H, V)) + Δβ(H, V) in the place of norm(H) ⊙ γ, in front of a layer's self-attention.

    [Δγ, Δβ] = W φ(c + CrossAttention_r(c, V)) with c = W_down norm(H), token by token: the conditioning module, of one head
    and rank r; W starts at zero. γ stays the language model's own.

    Args:
        config (`SpectraSumConfig`): `modulation_rank`, `visual_norm`.
        state_size (`int`): Width d_s of the visual states.
    """

    changes_norm: ClassVar[bool] = True

    def __init__(self, config: SpectraSumConfig, state_size: int):
        super().__init__()
        size, rank = config.text_config.hidden_size, config.modulation_rank
        self.eps = config.text_config.rms_norm_eps
        self.visual_norm = VisualRMSNorm(state_size, config.norm_eps) if config.visual_norm else nn.Identity()
        self.down_proj = nn.Linear(size, rank)
        self.attention = VisualAttention(
            config, rank, 1, query_key_init_scale=config.cross_attention_init_scale, key_value_size=state_size
        )
        self.activation = ACT2FN[config.hidden_act]
        self.delta_proj = ScaledLinear(rank, 2 * size, bias=True, init_scale=0.0)

    def project_visual_states(self, visual_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Visual states (B, S, d_s) → keys and values (B, 1, S, r)."""
        return self.attention.project_key_values(self.visual_norm(visual_states))

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
        condition = self.down_proj(normed)
        attended, weights = self.attention(condition, keys, values, attention_mask)
        scale, shift = self.delta_proj(self.activation(condition + attended)).chunk(2, dim=-1)
        change = torch.where(has_image[:, None, None], normed * scale + shift, 0.0)
        if weights is not None:
            weights = torch.where(has_image[:, None, None, None], weights, 0.0)
        return change, weights


__all__ = ["FeatureModulation"]
