"""A staged model → the same with what an Inference Endpoint needs beside it."""

import shutil
from pathlib import Path

from ..metrics.requirements import requirements
from . import handler

HANDLER_FILE = "handler.py"
REQUIREMENTS_FILE = "requirements.txt"


def add_endpoint_files(staged: Path) -> None:
    """
    Puts the handler, and the packages that it and the model's code import, beside a model.

    Args:
        staged (`Path`): A folder with a whole model and its code; an endpoint loads one folder, so adapters have none.

    Raises:
        HubError: The packages are not known.
    """
    shutil.copyfile(handler.__file__, staged / HANDLER_FILE)
    lines = requirements(sorted(staged.glob("*.py")))
    (staged / REQUIREMENTS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
