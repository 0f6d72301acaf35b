"""Pushing a Space."""
