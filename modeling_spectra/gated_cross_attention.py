"""Gated cross-attention (§3) and its injection into a decoder by forward pre-hooks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_spectra import SpectraSumConfig
from .visual_layers import FeedForward, VisualAttention, VisualRMSNorm


class VisualKeyValues(NamedTuple):
    """What the gates read of an article, computed once and reused by every decoding step.

    keys, values: (B, gates, heads, S, head_dim) with S = images · latents, gates in the order of `gate_layers`.
    mask: (B, S), true on the latents of real images; a row without any is a text-only article.
    """

    keys: torch.Tensor
    values: torch.Tensor
    mask: torch.Tensor

    def repeat_interleave(self, repeats: int) -> "VisualKeyValues":
        """Repeat each article, as beam search repeats its inputs."""
        return VisualKeyValues(*(tensor.repeat_interleave(repeats, dim=0) for tensor in self))


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


class GatedCrossAttention(GradientCheckpointingLayer):
    """§3: H ← H + tanh(α) ⊙ CrossAttention(H W_q, V W_k, V W_v), and optionally a gated feed-forward.

    The module is checkpointed on its own, since hooks run outside the checkpoint of the decoder layer.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        size = config.text_config.hidden_size
        self.query_norm = VisualRMSNorm(size, config.norm_eps)
        self.visual_norm = VisualRMSNorm(size, config.norm_eps) if config.visual_norm else nn.Identity()
        self.attention = VisualAttention(
            config, size, config.cross_attention_num_heads, query_key_init_scale=config.cross_attention_init_scale
        )
        self.gate = TanhGate(config)
        self.feed_forward = None
        if config.gate_feed_forward:
            self.feed_forward_norm = VisualRMSNorm(size, config.norm_eps)
            self.feed_forward = FeedForward(size, config.dvp_feed_forward_multiplier, config.hidden_act)
            self.feed_forward_gate = TanhGate(config)

    def project_visual_states(self, visual_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Visual states Vˡ (B, S, d) → keys and values (B, heads, S, head_dim)."""
        return self.attention.project_key_values(self.visual_norm(visual_states))

    def forward(
        self,
        hidden_states: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attention_mask: torch.Tensor | None,
        has_image: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Add what the images say to the hidden states (B, T, d).

        Rows whose `has_image` (B,) is false stay exactly as they are. Returns the new hidden states and the attention
        weights (B, heads, T, S), zero in text-only rows and None unless the attention implementation is eager.
        """
        attended, weights = self.attention(self.query_norm(hidden_states), keys, values, attention_mask)
        row_has_image = has_image[:, None, None]
        hidden_states = hidden_states + torch.where(row_has_image, self.gate(attended), 0.0)
        if self.feed_forward is not None:
            update = self.feed_forward_gate(self.feed_forward(self.feed_forward_norm(hidden_states)))
            hidden_states = hidden_states + torch.where(row_has_image, update, 0.0)
        if weights is not None:
            weights = torch.where(row_has_image[..., None], weights, 0.0)
        return hidden_states, weights


@dataclass(frozen=True, eq=False)
class VisualContext:
    """What travels through the decoder as the argument `visual_context` of one forward pass.

    No tuple and no mapping, and without modules: accelerate's hooks take those apart, copy their lists and move all that they
    find in them, once per layer.

    Args:
        cross_attention: Gives the [`GatedCrossAttention`] of a layer (from 1), None where there is no gate. It asks the
            owner at each forward pass, so that a copy which PEFT trains is the one that runs.
        key_values: {layer from 1: (keys, values)}.
        attention_mask: In the format of the attention implementation.
        has_image: (B,).
        recorded_weights: A list to append each gate's attention weights to, or None.
    """

    cross_attention: Callable[[int], GatedCrossAttention | None]
    key_values: dict[int, tuple[torch.Tensor, torch.Tensor]]
    attention_mask: torch.Tensor | None
    has_image: torch.Tensor
    recorded_weights: list[torch.Tensor] | None


def inject_visual_context(
    module: nn.Module, args: tuple, kwargs: dict[str, Any], *, layer: int
) -> tuple[tuple, dict[str, Any]]:
    """Forward pre-hook of decoder layer `layer` (from 1): takes `visual_context` out and gates the layer's input."""
    context: VisualContext | None = kwargs.pop("visual_context", None)
    gated = None if context is None else context.cross_attention(layer)
    if gated is None:
        return args, kwargs
    hidden_states, weights = gated(args[0], *context.key_values[layer], context.attention_mask, context.has_image)
    # Only eager attention has weights.
    if context.recorded_weights is not None and weights is not None:
        context.recorded_weights.append(weights)
    return (hidden_states, *args[1:]), kwargs


def register_injection(decoder_layers: nn.ModuleList) -> None:
    """Register `inject_visual_context` on every decoder layer; nothing is stored on the layers themselves."""
    for layer, module in enumerate(decoder_layers, start=1):
        module.register_forward_pre_hook(partial(inject_visual_context, layer=layer), with_kwargs=True)
