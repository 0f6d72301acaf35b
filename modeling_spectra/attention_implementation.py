"""Which implementation of attention each part of the model uses."""

from typing import Any

from .deep_visual_processor import DeepVisualProcessor
from .vision_grid import has_attention
from .visual_layers import VisualAttention


class AttentionImplementationMixin:
    """Attention implementations by part; in front of `PreTrainedModel` in [`SpectraSumForConditionalGeneration`]."""

    def attn_implementations(self) -> dict[str, str]:
        """Of the visual path (`""`) and of each part, as [`set_attn_implementation`] takes them."""
        parts = {name: getattr(self.config, name) for name in self.config.sub_configs}
        return {"": self.config._attn_implementation} | {
            name: "eager"
            if name in self._convolutional_parts()
            else part._attn_implementation or self.config._attn_implementation
            for name, part in parts.items()
            if part is not None
        }

    def _convolutional_parts(self) -> list[str]:
        """The towers that have no attention, and refuse implementations of it."""
        towers = {name: getattr(self.config, name) for name in ("vision_config", "embedding_vision_config")}
        return [name for name, tower in towers.items() if tower is not None and not has_attention(tower)]

    def set_attn_implementation(self, attn_implementation: str | dict, *args: Any, **kwargs: Any) -> None:
        """As in every model of transformers: one implementation for all, or a dictionary by part.

        Args:
            attn_implementation (`str` or `dict`): `"sdpa"`, `"eager"`, …, or {part: implementation} with the parts
                `"text_config"`, `"vision_config"`, `"embedding_vision_config"`, `"qformer_config"` and `""`, the visual path;
                the others stay as they are, as does a tower of convolutions.

        Raises:
            ValueError: for a part that there is not.
        """
        if isinstance(attn_implementation, dict):
            parts = ["", *self.config.sub_configs]
            if unknown := sorted(set(attn_implementation) - set(parts)):
                raise ValueError(f"the model has no parts {unknown}: attn_implementation takes {parts}.")
        elif convolutional := self._convolutional_parts():
            super().set_attn_implementation({"": attn_implementation}, *args, **kwargs)
            # Its name of the implementation may be another one than the one that was asked for.
            attending = set(self.config.sub_configs) - set(convolutional)
            attn_implementation = dict.fromkeys(attending, self.config._attn_implementation)
        super().set_attn_implementation(attn_implementation, *args, **kwargs)
        for module in self.visual_path.modules():
            if isinstance(module, VisualAttention | DeepVisualProcessor):
                # A copied module carries a copy of the configuration, which nobody else would change.
                module.config = self.config


__all__ = ["AttentionImplementationMixin"]
