"""The published numbers, from the data file beside this module."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def load_published() -> dict[str, Any]:
    """
    The published numbers with their sources: scores in percent and MMAE on its own scale, as printed; `None` for a dash.

    Returns:
        `sources` (citations by key), `data` (what the rows were measured on), the row lists `comparison`,
        `multi_objective`, `lm_only` and `peak_memory`, those of SAM by the task's name and `guidance_ablation`, and
        `human_evaluation` and `mmae` (the metric's weights).
    """
    return json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))


def implied_rouge_l_note(rows: Sequence[Mapping[str, Any]], citation: str) -> str:
    """What ROUGE-L the published MMAE implies, as a note."""
    # `evaluate`, which this module needs, takes seconds to import.
    from ..metrics.mmae.mmae import implied_rouge_l

    # ROUGE-L cannot exceed ROUGE-1: the longest common subsequence is a subset of the common words.
    shown = []
    for row in rows:
        if row["mmae"] is None:
            continue
        shares = (row["max_sim"] / 100, row["image_precision"] / 100)
        # The printed value may be rounded up by half of its last digit.
        least, rouge_l = (100 * implied_rouge_l(row["mmae"] - rounding, *shares) for rounding in (0.005, 0))
        impossible = " (above its own ROUGE-1)" if least > row["rouge1"] else ""
        shown.append(f"{row['system']} {rouge_l:.1f}{impossible}")
    return (
        f"ROUGE-L that a published MMAE implies under the weights of its source ({citation}): "
        + ", ".join(shown)
        + ". The published MMAE cannot all come from one formula."
    )
