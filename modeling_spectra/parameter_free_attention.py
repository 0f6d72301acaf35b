"""Cross-attention without projections (§11: ADEM-VL, Hao et al., 2024): hidden states attend to visual states as they are."""

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_spectra import SpectraSumConfig


class ParameterFreeAttention(nn.Module):
    """softmax(n(H) n(V)ᵀ / √d) n(V) over the strongest share of an article's visual states, chosen for each token; n is a
    root-mean-square norm without weights.

    The attention implementation has no say: the scores decide which states are left out before the softmax.

    Args:
        config (`SpectraSumConfig`): `keep_share`, `norm_eps`.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        self.keep_share = config.keep_share
        self.eps = config.norm_eps

    def _normed(self, states: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(states.float(), states.shape[-1:], eps=self.eps).to(states.dtype)

    def project_key_values(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States (B, S, d) → the normed states as keys and values, each (B, 1, S, d)."""
        normed = self._normed(states)[:, None]
        return normed, normed

    def forward(
        self,
        query_states: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend from (B, T, d) to (B, 1, S, d) → the output (B, T, d) and the weights (B, 1, T, S).

        `attention_mask` is in the format of any attention implementation (`create_bidirectional_mask` makes it).
        """
        queries = self._normed(query_states)[:, None]
        scores = (queries @ keys.transpose(2, 3)).float() * queries.shape[-1] ** -0.5
        allowed = torch.ones_like(scores, dtype=torch.bool)
        if attention_mask is not None:
            # Eager attention adds its mask, 0 where one may attend.
            is_bool = attention_mask.dtype == torch.bool
            allowed = allowed & (attention_mask if is_bool else attention_mask == 0)
        scores = scores.masked_fill(~allowed, -torch.inf)
        if self.keep_share < 1:
            kept = (allowed.sum(dim=-1, keepdim=True) * self.keep_share).ceil().long().clamp(min=1)
            weakest = scores.sort(dim=-1, descending=True).values.gather(-1, kept - 1)
            scores = scores.masked_fill(scores < weakest, -torch.inf)
        weights = scores.softmax(dim=-1).to(query_states.dtype)
        return (weights @ values).squeeze(1), weights


__all__ = ["ParameterFreeAttention"]
