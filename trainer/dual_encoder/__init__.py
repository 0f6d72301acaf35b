"""The default dual encoder: two heads that put EfficientNet-Lite0's images and MiniLM's texts into one space."""
