"""Model, configuration and processor of SPeCTrA-Sum: the flat folder that is published with the weights."""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from .configuration_spectra import SpectraSumConfig
from .modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumOutput
from .processing_spectra import SpectraSumProcessor


def register_auto_classes() -> None:
    """Let the Auto classes use the installed code for this model type, instead of asking to run a repository's own."""
    AutoConfig.register(SpectraSumConfig.model_type, SpectraSumConfig, exist_ok=True)
    AutoModel.register(SpectraSumConfig, SpectraSumForConditionalGeneration, exist_ok=True)
    AutoModelForImageTextToText.register(SpectraSumConfig, SpectraSumForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(SpectraSumConfig, SpectraSumProcessor, exist_ok=True)


__all__ = [
    "SpectraSumConfig",
    "SpectraSumForConditionalGeneration",
    "SpectraSumOutput",
    "SpectraSumProcessor",
    "register_auto_classes",
]
