"""The per-article terms of L_distill and L_align (paper, training objectives; L_lm is the model's own loss).

Both return one term per article, 0 for an article without images: the trainer sums them and divides by the number of
articles of the optimizer step, so that one article in each of four batches equals four in one. All in float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation_loss(selection_logits: Tensor, marginals: Tensor, image_mask: Tensor, gamma: float) -> Tensor:
    """Per article: mean over its images of BCE(sigmoid(l_i), p_i), plus gamma·(sum_i sigmoid(l_i) - sum_i p_i)².

    Args:
        selection_logits (`torch.Tensor` of shape `(B, N)`): l, the predictor's logits.
        marginals (`torch.Tensor` of shape `(B, N)`): p, the teacher's labels; no gradient flows into them.
        image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images; padded ones are not read.
        gamma (`float`): weight of the set-size term.

    Returns:
        `torch.Tensor` of shape `(B,)`, float32.
    """
    logits = selection_logits.float().masked_fill(~image_mask, 0.0)
    labels = marginals.detach().float().masked_fill(~image_mask, 0.0)
    entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").masked_fill(~image_mask, 0.0)
    expected_size = logits.sigmoid().masked_fill(~image_mask, 0.0).sum(-1)
    return entropy.sum(-1) / image_mask.sum(-1).clamp(min=1) + gamma * (expected_size - labels.sum(-1)) ** 2


def alignment_loss(
    summary_embeds: Tensor,
    image_targets: Tensor,
    text_embeds: Tensor,
    negatives: Tensor,
    negative_mask: Tensor,
    *,
    temperature: Tensor,
    has_images: Tensor,
) -> Tensor:
    """Per article: -log sigmoid(s(z, v̄)) - mean_m log sigmoid(-s(z, v̄_m)) - mean_m log sigmoid(-s(t, v̄_m)).

    s(a, b) = <a, b> / tau, and m runs over the article's negatives; a mean over none is 0. The last term compares
    frozen embeddings: its only gradient is that of tau.

    Args:
        summary_embeds (`torch.Tensor` of shape `(B, d)`): z, the decoder's projected summary state, L2-normalised.
        image_targets (`torch.Tensor` of shape `(B, d)`): v̄, the embedding of the teacher's best images.
        text_embeds (`torch.Tensor` of shape `(B, d)`): t, the frozen embedding of the reference summary.
        negatives (`torch.Tensor` of shape `(Q, d)`): v̄_m of other articles; Q may be 0.
        negative_mask (`torch.Tensor` of shape `(B, Q)`, bool): true where v̄_m is a negative of the article.
        temperature (`torch.Tensor`, scalar): tau, positive.
        has_images (`torch.Tensor` of shape `(B,)`, bool): false where the article has no image and the term is 0.

    Returns:
        `torch.Tensor` of shape `(B,)`, float32.
    """
    # Under a bf16 autocast the products would lose the digits that 1 / tau magnifies.
    with torch.autocast(summary_embeds.device.type, enabled=False):
        z, targets = summary_embeds.float(), image_targets.detach().float()
        frozen_text, negatives = text_embeds.detach().float(), negatives.detach().float()
        temperature = temperature.float()

        def mean_log_repulsion(anchors: Tensor) -> Tensor:
            terms = F.logsigmoid(-(anchors @ negatives.mT) / temperature).masked_fill(~negative_mask, 0.0)
            return terms.sum(-1) / negative_mask.sum(-1).clamp(min=1)

        attraction = F.logsigmoid((z * targets).sum(-1) / temperature)
        loss = -attraction - mean_log_repulsion(z) - mean_log_repulsion(frozen_text)
        return loss.masked_fill(~has_images, 0.0)
