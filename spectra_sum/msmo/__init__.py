"""Datasets of articles with images: the MSMO corpus and a closed world made by code."""

from spectra_sum.msmo.builder import MSMO, MSMOConfig, load_msmo
from spectra_sum.msmo.integrity import IntegrityReport

__all__ = ["MSMO", "IntegrityReport", "MSMOConfig", "load_msmo"]
