"""Deep Visual Processor (§2): a transformer over all latents of an article, one visual state per text layer."""

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_spectra import SpectraSumConfig
from .visual_layers import FeedForward, VisualAttention, VisualRMSNorm


class DeepVisualProcessorBlock(GradientCheckpointingLayer):
    """Pre-norm self-attention and feed-forward over the visual states (B, N·M, d)."""

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        size, scale = config.text_config.hidden_size, config.dvp_output_init_scale
        self.attention_norm = VisualRMSNorm(size, config.norm_eps)
        self.attention = VisualAttention(config, size, config.dvp_num_heads, output_init_scale=scale)
        self.feed_forward_norm = VisualRMSNorm(size, config.norm_eps)
        self.feed_forward = FeedForward(size, config.dvp_feed_forward_multiplier, config.hidden_act, scale)

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        normed = self.attention_norm(states)
        states = states + self.attention(normed, *self.attention.project_key_values(normed), attention_mask)[0]
        return states + self.feed_forward(self.feed_forward_norm(states))


class DeepVisualProcessor(nn.Module):
    """§2: V⁰ are the latents plus an embedding of the image's index; Vˡ = Block_l(Vˡ⁻¹), l = 1..K.

    Args:
        config (`SpectraSumConfig`): `dvp_*`, `max_images`, and `gate_layers`, whose states are returned.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        self.config = config
        self.image_index_embedding = nn.Embedding(config.max_images, config.text_config.hidden_size)
        # Blocks after the last gate would feed nothing and be trained by nothing.
        depth = min(config.dvp_num_layers, max(config.gate_layers))
        self.blocks = nn.ModuleList(DeepVisualProcessorBlock(config) for _ in range(depth))

    def forward(self, latents: torch.Tensor, state_mask: torch.Tensor) -> dict[int, torch.Tensor]:
        """Latents (B, N, M, d) → {gate layer l: Vˡ (B, N·M, d)}.

        `state_mask` (B, N·M) is true on the latents that may be attended to; each row needs at least one.
        """
        # By a call, not by its weight: hooks of accelerate load what is offloaded when a module is called.
        index_embedding = self.image_index_embedding(torch.arange(latents.shape[1], device=latents.device))
        states = (latents + index_embedding[:, None].to(latents.device)).flatten(1, 2)
        attention_mask = create_bidirectional_mask(self.config, states, state_mask.to(states.device))
        states_by_layer = {}
        for layer, block in enumerate(self.blocks, start=1):
            states = block(states, attention_mask)
            if layer in self.config.gate_layers:
                states_by_layer[layer] = states
        return states_by_layer
