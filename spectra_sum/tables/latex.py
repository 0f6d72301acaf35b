"""Tables as LaTeX, with booktabs."""

from collections.abc import Sequence

from ..documents.parts import printable
from .table import Cell, Row, Table

_HEADER = r"""% Tables of spectra-sum, to be read by \input. The preamble needs:
%   \usepackage{booktabs}
%   \usepackage{adjustbox}
% pdfLaTeX knows Latin names only; for other scripts use LuaLaTeX or XeLaTeX with a font that has them.
"""
_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        # \textquotedbl needs the T1 encoding, and babel makes the character itself active.
        '"': r"\char34{}",
        # After the end of a row, a bracket would be read as the argument of \\.
        "[": "{[}",
        "]": "{]}",
        "–": "--",
        "−": "$-$",
        "★": r"$\star$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "\ufffd": "?",
    }
)


def render_latex(tables: Sequence[Table]) -> str:
    """The tables as `table` environments; all text is escaped."""
    return "\n".join([_HEADER, *(_table(table) for table in tables)])


def _table(table: Table) -> str:
    alignment = "l" * table.text_columns + "r" * (len(table.columns) - table.text_columns)
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\small",
        rf"\caption{{{_escape(table.title)}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
    ]
    lines += [rf"\textbf{{{_escape(warning)}}}\par\medskip" for warning in table.warnings]
    lines += [
        r"\begin{adjustbox}{max width=\linewidth}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(_escape(heading) for heading in table.columns) + r" \\",
        r"\midrule",
    ]
    for previous, row in zip([None, *table.rows], table.rows, strict=False):
        if previous is not None and previous.kind == "published" and row.kind == "own":
            lines.append(r"\midrule")
        lines.append(" & ".join(_cell(cell, row) for cell in row.cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}", r"\par\medskip", r"\raggedright\footnotesize"]
    lines += [rf"\textsuperscript{{{number}}} {_escape(note)}\par" for number, note in enumerate(table.notes, start=1)]
    return "\n".join([*lines, r"\end{table}", ""])


def _cell(cell: Cell, row: Row) -> str:
    text = _escape(cell.text)
    if row.kind == "detail" and text:
        text = rf"\scriptsize {text}"
    if cell.best:
        text = rf"\textbf{{{text}}}"
    marks = ",".join(str(number) for number in cell.notes)
    return rf"{text}\textsuperscript{{{marks}}}" if marks else text


def _escape(text: str) -> str:
    return printable(text).translate(_SPECIAL)
