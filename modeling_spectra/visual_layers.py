"""Attention, feed-forward and norm that the Vision Sampler, the Deep Visual Processor and the gates share."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


class VisualRMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, computed in float32; the output has the input's dtype, the weight its own."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        normed = F.rms_norm(states.float(), (states.shape[-1],), eps=self.eps)
        return (self.weight * normed).to(states.dtype)


class ScaledLinear(nn.Linear):
    """A linear layer whose initial standard deviation is `init_scale` times the usual one."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool, init_scale: float):
        super().__init__(in_features, out_features, bias=bias)
        self.init_scale = init_scale


class FeedForward(nn.Module):
    """Two linear layers with an activation between them: (..., d) → (..., multiplier · d) → (..., d).

    `output_init_scale` is a factor on the initial spread of the second layer.
    """

    def __init__(self, size: int, multiplier: int, activation: str, output_init_scale: float = 1.0):
        super().__init__()
        self.up_proj = nn.Linear(size, size * multiplier)
        self.activation = ACT2FN[activation]
        self.down_proj = ScaledLinear(size * multiplier, size, bias=True, init_scale=output_init_scale)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.activation(self.up_proj(states)))


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain attention; returns the output (B, T, heads, head_dim) and the weights (B, heads, T, S)."""
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class VisualAttention(nn.Module):
    """Multi-head attention without positions, through transformers' attention interface.

    Args:
        config (`PreTrainedConfig`): Names the attention implementation; it is read at each call.
        size (`int`): Width d of queries, keys and values.
        num_heads (`int`): Number of heads; divides `size`.
        query_key_init_scale (`float`, *optional*, defaults to `1.0`): Factor on the initial spread of query and key
            projections.
        output_init_scale (`float`, *optional*, defaults to `1.0`): The same for the output projection.
        key_value_size (`int`, *optional*): Width of what keys and values are made of; `size` by default.
    """

    # Without this attribute SDPA treats the module as causal, and with no mask it even crops the keys.
    is_causal = False

    def __init__(
        self,
        config: PreTrainedConfig,
        size: int,
        num_heads: int,
        query_key_init_scale: float = 1.0,
        output_init_scale: float = 1.0,
        key_value_size: int | None = None,
    ):
        super().__init__()
        key_value_size = key_value_size or size
        self.config = config
        self.num_heads = num_heads
        self.head_dim = size // num_heads
        self.scaling = self.head_dim**-0.5
        self.q_proj = ScaledLinear(size, size, bias=False, init_scale=query_key_init_scale)
        self.k_proj = ScaledLinear(key_value_size, size, bias=False, init_scale=query_key_init_scale)
        self.v_proj = nn.Linear(key_value_size, size, bias=False)
        self.o_proj = ScaledLinear(size, size, bias=False, init_scale=output_init_scale)

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def project_key_values(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States (B, S, `key_value_size`) → keys and values, each (B, heads, S, head_dim)."""
        return self._split_heads(self.k_proj(states)), self._split_heads(self.v_proj(states))

    def forward(
        self,
        query_states: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend from (B, T, d) to keys and values (B, heads, S, head_dim).

        `attention_mask` is in the format of the attention implementation (`create_bidirectional_mask` makes it). Returns
        the output (B, T, d) and the weights (B, heads, T, S); the weights are None unless the implementation is eager.
        """
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = attention(
            self, self._split_heads(self.q_proj(query_states)), keys, values, attention_mask, scaling=self.scaling
        )
        return self.o_proj(output.flatten(2)), weights
