"""What adapters and feature modulation share: hidden states of a small rank that read the visual states."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .configuration_spectra import SpectraSumConfig
from .visual_layers import VisualAttention, VisualRMSNorm


class VisualBottleneck(nn.Module):
    """φ(c + CrossAttention_r(c, V)) with c = W_down H; the attention has one head, of the rank r.

    Args:
        config (`SpectraSumConfig`): `visual_norm`, `cross_attention_init_scale`, `hidden_act`.
        rank (`int`): r.
        state_size (`int`): Width d_s of the visual states.
    """

    def __init__(self, config: SpectraSumConfig, rank: int, state_size: int):
        super().__init__()
        self.visual_norm = VisualRMSNorm(state_size, config.norm_eps) if config.visual_norm else nn.Identity()
        self.down_proj = nn.Linear(config.text_config.hidden_size, rank)
        self.attention = VisualAttention(
            config, rank, 1, query_key_init_scale=config.cross_attention_init_scale, key_value_size=state_size
        )
        self.activation = ACT2FN[config.hidden_act]

    def project_key_values(self, visual_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Visual states (B, S, d_s) → keys and values (B, 1, S, r)."""
        return self.attention.project_key_values(self.visual_norm(visual_states))

    def forward(
        self,
        hidden_states: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attention_mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Normed hidden states (B, T, d) → (B, T, r), and the attention weights (B, 1, T, S), as of [`VisualAttention`]."""
        narrow = self.down_proj(hidden_states)
        attended, weights = self.attention(narrow, keys, values, attention_mask)
        return self.activation(narrow + attended), weights


__all__ = ["VisualBottleneck"]
