"""Checkpoints: written whole, resumed, pushed, and what they record."""
