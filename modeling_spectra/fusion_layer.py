"""What every fusion inside the language model is: a module at a decoder layer that reads an article's visual states."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from transformers.modeling_layers import GradientCheckpointingLayer


class FusionLayer(GradientCheckpointingLayer, ABC):
    """At one decoder layer, what the images say changes the hidden states (B, T, d), or the layer's normalized input.

    It is checkpointed on its own, since hooks run outside the checkpoint of the decoder layer. A new one leaves the base
    model's logits as they are, and rows without an image stay exactly as they are, always.

    Attributes:
        changes_norm (`bool`): Whether the forward pass returns what to add to the layer's normalized input, instead of
            the new hidden states.
    """

    changes_norm: ClassVar[bool] = False

    @abstractmethod
    def project_visual_states(self, visual_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Visual states (B, S, d_s) → keys and values (B, heads, S, head_dim), once per article."""

    @abstractmethod
    def forward(
        self,
        hidden_states: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attention_mask: torch.Tensor | None,
        has_image: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The new hidden states, or the change of the norm's output, (B, T, d), and the attention weights (B, heads, T, S), which
        are zero in text-only rows.

        Args:
            hidden_states: (B, T, d), the layer's input.
            keys, values: (B, heads, S, head_dim), of [`project_visual_states`].
            attention_mask: In the format of the attention implementation.
            has_image: (B,), false on text-only rows.
        """

    def opening(self) -> float | None:
        """How far a gate is open (mean |tanh α|); None for a fusion without gates."""
        return None


def of_images(values: torch.Tensor | None, has_image: torch.Tensor) -> torch.Tensor | None:
    """Values (B, …) of the rows that have an image (B,), 0 in the others; None stays None."""
    if values is None:
        return None
    return torch.where(has_image[(..., *[None] * (values.dim() - 1))], values, 0.0)


__all__ = ["FusionLayer", "of_images"]
