"""The tables of the tasks with instructions: evaluated systems beside those that SAM's authors published."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.bootstrap import PairedDifference
from ..tasks.task import TASKS, Task
from .columns import TASK_COLUMNS, ScoreColumn
from .evaluation import Evaluation
from .layouts import TableBuilder, check_layout, empty_table
from .significance import compare_with, find_reference
from .table import Table

_ABLATED = ("group-captioning", "storytelling")


def build_task_tables(
    evaluations: Sequence[Evaluation], published: Mapping[str, Any], task: Task, reference: str | None = None
) -> list[Table]:
    """
    The tables of a task with instructions.

    Args:
        evaluations (`Sequence[Evaluation]`): The evaluated systems, at least one, each with a name of its own.
        published (`Mapping[str, Any]`): From [`load_published`].
        task (`Task`): What they were all evaluated for.
        reference (`str`, *optional*): Name of the system that the others are compared with; the first by default.

    Returns:
        One named by the task (ROUGE-L, CIDEr and BLEU-4, all times 100), `guidance_ablation` where the task is in it, and, with
        several systems on the same articles, `paired_differences`.

    Raises:
        EvaluationError: No system is named `reference`, or one was evaluated for another task.
    """
    check_layout(evaluations, task)
    reference_system = find_reference(evaluations, reference)
    comparisons = compare_with(reference_system, evaluations, [column.key for column in TASK_COLUMNS])
    builder = TableBuilder(published, reference_system, comparisons, paired_columns=TASK_COLUMNS)
    title = f"{task.name.replace('-', ' ').capitalize()}: comparison with published systems"
    table = empty_table(task.name.replace("-", "_"), title, ("System",), TASK_COLUMNS)
    builder.fill(table, TASK_COLUMNS, published[task.name], published[task.name]["rows"], evaluations)
    table.note(
        "ROUGE-L and BLEU-4 in percent, CIDEr-D times 100 with the IDF of the test set's references. The published values are by "
        "other tokenizers and another BLEU (lower case, without punctuation and smoothing)."
    )
    tables = [table]
    if task.name in _ABLATED:
        tables.append(_ablation(builder, published["guidance_ablation"]))
    if any(isinstance(comparison, PairedDifference) for comparison in comparisons.values()):
        tables.append(builder.paired_differences(evaluations))
    return tables


def _ablation(builder: TableBuilder, part: Mapping[str, Any]) -> Table:
    columns = [ScoreColumn(name, f"CIDEr, {TASKS[name].name.replace('-', ' ')}") for name in _ABLATED]
    table = empty_table(
        "guidance_ablation", "Guidance between images, part by part, as published", ("System",), columns
    )
    builder.fill(table, columns, part, part["rows"], [])
    return table
