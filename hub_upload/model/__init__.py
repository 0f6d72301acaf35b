"""Pushing a model."""
