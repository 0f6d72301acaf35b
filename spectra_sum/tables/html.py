"""Tables as one self-contained HTML page."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..documents.parts import printable
from .table import Table


def render_html(tables: Sequence[Table]) -> str:
    """The tables as an HTML page without scripts or external resources; all text is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("tables.html.j2").render(tables=tables)
