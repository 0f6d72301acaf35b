"""Evaluation of any multimodal summarizer: predictions, baselines, scores with intervals, and their files."""
