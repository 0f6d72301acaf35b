"""Models that make cut-outs and backgrounds, beside the recipe itself, which works without any."""
