"""The names that an evaluation's options take; without heavy imports, so that the command line answers at once."""

BASELINES = ("lead-3", "oracle")

NEED_SIMILARITY = ("teacher", "dpp-map", "mmr", "clip")
"""Selections that compare images with a text."""

SELECTIONS = ("vrp", "given", "gold", "random", *NEED_SIMILARITY)

OWN_SELECTION = {"model": "vrp", "predictions": "given", "lead-3": "random", "oracle": "gold"}
"""How a system selects images unless the options say otherwise."""

DIFFICULTIES = ("standard", "far", "paired", "thin", "counts")
"""Of the closed world; what they are stands in [`spectra_sum.msmo.closed_world_difficulty`]."""

ROUGE_TOKENIZERS = ("default", "unicode")
"""Of the metric `summary_rouge`."""
