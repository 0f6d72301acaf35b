"""What the model returns: of a forward pass, of encoding images, and of selecting them."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import Cache
from transformers.modeling_outputs import ModelOutput

from .visual_context import VisualKeyValues


@dataclass
class SpectraSumOutput(ModelOutput):
    """Output of [`SpectraSumForConditionalGeneration`]; B articles, N images, T tokens, L layers, G gates.

    Args:
        loss: Scalar, the language-modelling loss L_lm (§6), when `labels` or `shift_labels` are given.
        logits: (B, T, vocabulary), or only the positions of `logits_to_keep`.
        past_key_values: The text cache, when `use_cache`.
        hidden_states: L + 1 tensors (B, T, d). Entry 0 is the input of decoder layer 1 after that layer's gate, if it
            has one; entry l is the output of layer l, before the gate of layer l + 1; the last one is after the final
            norm.
        attentions: L tensors (B, heads, T, T'), the text self-attention. As in every model of transformers, only eager
            attention has weights; any other gives an empty tuple and a warning.
        cross_attentions: G tensors (B, heads, T, S), the gated cross-attention in the order of `gate_layers`; S runs
            over the summarizer's images, `num_latents` each. Empty unless the attention is eager, None without images.
        image_embeds: (B, N, d_img), L2-normalised, 0 for padded images.
        selection_logits: (B, N), the relevance predictor's ℓ_i (§4). Padded images have the least finite value of the dtype
            (`torch.finfo(dtype).min`): a probability of 0, and no NaN in a softmax or a loss over all of them.
        summary_embeds: (B, d_img), z of §6, when there are labels.
        alignment_temperature: Scalar, τ of §6, when there are labels.
        visual_key_values: What the gates read, for later calls on the same articles.
        summarizer_images: (B, N'), the indices of the images that the summarizer saw, −1 where it saw none.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None
    image_embeds: torch.Tensor | None = None
    selection_logits: torch.Tensor | None = None
    summary_embeds: torch.Tensor | None = None
    alignment_temperature: torch.Tensor | None = None
    visual_key_values: VisualKeyValues | None = None
    summarizer_images: torch.Tensor | None = None


class EncodedImages(NamedTuple):
    """The images of a batch of articles, encoded once.

    image_embeds (B, N, d_img) and selection_logits (B, N), as in [`SpectraSumOutput`], or None, visual_key_values for the
    gated variants, visual_tokens (B, N', P + 1, d) for `"concat"`, summarizer_images (B, N') with −1 for none.
    """

    image_embeds: torch.Tensor | None
    selection_logits: torch.Tensor | None
    visual_key_values: VisualKeyValues | None
    visual_tokens: torch.Tensor | None
    summarizer_images: torch.Tensor


class ImageSelection(NamedTuple):
    """The images of a multimodal summary: indices per article, best first, and all probabilities (B, N), 0 on padding."""

    indices: list[list[int]]
    probabilities: torch.Tensor
