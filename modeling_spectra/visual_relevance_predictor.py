"""Visual Relevance Predictor (§4): how probable it is that an image belongs to the summary."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils.generic import maybe_autocast

from .configuration_spectra import SpectraSumConfig


def set_features(image_embeds: torch.Tensor, image_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the other images of the article say about each image.

    Args:
        image_embeds: (B, N, d_img), L2-normalised.
        image_mask: (B, N), true on real images.

    Returns:
        The mean of the other images (B, N, d_img), 0 for an only image, and the largest cosine to them (B, N, 1),
        −1 for an only image.
    """
    real = image_mask[..., None].to(image_embeds.dtype)
    others = (real.sum(1, keepdim=True) - real).clamp(min=1)
    mean_of_others = ((image_embeds * real).sum(1, keepdim=True) - image_embeds * real) / others
    similarity = image_embeds @ image_embeds.transpose(1, 2)
    itself = torch.eye(image_mask.shape[1], dtype=torch.bool, device=image_mask.device)
    similarity = similarity.masked_fill(itself | ~image_mask[:, None, :], -1.0)
    return mean_of_others, similarity.amax(-1, keepdim=True)


class VisualRelevancePredictor(nn.Module):
    """§4: ℓ_i = MLP(features of image i), two layers with GELU and dropout; p̂_i = σ(ℓ_i).

    With `vrp_context="none"` the only feature is v_i, as in the paper. `"article"` reads [v_i ; a ; v_i ⊙ W a], where a
    is the mean input embedding of the article's tokens; `"article_set"` adds the mean of the other images and the
    largest similarity to them.

    Args:
        config (`SpectraSumConfig`): `vrp_context`, `vrp_hidden_size`, `vrp_dropout`.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        self.context = config.vrp_context
        image_size, article_size = config.image_embedding_size, config.text_config.hidden_size
        feature_size = image_size
        if self.context != "none":
            self.article_proj = nn.Linear(article_size, image_size, bias=False)
            feature_size += article_size + image_size
        if self.context == "article_set":
            feature_size += image_size + 1
        self.up_proj = nn.Linear(feature_size, config.vrp_hidden_size)
        self.dropout = nn.Dropout(config.vrp_dropout)
        self.down_proj = nn.Linear(config.vrp_hidden_size, 1)

    def forward(
        self, image_embeds: torch.Tensor, image_mask: torch.Tensor, article_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Embeddings (B, N, d_img) L2-normalised, mask (B, N), article means (B, d) → logits (B, N).

        Logits of padded images are finite and mean nothing. Computed in the predictor's own dtype, under
        autocast, too.
        """
        with maybe_autocast(image_embeds.device.type, enabled=False):
            return self._logits(image_embeds, image_mask, article_embeds)

    def _logits(
        self, image_embeds: torch.Tensor, image_mask: torch.Tensor, article_embeds: torch.Tensor | None
    ) -> torch.Tensor:
        dtype = self.up_proj.weight.dtype
        # The entries of a unit vector shrink with its width; at unit variance every feature is learnt at the same rate.
        scale = image_embeds.shape[-1] ** 0.5
        image_embeds = image_embeds.to(dtype)
        features = [image_embeds * scale]
        if self.context != "none":
            # Input embeddings are a hundred times smaller than unit vectors; without the norm the MLP ignores them.
            article = F.layer_norm(article_embeds.float(), article_embeds.shape[-1:]).to(dtype)
            article = article[:, None].expand(-1, image_embeds.shape[1], -1)
            features += [article, image_embeds * scale * self.article_proj(article)]
        if self.context == "article_set":
            mean_of_others, largest_similarity = set_features(image_embeds, image_mask)
            features += [mean_of_others * scale, largest_similarity]
        hidden = self.dropout(F.gelu(self.up_proj(torch.cat(features, dim=-1))))
        return self.down_proj(hidden).squeeze(-1)
