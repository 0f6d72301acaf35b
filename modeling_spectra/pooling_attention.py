"""The attention of SigLIP's pooling head, with every weight read by the forward pass of the module that holds it."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead


class PoolingAttention(nn.Module):
    """What `nn.MultiheadAttention` computes for a pooling head, in the same operations and with the same parameters.

    torch's class reads the weight of its output projection without calling it, where accelerate's hooks would load it: a
    tower that is offloaded to CPU or disk fails there.

    Args:
        attention (`nn.MultiheadAttention`): Whose parameters, under the same names, are taken over; batch first.
    """

    def __init__(self, attention: nn.MultiheadAttention):
        super().__init__()
        self.num_heads = attention.num_heads
        self.in_proj_weight = attention.in_proj_weight
        self.in_proj_bias = attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Query (B, T, d), key and value (B, S, d), which are the same → output (B, T, d)."""
        size = query.shape[-1]
        weights, biases = (part.split([size, 2 * size]) for part in (self.in_proj_weight, self.in_proj_bias))
        queries = self._split_heads(F.linear(query, weights[0], biases[0]))
        keys, values = map(self._split_heads, F.linear(key, weights[1], biases[1]).chunk(2, dim=-1))
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
        attended = scores.softmax(dim=-1) @ values
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def replace_pooling_attention(tower: nn.Module) -> None:
    """Give the pooling head of a SigLIP tower, if it has one, a [`PoolingAttention`] in place of torch's."""
    for module in tower.modules():
        if isinstance(module, SiglipMultiheadAttentionPoolingHead):
            module.attention = PoolingAttention(module.attention)


__all__ = ["PoolingAttention", "replace_pooling_attention"]
