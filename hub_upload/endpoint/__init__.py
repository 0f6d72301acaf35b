"""What the Hub's Inference Endpoints find in a pushed model."""
