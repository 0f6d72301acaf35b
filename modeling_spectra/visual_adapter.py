"""Adapters in a frozen language model that carry the images in (§10)."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .configuration_spectra import SpectraSumConfig
from .fusion_layer import FusionLayer
from .visual_layers import ScaledLinear, VisualAttention, VisualRMSNorm


class VisualAdapter(FusionLayer):
    """§10: H ← H + W_up φ(W_down H + CrossAttention_r(W_down H, V)), in the rank r of the adapter; W_up starts at zero.

    H is normed before W_down, as the gates norm it: a decoder's hidden states have channels that are hundreds of times the
    others. CrossAttention_r has one head.

    Args:
        config (`SpectraSumConfig`): `adapter_rank`, `visual_norm`.
        state_size (`int`): Width d_s of the visual states.
    """

    def __init__(self, config: SpectraSumConfig, state_size: int):
        super().__init__()
        size, rank = config.text_config.hidden_size, config.adapter_rank
        self.query_norm = VisualRMSNorm(size, config.norm_eps)
        self.visual_norm = VisualRMSNorm(state_size, config.norm_eps) if config.visual_norm else nn.Identity()
        self.down_proj = nn.Linear(size, rank)
        self.attention = VisualAttention(
            config, rank, 1, query_key_init_scale=config.cross_attention_init_scale, key_value_size=state_size
        )
        self.activation = ACT2FN[config.hidden_act]
        self.up_proj = ScaledLinear(rank, size, bias=True, init_scale=0.0)

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
        narrow = self.down_proj(self.query_norm(hidden_states))
        attended, weights = self.attention(narrow, keys, values, attention_mask)
        update = self.up_proj(self.activation(narrow + attended))
        hidden_states = hidden_states + torch.where(has_image[:, None, None], update, 0.0)
        if weights is not None:
            weights = torch.where(has_image[:, None, None, None], weights, 0.0)
        return hidden_states, weights


__all__ = ["VisualAdapter"]
