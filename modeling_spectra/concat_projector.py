"""The OneVision variant (§7): an image's patches as visual tokens of the prompt."""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .configuration_spectra import SpectraSumConfig


class ConcatProjector(nn.Module):
    """The OneVision variant (§7): patches → visual tokens of the prompt, as LLaVA-OneVision does for several images."""

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        size = config.text_config.hidden_size
        self.linear_1 = nn.Linear(config.patch_embedding_size, size)
        self.activation = ACT2FN[config.projector_hidden_act]
        self.linear_2 = nn.Linear(size, size)
        self.image_newline = nn.Parameter(torch.empty(size))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (B, N, P, d_v) → visual tokens (B, N, P + 1, d), the last one of each image being its newline."""
        tokens = self.linear_2(self.activation(self.linear_1(patches)))
        return torch.cat([tokens, self.image_newline.expand(*tokens.shape[:2], 1, -1)], dim=2)


def insert_visual_tokens(
    input_ids: torch.Tensor | None,
    inputs_embeds: torch.Tensor,
    tokens: torch.Tensor,
    images: torch.Tensor,
    image_token_id: int,
) -> torch.Tensor:
    """The input embeddings (B, T, d) with the images' tokens (B, N, S, d) in the placeholders' places (§7, `"concat"`).

    Args:
        input_ids: (B, T), with S placeholders `image_token_id` per image.
        images: (B, N), −1 where there is no image.

    Raises:
        ValueError: without `input_ids`, or when the numbers of placeholders and images differ.
    """
    if input_ids is None:
        raise ValueError('fusion="concat" finds its image placeholders in input_ids; inputs_embeds have none.')
    placeholders = input_ids == image_token_id
    real = images >= 0
    expected = real.sum(1) * tokens.shape[2]
    if not torch.equal(placeholders.sum(1), expected):
        raise ValueError(
            f"the prompts hold {placeholders.sum(1).tolist()} image placeholders, but their images need "
            f"{expected.tolist()}; build the prompt with this model's processor."
        )
    return inputs_embeds.masked_scatter(placeholders[..., None], tokens[real].to(inputs_embeds.dtype))


__all__ = ["ConcatProjector", "insert_visual_tokens"]
