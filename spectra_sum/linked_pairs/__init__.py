"""Pairs of images that share one object, made of cut-outs and backgrounds: the recipe of MmLINK (Wu et al., MM 2024)."""
