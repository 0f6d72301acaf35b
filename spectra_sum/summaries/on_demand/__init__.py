"""Encoders that are loaded when a document first needs them."""
