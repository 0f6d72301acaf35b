"""Gated cross-attention (§3)."""

import torch
from torch import nn

from .configuration_spectra import SpectraSumConfig
from .fusion_layer import FusionLayer, of_images
from .parameter_free_attention import ParameterFreeAttention
from .visual_layers import FeedForward, VisualAttention, VisualRMSNorm


class TanhGate(nn.Module):
    """tanh(α) ⊙ x, with one α or one per channel."""

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        self.init_value = config.gate_init
        self.alpha = nn.Parameter(torch.empty(config.text_config.hidden_size if config.gate_type == "channel" else 1))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.alpha).to(states.dtype) * states

    @torch.no_grad()
    def opening(self) -> float:
        """Mean |tanh α|. A sharded α (DTensor) is averaged as a whole: every process must ask."""
        if hasattr(self.alpha, "full_tensor"):
            return self.alpha.full_tensor().tanh().abs().mean().item()
        # By a call: hooks of accelerate load an offloaded α when the module is called.
        device = "cpu" if self.alpha.is_meta else self.alpha.device
        return self(torch.ones(self.alpha.shape, device=device)).abs().mean().item()


class GatedCrossAttention(FusionLayer):
    """§3: H ← H + tanh(α) ⊙ CrossAttention(H W_q, V W_k, V W_v), and optionally a gated feed-forward.

    With `cross_attention="parameter_free"` the attention has neither projections nor norms with weights (§11), and α, the
    learned scale, is all that a layer adds.

    Args:
        config (`SpectraSumConfig`): `gate_*`, `cross_attention*`, `visual_norm`.
        state_size (`int`): Width d_s of the visual states.
    """

    def __init__(self, config: SpectraSumConfig, state_size: int):
        super().__init__()
        size = config.text_config.hidden_size
        if config.cross_attention == "parameter_free":
            self.query_norm = self.visual_norm = nn.Identity()
            self.attention = ParameterFreeAttention(config)
        else:
            self.query_norm = VisualRMSNorm(size, config.norm_eps)
            self.visual_norm = VisualRMSNorm(state_size, config.norm_eps) if config.visual_norm else nn.Identity()
            self.attention = VisualAttention(
                config,
                size,
                config.cross_attention_num_heads,
                query_key_init_scale=config.cross_attention_init_scale,
                key_value_size=state_size,
            )
        self.gate = TanhGate(config)
        self.feed_forward = None
        if config.gate_feed_forward:
            self.feed_forward_norm = VisualRMSNorm(size, config.norm_eps)
            self.feed_forward = FeedForward(size, config.dvp_feed_forward_multiplier, config.hidden_act)
            self.feed_forward_gate = TanhGate(config)

    def project_visual_states(self, visual_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Visual states Vˡ (B, S, d_s) → keys and values (B, heads, S, head_dim)."""
        return self.attention.project_key_values(self.visual_norm(visual_states))

    def forward(
        self,
        hidden_states: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attention_mask: torch.Tensor | None,
        has_image: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As in [`FusionLayer`]; the weights are None unless the attention implementation is eager or the attention
        parameter-free.
        """
        attended, weights = self.attention(self.query_norm(hidden_states), keys, values, attention_mask)
        hidden_states = hidden_states + of_images(self.gate(attended), has_image)
        if self.feed_forward is not None:
            update = self.feed_forward_gate(self.feed_forward(self.feed_forward_norm(hidden_states)))
            hidden_states = hidden_states + of_images(update, has_image)
        return hidden_states, of_images(weights, has_image)

    def opening(self) -> float:
        return self.gate.opening()


__all__ = ["GatedCrossAttention", "TanhGate"]
