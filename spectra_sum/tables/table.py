"""A table as plain text with meaning, which each format renders in its own way."""

from dataclasses import dataclass, field
from typing import Literal

DASH = "–"
OWN_MARK = "★"


@dataclass(frozen=True)
class Cell:
    """
    One cell.

    Args:
        text (`str`): Unescaped text.
        best (`bool`, *optional*, defaults to `False`): The best published value of its column.
        notes (`tuple[int, ...]`, *optional*, defaults to `()`): Numbers, from 1, of the table's notes on it.
    """

    text: str
    best: bool = False
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """
    One row.

    Args:
        kind (`str`): `"published"`, `"own"`, or `"detail"` for a line that explains the own row above it.
        cells (`tuple[Cell, ...]`): One cell per column.
    """

    kind: Literal["published", "own", "detail"]
    cells: tuple[Cell, ...]


@dataclass
class Table:
    """
    A table.

    Args:
        name (`str`): Short name for labels and anchors.
        title (`str`): Caption.
        columns (`tuple[str, ...]`): Headings.
        text_columns (`int`): How many columns from the left hold text; the others hold numbers.
        rows (`list[Row]`): The rows.
        warnings (`list[str]`): What a reader must know before comparing rows.
        notes (`list[str]`): Numbered notes.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    text_columns: int
    rows: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> int:
        """Number, from 1, of a note with this text, which is added where there is none."""
        if text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1
