"""Alignment head (§6): where the summary meets the image embeddings, and the temperature of that meeting."""

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_spectra import SpectraSumConfig


class AlignmentHead(nn.Module):
    """§6: z = normalise(projection(mean hidden state of the summary)); τ is trained with it.

    Projection and τ live in the model, so that they are optimised and saved with it.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        self.init_temperature = config.alignment_temperature
        self.projection = nn.Linear(config.text_config.hidden_size, config.image_embedding_size)
        self.log_temperature = nn.Parameter(torch.empty(1))

    @property
    def temperature(self) -> torch.Tensor:
        """τ, a positive scalar."""
        return self.log_temperature.exp().squeeze()

    def forward(self, hidden_states: torch.Tensor, summary_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states (B, T, d) and the summary's positions (B, T) → summary embeddings z (B, d_img), normalised, and τ.

        τ comes with them since an offloaded parameter is there during the forward pass alone.
        """
        weights = summary_mask.to(hidden_states.device, hidden_states.dtype)
        mean = (weights[:, None] @ hidden_states).squeeze(1) / weights.sum(1, keepdim=True).clamp(min=1)
        return F.normalize(self.projection(mean.to(self.projection.weight.dtype)), dim=-1), self.temperature
