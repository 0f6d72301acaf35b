"""The names that an evaluation's options take; without heavy imports, so that the command line answers at once."""

EXTRACTS = ("centroid", "lexrank")
"""Baselines that choose sentences by their embeddings."""

WORD_BASELINES = ("lead", *EXTRACTS)
"""Baselines of a given number of words."""

BASELINES = ("lead-3", "oracle", *WORD_BASELINES)

NEED_SIMILARITY = ("teacher", "dpp-map", "mmr", "clip")
"""Selections that compare images with a text."""

AFTER_SUMMARY = "after-summary"
"""By the finished summary and the images' texts, as `spectra-sum summarize` does it; with `--vision` also by their pixels."""

NO_SELECTION = "none"
"""Of tasks whose answers select no image; it cannot be chosen."""

SELECTIONS = ("vrp", AFTER_SUMMARY, "given", "gold", "random", *NEED_SIMILARITY)

OWN_SELECTION = {
    "model": "vrp",
    "pretrained": AFTER_SUMMARY,
    "predictions": "given",
    "oracle": "gold",
    **dict.fromkeys(("lead-3", *WORD_BASELINES), "random"),
}
"""How a system selects images unless the options say otherwise."""

DIFFICULTIES = ("standard", "far", "paired", "thin", "counts")
"""Of the closed world; what they are stands in [`spectra_sum.msmo.closed_world_difficulty`]."""

ROUGE_TOKENIZERS = ("default", "unicode")
"""Of the metric `summary_rouge`."""
