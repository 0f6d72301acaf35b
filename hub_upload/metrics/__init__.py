"""Pushing the metrics."""
