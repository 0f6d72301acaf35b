"""Datasets of articles with images: the MSMO corpus and a closed world made by code."""

from importlib import import_module
from typing import Any

_HOMES = {"MSMO": "builder", "MSMOConfig": "builder", "load_msmo": "builder", "IntegrityReport": "integrity"}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    # Whoever needs the layout of a folder alone does not wait for `datasets`.
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
