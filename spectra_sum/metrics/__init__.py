"""The project's `evaluate` modules, one folder each, loadable by path and offline."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import evaluate


def load_metric(name: str) -> "evaluate.Metric":
    """Load the metric of folder `name` from this installation; nothing is fetched."""
    # It takes seconds to import, and a training needs what lies beside the metrics.
    import evaluate

    return evaluate.load(str(Path(__file__).with_name(name) / f"{name}.py"), module_type="metric")
