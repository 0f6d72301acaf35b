"""The project's `evaluate` modules, one folder each, loadable by path and offline."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import evaluate


def load_metric(name: str) -> "evaluate.Metric":
    """Load the metric of folder `name` from this installation; nothing is fetched."""
    # It takes seconds to import, and a training needs what lies beside the metrics.
    import evaluate

    # On the disk, evaluations that run at the same time would wait for each other's files, a second for each result.
    path = Path(__file__).with_name(name) / f"{name}.py"
    return evaluate.load(str(path), module_type="metric", keep_in_memory=True)
