"""Pushing a dataset."""
