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
    largest similarity to them. With `vrp_image_texts` it also adds [c_i ; c_i ⊙ a], where c_i is the mean input embedding of
    the image's caption, 0 where there is none (§12): a and c_i lie in one space, and compare without a projection.

    Args:
        config (`SpectraSumConfig`): `vrp_context`, `vrp_image_texts`, `vrp_hidden_size`, `vrp_dropout`.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        self.context = config.vrp_context
        self.reads_image_texts = config.vrp_image_texts
        image_size, article_size = config.image_embedding_size, config.text_config.hidden_size
        feature_size = image_size
        if self.context != "none":
            self.article_proj = nn.Linear(article_size, image_size, bias=False)
            feature_size += article_size + image_size
        if self.context == "article_set":
            feature_size += image_size + 1
        if self.reads_image_texts:
            feature_size += 2 * article_size
        self.up_proj = nn.Linear(feature_size, config.vrp_hidden_size)
        self.dropout = nn.Dropout(config.vrp_dropout)
        self.down_proj = nn.Linear(config.vrp_hidden_size, 1)

    def forward(
        self,
        image_embeds: torch.Tensor,
        image_mask: torch.Tensor,
        article_embeds: torch.Tensor | None = None,
        image_text_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embeddings (B, N, d_img) L2-normalised, mask (B, N), article means (B, d), image text means (B, N, d) → logits
        (B, N). Without image texts a predictor that reads them takes all of them for 0.

        Logits of padded images are finite and mean nothing. Computed in the predictor's own dtype, under
        autocast, too.
        """
        with maybe_autocast(image_embeds.device.type, enabled=False):
            return self._logits(image_embeds, image_mask, article_embeds, image_text_embeds)

    def _logits(
        self,
        image_embeds: torch.Tensor,
        image_mask: torch.Tensor,
        article_embeds: torch.Tensor | None,
        image_text_embeds: torch.Tensor | None,
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
        if self.reads_image_texts:
            texts = torch.zeros_like(article)
            if image_text_embeds is not None:
                # The norm of 0 is 0: no text stays none.
                texts = F.layer_norm(image_text_embeds.float(), image_text_embeds.shape[-1:]).to(dtype)
            features += [texts, texts * article]
        hidden = self.dropout(F.gelu(self.up_proj(torch.cat(features, dim=-1))))
        return self.down_proj(hidden).squeeze(-1)
