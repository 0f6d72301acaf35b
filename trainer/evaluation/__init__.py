"""Evaluation within the trainer: losses over all tokens and articles, and summaries with their scores."""
