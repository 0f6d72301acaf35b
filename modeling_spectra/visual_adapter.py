"""Adapters in a frozen language model that carry the images in (§10)."""

import torch

from .configuration_spectra import SpectraSumConfig
from .fusion_layer import FusionLayer, of_images
from .visual_bottleneck import VisualBottleneck
from .visual_layers import ScaledLinear, VisualRMSNorm


class VisualAdapter(FusionLayer):
    """§10: H ← H + W_up φ(W_down H + CrossAttention_r(W_down H, V)), in the rank r of the adapter; W_up starts at zero.

    H is normed before W_down, as the gates norm it: a decoder's hidden states have channels that are hundreds of times the
    others.

    Args:
        config (`SpectraSumConfig`): `adapter_rank`, and what [`VisualBottleneck`] reads.
        state_size (`int`): Width d_s of the visual states.
    """

    def __init__(self, config: SpectraSumConfig, state_size: int):
        super().__init__()
        size, rank = config.text_config.hidden_size, config.adapter_rank
        self.query_norm = VisualRMSNorm(size, config.norm_eps)
        self.bottleneck = VisualBottleneck(config, rank, state_size)
        self.up_proj = ScaledLinear(rank, size, bias=True, init_scale=0.0)

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
        narrow, weights = self.bottleneck(self.query_norm(hidden_states), keys, values, attention_mask)
        return hidden_states + of_images(self.up_proj(narrow), has_image), of_images(weights, has_image)


__all__ = ["VisualAdapter"]
