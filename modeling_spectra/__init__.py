"""Model, configuration and processor of SPeCTrA-Sum: the flat folder that is published with the weights."""

from .configuration_spectra import SpectraSumConfig
from .modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumOutput
from .processing_spectra import SpectraSumProcessor

__all__ = ["SpectraSumConfig", "SpectraSumForConditionalGeneration", "SpectraSumOutput", "SpectraSumProcessor"]
