"""The fusions inside the language model: what stands at its layers, by the name of the configuration's `fusion`."""

from typing import NamedTuple

from torch import nn

from .configuration_spectra import SpectraSumConfig
from .feature_modulation import FeatureModulation
from .fusion_layer import FusionLayer
from .gated_cross_attention import GatedCrossAttention
from .visual_adapter import VisualAdapter


class Fusion(NamedTuple):
    """The class of a fusion's layers, and the name of these layers within the visual path, where saved weights have it."""

    layer: type[FusionLayer]
    name: str


# Besides these there is "concat", which puts the images into the prompt.
FUSIONS = {
    "sampler": Fusion(GatedCrossAttention, "cross_attentions"),
    "dvp": Fusion(GatedCrossAttention, "cross_attentions"),
    "adapter": Fusion(VisualAdapter, "adapters"),
    "modulation": Fusion(FeatureModulation, "modulations"),
}


def build_fusion_layers(config: SpectraSumConfig) -> nn.ModuleDict:
    """{layer of `gate_layers`: its [`FusionLayer`]} of the configuration's fusion."""
    layer = FUSIONS[config.fusion].layer
    sizes = config.visual_state_sizes
    return nn.ModuleDict({str(number): layer(config, size) for number, size in sizes.items()})


__all__ = ["FUSIONS", "build_fusion_layers"]
