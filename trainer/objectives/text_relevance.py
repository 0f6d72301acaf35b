"""The relevance of an image by its pixels or by its caption, whichever is larger; not of the paper."""

import torch
from torch import Tensor


def larger_relevance(
    image_relevance: Tensor, text_relevance: Tensor, image_mask: Tensor, text_mask: Tensor, scale: float
) -> Tensor:
    """The larger of two relevances, each counted from its mean over the article's images.

    Cosines of two texts lie far above those of a text and an image, so that the raw ones cannot be compared. Within one
    kind an offset says nothing: the DPP's marginals are the same for r and r + c. Counted from their means, an image of
    middling caption and one of middling pixels are worth the same, and what is left to declare is how the spreads compare.
    Dividing each by its own spread would not do: of two captions it would make as much of .701 and .702 as of .6 and .8.

    Args:
        image_relevance (`torch.Tensor` of shape `(B, N)`, float64): cosines of the summary and the images.
        text_relevance (`torch.Tensor` of shape `(B, N)`, float64): cosines of the summary and the images' texts.
        image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images.
        text_mask (`torch.Tensor` of shape `(B, N)`, bool): true on images that have a text. A single text of an article has
            nothing to be compared with and is not counted.
        scale (`float`): what a difference between two text cosines is worth, as a difference of image cosines.

    Returns:
        `torch.Tensor` of shape `(B, N)`, float64: 0 at padded images.
    """
    text_mask = text_mask & image_mask
    text_mask = text_mask & (text_mask.sum(-1, keepdim=True) > 1)
    of_images = _from_mean(image_relevance, image_mask)
    of_texts = (scale * _from_mean(text_relevance, text_mask)).masked_fill(~text_mask, -torch.inf)
    return torch.maximum(of_images, of_texts).masked_fill(~image_mask, 0.0)


def _from_mean(values: Tensor, mask: Tensor) -> Tensor:
    values = values.masked_fill(~mask, 0.0)
    return values - values.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
