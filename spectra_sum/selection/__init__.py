"""Ways to select images beside the visual relevance predictor."""
