"""Clustered tokens (§11, token sequence compression): k-means over an image's patches in the place of learned latents."""

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_spectra import SpectraSumConfig

# Of Lloyd's algorithm; assignments of some hundred patches settle before.
ITERATIONS = 10


class KMeansSampler(nn.Module):
    """M latents are the means of M clusters of an image's patches: no parameters but those of `add_pooled_embedding`.

    Clusters start at M patches that are spread evenly over the grid's rows, so that the same image always gives the same
    latents; a cluster that loses its last patch keeps its centre. Gradients reach the patches through the means.

    Args:
        config (`SpectraSumConfig`): `num_latents`, `add_pooled_embedding`.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        self.num_latents = config.num_latents
        pooled, width = config.add_pooled_embedding, config.patch_embedding_size
        self.pooled_proj = nn.Linear(config.image_embedding_size, width) if pooled else None

    def forward(self, patches: torch.Tensor, image_embeds: torch.Tensor | None) -> torch.Tensor:
        """Patches (B·N, P, d_v) and, with `add_pooled_embedding`, L2-normalised embeddings (B·N, d_img) → latents
        (B·N, M, d_v)."""
        assigned, centres = self._cluster(patches.detach().float())
        latents = _means(patches, assigned, centres.to(patches.dtype))
        if self.pooled_proj is not None:
            latents = latents + self.pooled_proj(image_embeds)[:, None]
        return latents

    def _cluster(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The cluster of each patch, as (images, P, M) of one 1 in each row, and the centres (images, M, d_v)."""
        count = patches.shape[1]
        # The middles of M parts of equal size.
        places = (2 * torch.arange(self.num_latents, device=patches.device) + 1) * count // (2 * self.num_latents)
        centres = patches[:, places]
        for _ in range(ITERATIONS):
            nearest = torch.cdist(patches, centres).argmin(dim=-1)
            assigned = F.one_hot(nearest, self.num_latents).to(patches.dtype)
            centres = _means(patches, assigned, centres)
        return assigned, centres


def _means(patches: torch.Tensor, assigned: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
    """Mean patch (images, M, d_v) of each cluster, `empty` where it has none."""
    sizes = assigned.sum(dim=1)[..., None].to(patches.dtype)
    sums = assigned.to(patches.dtype).transpose(1, 2) @ patches
    return torch.where(sizes > 0, sums / sizes.clamp(min=1), empty)


__all__ = ["KMeansSampler"]
