"""Multimodal summarization with SPeCTrA-Sum: data, metrics, reports and the command line."""

__version__ = "0.1.0"
