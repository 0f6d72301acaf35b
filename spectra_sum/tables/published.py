"""The published numbers, from the data file beside this module."""

import json
from pathlib import Path
from typing import Any


def load_published() -> dict[str, Any]:
    """
    The published numbers with their sources: scores in percent and MMAE on its own scale, as printed; `None` for a dash.

    Returns:
        `sources` (citations by key), `data` (what the rows were measured on), the row lists `comparison`,
        `multi_objective`, `lm_only` and `peak_memory`, and `human_evaluation` and `mmae` (the metric's weights).
    """
    return json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
