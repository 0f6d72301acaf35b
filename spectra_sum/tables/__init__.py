"""The paper's tables: evaluated systems beside the published rows, in Markdown, LaTeX and HTML."""

from .evaluation import Evaluation, EvaluationError, Score, read_evaluation, read_evaluations
from .html import render_html
from .latex import render_latex
from .layouts import build_tables
from .markdown import render_markdown
from .published import load_published
from .table import Cell, Row, Table
from .task_layouts import build_task_tables

__all__ = [
    "Cell",
    "Evaluation",
    "EvaluationError",
    "Row",
    "Score",
    "Table",
    "build_tables",
    "build_task_tables",
    "load_published",
    "read_evaluation",
    "read_evaluations",
    "render_html",
    "render_latex",
    "render_markdown",
]
