"""The cache of frozen towers' features."""
