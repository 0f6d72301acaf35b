"""Guidance between the images of an article while their patches are read (§9: SAM, Wu et al., MM '24)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .configuration_spectra import SpectraSumConfig
from .visual_layers import ScaledLinear

# (states (B·N, T, d_s), patches (B·N, P, d_v)) → the states after a layer of the sampler.
Layer = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class ImageContext(NamedTuple):
    """What an image is read under: the merged `patches` (B·N, P, d_v) of its context (Î of §9), and whether there `exists`
    any (B·N,)."""

    patches: torch.Tensor
    exists: torch.Tensor


class ImageGuidance(nn.Module):
    """§9: the sampler's layers also read the merged images of the context, and what they make of it is added at layer k.

    The layers that feed the guidance back into the states start at zero: an untrained one changes nothing.

    Args:
        config (`SpectraSumConfig`): `guidance_layers`, `guidance_context`, `guidance_weights`, `guidance_former`.
    """

    def __init__(self, config: SpectraSumConfig):
        super().__init__()
        patch_size, size = config.patch_embedding_size, config.sampler_width
        self.first, self.last = config.guidance_span
        self.num_latents = config.num_latents
        self.merges_all = config.guidance_context == "all"
        adaptive, shared = config.guidance_weights == "adaptive", config.guidance_former == "shared"
        self.weight_proj = nn.Linear(patch_size, 1) if adaptive else None
        self.state_proj = ScaledLinear(size, size, bias=True, init_scale=0.0) if shared else None
        self.context_proj = ScaledLinear(size if shared else patch_size, size, bias=True, init_scale=0.0)

    def merge(self, patches: torch.Tensor, image_mask: torch.Tensor) -> ImageContext:
        """The context of each image: of the article's other images, or all of them, a weighted mean patch by patch.

        Args:
            patches: (B, N, P, d_v).
            image_mask: (B, N), true on real images. Padded images take no part.
        """
        count = image_mask.shape[1]
        others = image_mask[:, None] & ~torch.eye(count, dtype=torch.bool, device=image_mask.device)
        exists = others.any(dim=2) & image_mask
        merged = image_mask[:, None].expand(-1, count, -1) if self.merges_all else others
        # A softmax over nothing is NaN; images without a context take none.
        merged = merged | ~exists[..., None]
        if self.weight_proj is None:
            scores = patches.new_zeros(patches.shape[:3])
        else:
            scores = self.weight_proj(patches).squeeze(-1)
        # (B, image, merged image, P)
        scores = scores.float()[:, None].masked_fill(~merged[..., None], -torch.inf)
        weights = scores.softmax(dim=2).to(patches.dtype)
        return ImageContext(torch.einsum("bimp,bmpd->bipd", weights, patches).flatten(0, 1), exists.flatten())

    def forward(
        self,
        layers: Sequence[Layer],
        queries: torch.Tensor,
        patches: torch.Tensor,
        context: ImageContext,
        read: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """A and B of §9: the states (B·N, T, d_s) after all layers.

        Args:
            layers: Of the sampler, the same for an image and for its context.
            queries: (B·N, T, d_s), the M latent queries and, in a Q-Former, the query's text behind them.
            patches: (B·N, P, …), as the layers read them.
            context: Of [`merge`].
            read: Makes of raw patches (B·N, P, d_v) what the layers read.
        """
        states = entered = queries
        for number, layer in enumerate(layers, start=1):
            if number == self.first:
                entered = states
            if number == self.last:
                signal = self._reached(self._signal(layers[: self.last], queries, context, read, entered))
                states = torch.where(context.exists[:, None, None], states + signal, states)
            states = layer(states, patches)
        return states

    def _signal(
        self,
        layers: Sequence[Layer],
        queries: torch.Tensor,
        context: ImageContext,
        read: Callable[[torch.Tensor], torch.Tensor],
        entered: torch.Tensor,
    ) -> torch.Tensor:
        """c of §9, from the state in which an image enters the reading of its context."""
        if self.state_proj is None:
            return self.context_proj(context.patches.mean(dim=1, keepdim=True)).expand_as(queries)
        states, patches = queries, read(context.patches)
        for number, layer in enumerate(layers, start=1):
            if number == self.first:
                states = states + self._reached(self.state_proj(entered))
            states = layer(states, patches)
        return self.context_proj(states)

    def _reached(self, signal: torch.Tensor) -> torch.Tensor:
        """0 on the query's text, unless guidance is as in the authors' code."""
        text = signal.shape[1] - self.num_latents
        if self.merges_all or text == 0:
            return signal
        return F.pad(signal[:, : self.num_latents], (0, 0, 0, text))


__all__ = ["ImageContext", "ImageGuidance"]
