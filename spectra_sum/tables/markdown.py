"""Tables as Markdown, legible in a terminal too."""

import re
from collections.abc import Sequence

from ..documents.parts import printable
from .table import Cell, Table

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$])")


def render_markdown(tables: Sequence[Table]) -> str:
    """The tables as GitHub-flavoured Markdown; all text is escaped."""
    return "\n".join(_table(table) for table in tables)


def _table(table: Table) -> str:
    grid = [[escape_markdown(heading) for heading in table.columns]]
    grid += [[_cell(cell, row.kind == "own") for cell in row.cells] for row in table.rows]
    widths = [max(3, *(len(line[column]) for line in grid)) for column in range(len(table.columns))]
    rule = [
        "-" * width if column < table.text_columns else "-" * (width - 1) + ":" for column, width in enumerate(widths)
    ]
    lines = [f"## {escape_markdown(table.title)}", ""]
    for warning in table.warnings:
        lines += [f"> **{escape_markdown(warning)}**", ""]
    for cells in (grid[0], rule, *grid[1:]):
        padded = [
            text.ljust(width) if column < table.text_columns else text.rjust(width)
            for column, (text, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(padded)} |")
    lines.append("")
    lines += [f"{number}. {escape_markdown(note)}" for number, note in enumerate(table.notes, start=1)]
    return "\n".join([*lines, ""])


def _cell(cell: Cell, own: bool) -> str:
    text = escape_markdown(cell.text)
    # A reference such as [1] stays plain text: there is no link definition, and no text can add one.
    marks = "".join(f"[{number}]" for number in cell.notes)
    return (f"**{text}**" if cell.best else text) + marks


def escape_markdown(text: str) -> str:
    """Text of one line, in which no character is markup."""
    return _SPECIAL.sub(r"\\\1", printable(text))
