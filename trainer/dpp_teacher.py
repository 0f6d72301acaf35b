"""The DPP teacher (paper, knowledge distillation of image selection): soft labels for the visual relevance predictor.

A determinantal point process over an article's images weighs relevance to the reference summary against similarity
among the images; an image's label is the probability that the process includes it. Everything is float64: with the
quality exp(beta * relevance), float32 gives marginals wrong in the second digit at beta 5 and NaN at beta 20.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

# 24 halvings leave the bracket of log s (at most about 36 wide, the logarithm of the float64 range of a spectrum)
# under 3e-6; for sums of sigmoids |f''| <= f', so two Newton steps then reach round-off.
BISECTION_STEPS = 24
NEWTON_STEPS = 2


def solve_scale(eigenvalues: Tensor, size: Tensor) -> Tensor:
    """Solve sum_m s·lambda_m / (1 + s·lambda_m) = size for s > 0, the scaling with an expected set size of `size`.

    Args:
        eigenvalues (`torch.Tensor` of shape `(B, N)`, float64): non-negative; zeros never contribute.
        size (`torch.Tensor` of shape `(B,)`, float64): above 0 and under the number of positive eigenvalues.

    Returns:
        `torch.Tensor` of shape `(B,)`, float64: s.
    """
    positive = eigenvalues > 0
    count = positive.sum(-1)
    largest = eigenvalues.amax(-1)
    smallest = eigenvalues.masked_fill(~positive, torch.inf).amin(-1)
    # The sum is at most count·s·largest, and at least count·s·smallest / (1 + s·smallest).
    low = torch.log(size / (count * largest))
    high = torch.log(size / ((count - size) * smallest))
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2
        scaled = middle.exp()[:, None] * eigenvalues
        too_many = (scaled / (1 + scaled)).sum(-1) > size
        high = torch.where(too_many, middle, high)
        low = torch.where(too_many, low, middle)
    log_scale = (low + high) / 2
    for _ in range(NEWTON_STEPS):
        scaled = log_scale.exp()[:, None] * eigenvalues
        excess = (scaled / (1 + scaled)).sum(-1) - size
        log_scale = log_scale - excess / (scaled / (1 + scaled) ** 2).sum(-1)
    return log_scale.exp()


def dpp_marginals(
    image_embeds: Tensor,
    relevance: Tensor,
    image_mask: Tensor,
    *,
    beta: float,
    sigma: float,
    kappa: int,
    epsilon: float,
) -> Tensor:
    """Inclusion probabilities p_i = (K_s)_ii of each article's images, with K_s = s·L (I + s·L)^-1 and tr K_s = kappa.

    L = diag(q) S diag(q) + epsilon·(trace / N)·I, q_i = exp(beta·r_i), S_ij = exp(-(1 - <v_i, v_j>) / sigma²). The
    rank is that of diag(q) S diag(q), where an eigenvalue of at most eps·N·max counts as zero. With
    kappa_n = min(kappa, rank), kappa_n = rank gives the limit s -> infinity, the diagonal of the projection on the
    eigenvectors of that rank: 1 for at most kappa independent images, equal shares of 1 for copies of one image.

    Args:
        image_embeds (`torch.Tensor` of shape `(B, N, d)`): L2-normalised image embeddings, any floating type.
        relevance (`torch.Tensor` of shape `(B, N)`): r, the cosine of each image to the summary.
        image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images, which may stand anywhere in the row;
            what stands at padded images is not read.
        beta (`float`): weight of relevance.
        sigma (`float`): width of the similarity kernel.
        kappa (`int`): expected size of the selected set.
        epsilon (`float`): share of the mean eigenvalue added to the diagonal.

    Returns:
        `torch.Tensor` of shape `(B, N)`, float64: the marginals; 0 at padded images, each row sums to kappa_n.

    Raises:
        ValueError: a number out of its range, shapes that do not agree, or a real image whose embedding is not
            finite or not normalised.
    """
    if beta < 0 or sigma <= 0 or kappa < 1 or epsilon < 0:
        raise ValueError(
            "the DPP teacher needs beta >= 0, sigma > 0, kappa >= 1 and epsilon >= 0, "
            f"got beta={beta}, sigma={sigma}, kappa={kappa}, epsilon={epsilon}"
        )
    if image_embeds.shape[:-1] != image_mask.shape or relevance.shape != image_mask.shape:
        raise ValueError(
            "image_embeds (B, N, d), relevance (B, N) and image_mask (B, N) do not agree: "
            f"{tuple(image_embeds.shape)}, {tuple(relevance.shape)}, {tuple(image_mask.shape)}"
        )
    if image_mask.numel() == 0:
        return relevance.new_zeros(image_mask.shape, dtype=torch.float64)

    padded = ~image_mask
    embeds = image_embeds.double()
    cosines = embeds @ embeds.mT
    relevance = relevance.double().masked_fill(padded, -torch.inf)
    if not ((cosines.diagonal(dim1=1, dim2=2) - 1).abs() < 0.02)[image_mask].all():
        raise ValueError("image_embeds holds real images that are not finite or not L2-normalised; normalise them")
    if not relevance[image_mask].isfinite().all():
        raise ValueError("relevance is not finite at a real image")

    # r -> r + c scales L and leaves the marginals: with the best image at q = 1 nothing can overflow.
    quality = (beta * (relevance - relevance.amax(-1, keepdim=True))).exp().masked_fill(padded, 0.0)
    similarity = ((cosines - 1) / sigma**2).exp()
    kernel = quality[:, :, None] * similarity * quality[:, None, :]
    kernel = kernel.masked_fill(padded[:, :, None] | padded[:, None, :], 0.0)
    # Padding at -1 on the diagonal stays apart from the null space that duplicates make: eigenvalues come in ascending
    # order, so that a row's first ones are its padding.
    eigenvalues, eigenvectors = torch.linalg.eigh(kernel - torch.diag_embed(padded.double()))
    count = image_mask.sum(-1, keepdim=True)
    of_images = torch.arange(padded.shape[1], device=padded.device) >= padded.sum(-1, keepdim=True)
    threshold = torch.finfo(torch.float64).eps * count * eigenvalues[:, -1:]
    of_rank = of_images & (eigenvalues > threshold)
    rank = of_rank.sum(-1)

    spectrum = eigenvalues.masked_fill(~of_rank, 0.0)
    jitter = epsilon * spectrum.sum(-1, keepdim=True) / count.clamp(min=1)
    spectrum = (spectrum + jitter).masked_fill(~of_images, 0.0)

    inclusion = of_rank.double()
    solvable = rank > kappa
    if solvable.any():
        spectrum = spectrum[solvable]
        size = torch.full_like(spectrum[:, 0], kappa)
        scaled = solve_scale(spectrum, size)[:, None] * spectrum
        inclusion[solvable] = scaled / (1 + scaled)
    marginals = (eigenvectors.square() @ inclusion[..., None]).squeeze(-1)
    return marginals.clamp(0.0, 1.0).masked_fill(padded, 0.0)


def relevance_scores(
    sentence_embeds: Tensor, sentence_mask: Tensor, image_embeds: Tensor, image_mask: Tensor
) -> Tensor:
    """The relevance r_i of each image: its largest cosine over the sentences of the summary.

    Args:
        sentence_embeds (`torch.Tensor` of shape `(B, S, d)`): L2-normalised.
        sentence_mask (`torch.Tensor` of shape `(B, S)`, bool): true on real sentences.
        image_embeds (`torch.Tensor` of shape `(B, N, d)`): L2-normalised.
        image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images.

    Returns:
        `torch.Tensor` of shape `(B, N)`, float64: 0 at padded images and in a row without sentences.
    """
    if sentence_mask.numel() == 0 or image_mask.numel() == 0:
        return image_embeds.new_zeros(image_mask.shape, dtype=torch.float64)
    cosines = image_embeds.double() @ sentence_embeds.double().mT
    scores = cosines.masked_fill(~sentence_mask[:, None, :], -torch.inf).amax(-1)
    return scores.masked_fill(~image_mask | ~sentence_mask.any(-1, keepdim=True), 0.0)


def mean_spread(marginals: Tensor, image_mask: Tensor) -> Tensor:
    """How far the labels tell images apart: the mean of max - min over the articles with at least two images.

    Args:
        marginals (`torch.Tensor` of shape `(B, N)`): the teacher's labels.
        image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images.

    Returns:
        `torch.Tensor` scalar: in [0, 1]; NaN when no article has two images.
    """
    rows = image_mask.sum(-1) >= 2
    marginals, padded = marginals[rows], ~image_mask[rows]
    if marginals.numel() == 0:
        return marginals.new_tensor(torch.nan)
    highest = marginals.masked_fill(padded, -torch.inf).amax(-1)
    lowest = marginals.masked_fill(padded, torch.inf).amin(-1)
    return (highest - lowest).mean()


def best_images_embedding(
    image_embeds: Tensor, marginals: Tensor, image_mask: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """The target of the alignment loss: v̄ = normalise(mean of the embeddings of the teacher's best images).

    Args:
        image_embeds (`torch.Tensor` of shape `(B, N, d)`): L2-normalised, frozen.
        marginals (`torch.Tensor` of shape `(B, N)`): the teacher's labels; equal ones are taken in the order of the
            article.
        image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images.
        count (`int`): how many of the best images at most; fewer where the article has fewer.

    Returns:
        `tuple`: v̄ of shape `(B, d)`, float32, zero for an article without images, and `has_images` of shape `(B,)`,
        bool.
    """
    order = marginals.masked_fill(~image_mask, -1.0).argsort(dim=-1, descending=True, stable=True)[:, :count]
    chosen = torch.zeros_like(image_mask).scatter(1, order, True) & image_mask
    total = image_embeds.detach().float().masked_fill(~chosen[..., None], 0.0).sum(1)
    return F.normalize(total, dim=-1), image_mask.any(-1)


def summary_embedding(sentence_embeds: Tensor, sentence_mask: Tensor) -> Tensor:
    """The summary's embedding t of the alignment loss: the normalised mean over its sentences.

    Args:
        sentence_embeds (`torch.Tensor` of shape `(B, S, d)`): L2-normalised.
        sentence_mask (`torch.Tensor` of shape `(B, S)`, bool): true on real sentences.

    Returns:
        `torch.Tensor` of shape `(B, d)`, float32: zero for a summary without sentences.
    """
    total = sentence_embeds.float().masked_fill(~sentence_mask[..., None], 0.0).sum(1)
    return F.normalize(total, dim=-1)


class DPPTeacher:
    """Labels from a frozen dual encoder: embeds reference summaries and scores an article's images by the DPP.

    Args:
        dual_encoder (`PreTrainedModel`): SigLIP, SigLIP2 or CLIP, as `AutoModel` loads it; it is frozen and set to
            evaluation here.
        tokenizer (`PreTrainedTokenizerBase`): the dual encoder's own.
        beta, sigma, kappa, epsilon: see [`dpp_marginals`].
        long_summary (`str`): a text tower reads 64 (SigLIP) or 77 (CLIP) tokens. `"sentences"` embeds a summary
            sentence by sentence and takes the largest relevance; `"truncate"` embeds the whole summary, cut off.

    Attributes:
        truncated_texts (`int`): how many sentences (`"truncate"`: summaries) were cut off at the tower's limit so far.
    """

    def __init__(
        self,
        dual_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        beta: float,
        sigma: float,
        kappa: int,
        epsilon: float,
        long_summary: Literal["sentences", "truncate"],
    ):
        if long_summary not in ("sentences", "truncate"):
            raise ValueError(f'long_summary must be "sentences" or "truncate", got {long_summary!r}')
        self.dual_encoder = dual_encoder.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.beta = beta
        self.sigma = sigma
        self.kappa = kappa
        self.epsilon = epsilon
        self.long_summary = long_summary
        self.max_length = dual_encoder.config.text_config.max_position_embeddings
        self.truncated_texts = 0

    @torch.no_grad()
    def embed_summaries(self, summaries: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Embed reference summaries given as their sentences; blank sentences are left out.

        Args:
            summaries (`list[list[str]]`): the sentences of each of B summaries.

        Returns:
            `tuple`: embeddings of shape `(B, S, d)`, float32, L2-normalised, zero at padding, and their mask of shape
            `(B, S)`, bool. S is the largest number of sentences, 1 under `"truncate"`.
        """
        texts = [[sentence.strip() for sentence in summary if sentence.strip()] for summary in summaries]
        if self.long_summary == "truncate":
            texts = [[" ".join(sentences)] if sentences else [] for sentences in texts]
        counts = torch.tensor([len(sentences) for sentences in texts], device=self.dual_encoder.device)
        longest = max((len(sentences) for sentences in texts), default=0)
        mask = torch.arange(longest, device=counts.device) < counts[:, None]
        flat = [sentence for sentences in texts for sentence in sentences]
        # The empty text stands in for a batch without any sentence: the width d is the encoder's to tell.
        encoded = self._encode(flat or [""])
        embeds = encoded.new_zeros(*mask.shape, encoded.shape[-1])
        embeds[mask] = encoded[: len(flat)]
        return embeds, mask

    def _encode(self, texts: list[str]) -> Tensor:
        lengths = [len(ids) for ids in self.tokenizer(texts, verbose=False).input_ids]
        self.truncated_texts += sum(length > self.max_length for length in lengths)
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            padding_side="right",
            max_length=self.max_length,
            truncation=True,
            return_tensors="pt",
        )
        device = self.dual_encoder.device
        # No attention mask: SigLIP was trained with its padding visible, and CLIP, being causal, reads up to the end
        # token. A bf16 autocast around the training step would blur the cosines that exp(beta · r) magnifies.
        with torch.autocast(device.type, enabled=False):
            features = self.dual_encoder.get_text_features(input_ids=tokens.input_ids.to(device))
        return F.normalize(features.pooler_output.float(), dim=-1)

    @torch.no_grad()
    def __call__(
        self, image_embeds: Tensor, image_mask: Tensor, sentence_embeds: Tensor, sentence_mask: Tensor
    ) -> Tensor:
        """The labels of each article's images.

        Args:
            image_embeds (`torch.Tensor` of shape `(B, N, d)`): L2-normalised, from the same dual encoder.
            image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images.
            sentence_embeds (`torch.Tensor` of shape `(B, S, d)`): from [`embed_summaries`].
            sentence_mask (`torch.Tensor` of shape `(B, S)`, bool): from [`embed_summaries`].

        Returns:
            `torch.Tensor` of shape `(B, N)`, float64: see [`dpp_marginals`].
        """
        return dpp_marginals(
            image_embeds,
            relevance_scores(sentence_embeds, sentence_mask, image_embeds, image_mask),
            image_mask,
            beta=self.beta,
            sigma=self.sigma,
            kappa=self.kappa,
            epsilon=self.epsilon,
        )
