"""The project's `evaluate` modules, one folder each, loadable by path and offline."""

from pathlib import Path

import evaluate


def load_metric(name: str) -> evaluate.Metric:
    """Load the metric of folder `name` from this installation; nothing is fetched."""
    return evaluate.load(str(Path(__file__).with_name(name) / f"{name}.py"), module_type="metric")
