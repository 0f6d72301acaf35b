"""The DPP teacher (paper, knowledge distillation of image selection): soft labels for the visual relevance predictor.

A determinantal point process over an article's images weighs relevance to the reference summary against similarity
among the images; an image's label is the probability that the process includes it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from modeling_spectra import SpectraSumConfig
from spectra_sum.metrics.dual_encoder import TextReader
from spectra_sum.selection.dpp import dpp_marginals, relevance_scores
from trainer.objectives.text_relevance import larger_relevance


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


class TeacherLabels(NamedTuple):
    """What the losses need of the teacher, for B articles with N images and S sentences at most.

    `marginals` (B, N), float64, `sentence_embeds` (B, S, d) and `sentence_mask` (B, S) of the reference summaries.
    """

    marginals: Tensor
    sentence_embeds: Tensor
    sentence_mask: Tensor


def process_numbers(config: SpectraSumConfig) -> dict[str, float | str | None]:
    """The keyword arguments of [`SummaryTeacher`] as a configuration has them."""
    names = ("beta", "sigma", "kappa", "epsilon", "long_summary", "text_scale")
    return {name: getattr(config, f"teacher_{name}") for name in names}


class SummaryTeacher(ABC):
    """Labels by the DPP, from unit embeddings of texts and images in one space, whatever gives them.

    Args:
        beta, sigma, kappa, epsilon: see [`dpp_marginals`].
        long_summary (`str`): a text encoder reads so many tokens. `"sentences"` embeds a summary sentence by sentence and
            takes the largest relevance; `"truncate"` embeds the whole summary, cut off.
        text_scale (`float`, *optional*): also reads the images' texts, see [`larger_relevance`]; a text is cut off.

    Attributes:
        reads_images (`bool`): it embeds the images itself (`embed_images`), and is not given the model's embeddings.
        truncated_texts (`int`): how many sentences (`"truncate"`: summaries) and texts of images were cut off at the text
            encoder's limit so far.
    """

    reads_images = False

    def __init__(
        self,
        *,
        beta: float,
        sigma: float,
        kappa: float,
        epsilon: float,
        long_summary: Literal["sentences", "truncate"],
        text_scale: float | None = None,
    ):
        if long_summary not in ("sentences", "truncate"):
            raise ValueError(f'long_summary must be "sentences" or "truncate", got {long_summary!r}')
        self.beta = beta
        self.sigma = sigma
        self.kappa = kappa
        self.epsilon = epsilon
        self.long_summary = long_summary
        self.text_scale = text_scale
        self.truncated_texts = 0

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where texts are embedded."""

    @abstractmethod
    def encode(self, texts: list[str]) -> Tensor:
        """T texts → embeddings of shape `(T, d)`, float32, L2-normalised; those that are cut off are counted."""

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
        counts = torch.tensor([len(sentences) for sentences in texts], device=self.device)
        longest = max((len(sentences) for sentences in texts), default=0)
        mask = torch.arange(longest, device=counts.device) < counts[:, None]
        flat = [sentence for sentences in texts for sentence in sentences]
        # The empty text stands in for a batch without any sentence: the width d is the encoder's to tell.
        encoded = self.encode(flat or [""])
        embeds = encoded.new_zeros(*mask.shape, encoded.shape[-1])
        embeds[mask] = encoded[: len(flat)]
        return embeds, mask

    @torch.no_grad()
    def embed_image_texts(self, texts: Sequence[Sequence[str]], image_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embed the texts of images.

        Args:
            texts (`list[list[str]]`): of each of B articles one per image, empty where there is none; or no texts at all.
            image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images, which are the first ones of a row.

        Returns:
            `tuple`: embeddings of shape `(B, N, d)`, float32, L2-normalised, zero where there is no text, and their mask of
            shape `(B, N)`, bool.
        """
        mask = torch.zeros_like(image_mask)
        for row, entries in enumerate(texts):
            mask[row, : len(entries)] = torch.tensor([bool(text.strip()) for text in entries], dtype=torch.bool)
        flat = [text.strip() for entries in texts for text in entries if text.strip()]
        encoded = self.encode(flat or [""])
        embeds = encoded.new_zeros(*mask.shape, encoded.shape[-1])
        embeds[mask] = encoded[: len(flat)]
        return embeds, mask

    @torch.no_grad()
    def __call__(
        self,
        image_embeds: Tensor,
        image_mask: Tensor,
        sentence_embeds: Tensor,
        sentence_mask: Tensor,
        image_texts: Sequence[Sequence[str]] | None = None,
    ) -> Tensor:
        """The labels of each article's images.

        Args:
            image_embeds (`torch.Tensor` of shape `(B, N, d)`): L2-normalised, in the space of the texts.
            image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images.
            sentence_embeds (`torch.Tensor` of shape `(B, S, d)`): from [`embed_summaries`].
            sentence_mask (`torch.Tensor` of shape `(B, S)`, bool): from [`embed_summaries`].
            image_texts (`list[list[str]]`, *optional*): see [`embed_image_texts`]; read with a `text_scale` only.

        Returns:
            `torch.Tensor` of shape `(B, N)`, float64: see [`dpp_marginals`].
        """
        relevance = relevance_scores(sentence_embeds, sentence_mask, image_embeds, image_mask)
        if self.text_scale is not None and image_texts is not None:
            text_embeds, text_mask = self.embed_image_texts(image_texts, image_mask)
            of_texts = relevance_scores(sentence_embeds, sentence_mask, text_embeds, text_mask)
            relevance = larger_relevance(relevance, of_texts, image_mask, text_mask, self.text_scale)
        return dpp_marginals(
            image_embeds,
            relevance,
            image_mask,
            beta=self.beta,
            sigma=self.sigma,
            kappa=self.kappa,
            epsilon=self.epsilon,
        )

    def label(
        self,
        image_embeds: Tensor,
        image_mask: Tensor,
        summaries: Sequence[Sequence[str]],
        image_texts: Sequence[Sequence[str]] | None = None,
    ) -> TeacherLabels:
        """The labels of articles whose summaries are given as their sentences.

        Args:
            image_embeds (`torch.Tensor` of shape `(B, N, d)`): L2-normalised, in the space of the texts.
            image_mask (`torch.Tensor` of shape `(B, N)`, bool): true on real images.
            summaries (`list[list[str]]`): see [`embed_summaries`].
            image_texts (`list[list[str]]`, *optional*): see [`embed_image_texts`].
        """
        sentence_embeds, sentence_mask = self.embed_summaries(summaries)
        marginals = self(image_embeds, image_mask, sentence_embeds, sentence_mask, image_texts)
        return TeacherLabels(marginals, sentence_embeds, sentence_mask)


class DPPTeacher(SummaryTeacher):
    """The teacher of the paper: the frozen dual encoder that the model's image embeddings come from.

    Args:
        dual_encoder (`PreTrainedModel`): SigLIP, SigLIP 2 or CLIP, as `AutoModel` loads it; it is frozen and set to
            evaluation here. Its text tower reads 64 (SigLIP) or 77 (CLIP) tokens.
        tokenizer (`PreTrainedTokenizerBase`): the dual encoder's own; texts are prepared for it by [`TextReader`].
        beta, sigma, kappa, epsilon, long_summary, text_scale: see [`SummaryTeacher`].
    """

    def __init__(
        self,
        dual_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        beta: float,
        sigma: float,
        kappa: float,
        epsilon: float,
        long_summary: Literal["sentences", "truncate"],
        text_scale: float | None = None,
    ):
        super().__init__(
            beta=beta, sigma=sigma, kappa=kappa, epsilon=epsilon, long_summary=long_summary, text_scale=text_scale
        )
        self.dual_encoder = dual_encoder.requires_grad_(False).eval()
        self.text_reader = TextReader(tokenizer, dual_encoder.config)

    @property
    def device(self) -> torch.device:
        return self.dual_encoder.device

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Tensor:
        self.truncated_texts += self.text_reader.count_cut(texts)
        # A bf16 autocast around the training step would blur the cosines that exp(beta · r) magnifies.
        with torch.autocast(self.device.type, enabled=False):
            features = self.dual_encoder.get_text_features(input_ids=self.text_reader.input_ids(texts).to(self.device))
        return F.normalize(features.pooler_output.float(), dim=-1)
