"""The configuration of SPeCTrA-Sum under its own name; its source lies with the model that is published."""

from modeling_spectra.configuration_spectra import SpectraSumConfig

__all__ = ["SpectraSumConfig"]
