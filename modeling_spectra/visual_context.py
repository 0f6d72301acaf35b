"""What a decoder reads of an article's images, and its injection into the layers by forward pre-hooks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.masking_utils import create_bidirectional_mask

from .fusion_layer import FusionLayer

# The argument by which a change of a layer's normalized input travels from the layer to its self-attention.
NORM_CHANGE = "visual_norm_change"


class VisualKeyValues(NamedTuple):
    """What the fusion layers read of an article, computed once and reused by every decoding step.

    keys, values: (B, layers, heads, S, head_dim) with S = images · states of one image, layers in the order of `gate_layers`.
    mask: (B, S), true on the states of real images; a row without any is a text-only article.
    """

    keys: torch.Tensor
    values: torch.Tensor
    mask: torch.Tensor

    def repeat_interleave(self, repeats: int) -> "VisualKeyValues":
        """Repeat each article, as beam search repeats its inputs."""
        return VisualKeyValues(*(tensor.repeat_interleave(repeats, dim=0) for tensor in self))


@dataclass(frozen=True, eq=False)
class VisualContext:
    """What travels through the decoder as the argument `visual_context` of one forward pass.

    No tuple and no mapping, and without modules: accelerate's hooks take those apart, copy their lists and move all that they
    find in them, once per layer.

    Args:
        fusion_layer: Gives the [`FusionLayer`] of a layer (from 1), None where there is none. It asks the owner at each
            forward pass, so that a copy which PEFT trains is the one that runs.
        key_values: {layer from 1: (keys, values)}.
        attention_mask: In the format of the attention implementation.
        has_image: (B,).
        recorded_weights: A list to append each layer's attention weights to, or None.
    """

    fusion_layer: Callable[[int], FusionLayer | None]
    key_values: dict[int, tuple[torch.Tensor, torch.Tensor]]
    attention_mask: torch.Tensor | None
    has_image: torch.Tensor
    recorded_weights: list[torch.Tensor] | None


def visual_context(
    visual_path: nn.Module, key_values: VisualKeyValues, config: PreTrainedConfig, query: torch.Tensor, record: bool
) -> VisualContext:
    """The context of one forward pass.

    Args:
        visual_path (`VisualPath`): Whose fusion layers run.
        key_values: What they read.
        config (`SpectraSumConfig`): Names the attention implementation, whose mask is made.
        query: The input embeddings (B, T, d): of their shape, dtype and device.
        record: Whether attention weights are kept.
    """
    mask = create_bidirectional_mask(
        config,
        query,
        attendable(key_values.mask).to(query.device),
        # Only its shape, dtype and device are read.
        encoder_hidden_states=key_values.keys[:, 0, 0],
    )
    parts = enumerate(visual_path.gate_layers)
    return VisualContext(
        fusion_layer=visual_path.fusion_layer,
        key_values={layer: (key_values.keys[:, index], key_values.values[:, index]) for index, layer in parts},
        attention_mask=mask,
        has_image=key_values.mask.any(dim=1),
        recorded_weights=[] if record else None,
    )


def inject_visual_context(
    module: nn.Module, args: tuple, kwargs: dict[str, Any], *, layer: int
) -> tuple[tuple, dict[str, Any]]:
    """Forward pre-hook of decoder layer `layer` (from 1): takes `visual_context` out and lets the fusion change the layer's
    input, or hands the change of its normalized input on."""
    context: VisualContext | None = kwargs.pop("visual_context", None)
    fusion_layer = None if context is None else context.fusion_layer(layer)
    if fusion_layer is None:
        return args, kwargs
    changed, weights = fusion_layer(args[0], *context.key_values[layer], context.attention_mask, context.has_image)
    # Only some attention has weights.
    if context.recorded_weights is not None and weights is not None:
        context.recorded_weights.append(weights)
    if fusion_layer.changes_norm:
        return args, kwargs | {NORM_CHANGE: changed}
    return (changed, *args[1:]), kwargs


def inject_norm_change(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Forward pre-hook of a decoder layer's self-attention: adds what the fusion changes of the normalized input."""
    change = kwargs.pop(NORM_CHANGE, None)
    if change is not None:
        kwargs["hidden_states"] = kwargs["hidden_states"] + change
    return args, kwargs


def register_injection(decoder_layers: nn.ModuleList, *, into_norms: bool) -> None:
    """Register the hooks on every decoder layer; nothing is stored on the layers themselves.

    Args:
        decoder_layers (`nn.ModuleList`): Of the language model.
        into_norms (`bool`): Whether the fusion changes the layers' normalized inputs.

    Raises:
        ValueError: `into_norms`, and the layers have no RMS norm in front of a self-attention.
    """
    for layer, module in enumerate(decoder_layers, start=1):
        module.register_forward_pre_hook(partial(inject_visual_context, layer=layer), with_kwargs=True)
        if not into_norms:
            continue
        norm = getattr(module, "input_layernorm", None)
        if not (hasattr(module, "self_attn") and hasattr(norm, "variance_epsilon")):
            raise ValueError(
                f'fusion="modulation" changes the RMS norm in front of a layer\'s self-attention, and {type(module).__name__} '
                "has none (input_layernorm, self_attn): use a language model of the Llama or Qwen2 kind, or another fusion."
            )
        module.self_attn.register_forward_pre_hook(inject_norm_change, with_kwargs=True)


def attendable(mask: torch.Tensor) -> torch.Tensor:
    """A mask (B, S) in which rows without any true entry are all true.

    A softmax over nothing is NaN in one attention implementation and an average over padding in another. Such rows
    attend to their padding instead, and what they get is discarded by the caller.
    """
    return mask | ~mask.any(dim=1, keepdim=True)


__all__ = ["VisualContext", "VisualKeyValues", "attendable", "register_injection", "visual_context"]
