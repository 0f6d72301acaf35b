"""The attention of SigLIP's pooling head, with every weight read by the forward pass of the module that holds it."""

import math

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
        # Positions first, as in torch: published models give the same numbers to the bit.
        queries = self._split_heads(F.linear(query.transpose(0, 1), weights[0], biases[0]))
        projected = F.linear(key.transpose(0, 1), weights[1], biases[1])
        keys, values = (self._split_heads(part.contiguous()) for part in projected.split(size, dim=-1))
        scores = torch.bmm(queries * math.sqrt(1.0 / queries.shape[-1]), keys.transpose(1, 2))
        attended = torch.bmm(scores.softmax(dim=-1), values).transpose(0, 1).reshape(-1, size)
        return self.out_proj(attended).view(query.shape[1], query.shape[0], size).transpose(0, 1), None

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        """(T, B, d) → (B · heads, T, head_dim)."""
        length, batch_size, size = states.shape
        return states.view(length, batch_size * self.num_heads, size // self.num_heads).transpose(0, 1)


def replace_pooling_attention(tower: nn.Module) -> None:
    """Give the pooling head of a SigLIP tower, if it has one, a [`PoolingAttention`] in place of torch's."""
    for module in tower.modules():
        if isinstance(module, SiglipMultiheadAttentionPoolingHead):
            module.attention = PoolingAttention(module.attention)


__all__ = ["PoolingAttention", "replace_pooling_attention"]
