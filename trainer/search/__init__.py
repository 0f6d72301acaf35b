"""Searches over architectures and LoRA settings."""
