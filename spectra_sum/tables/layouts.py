"""The paper's tables, with the evaluated systems beside the published rows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..evaluation.bootstrap import PairedDifference
from ..evaluation.choices import NO_SELECTION
from ..evaluation.corpus_bleu import BLEU4
from ..tasks.task import SUMMARIZATION, Task
from .columns import COMPARISON_COLUMNS, LM_COLUMNS, PAIRED_COLUMNS, RELEVANCE_COLUMNS, VARIANT_COLUMNS, ScoreColumn
from .evaluation import Evaluation, EvaluationError
from .measurement import MODEL_BASED, USUAL, measured_by
from .published import implied_rouge_l_note
from .significance import RESAMPLES, Comparisons, compare_with, find_reference, significant
from .table import DASH, OWN_MARK, Cell, Row, Table

# Copies of the data set differ by a few broken articles; within this share, a split is taken for the published one.
SPLIT_TOLERANCE = 0.05


def build_tables(
    evaluations: Sequence[Evaluation], published: Mapping[str, Any], reference: str | None = None
) -> list[Table]:
    """
    The four tables, and the paired differences between own systems where there are several.

    Args:
        evaluations (`Sequence[Evaluation]`): The evaluated systems, at least one, each with a name of its own.
        published (`Mapping[str, Any]`): From [`load_published`].
        reference (`str`, *optional*): Name of the system that the others are compared with; the first by default.

    Returns:
        `comparison` (with published systems), `multi_objective`, `lm_only`, `relevance_diversity` and, with several
        systems on the same articles, `paired_differences`.

    Raises:
        EvaluationError: No system is named `reference`, or one was evaluated for another task.
    """
    check_layout(evaluations, SUMMARIZATION)
    reference_system = find_reference(evaluations, reference)
    keys = list(dict.fromkeys(column.key for column in (*COMPARISON_COLUMNS, *VARIANT_COLUMNS, *PAIRED_COLUMNS)))
    comparisons = compare_with(reference_system, evaluations, keys)
    builder = TableBuilder(published, reference_system, comparisons, published["data"])
    tables = [
        builder.comparison(evaluations),
        builder.variants(
            "multi_objective",
            "Variants trained with the multi-objective loss",
            VARIANT_COLUMNS,
            [evaluation for evaluation in evaluations if evaluation.objective == "multi"],
        ),
        builder.variants(
            "lm_only",
            "Variants trained with the language-modelling loss alone",
            LM_COLUMNS,
            [evaluation for evaluation in evaluations if evaluation.objective == "lm"],
        ),
        builder.relevance_diversity(evaluations),
    ]
    if any(isinstance(comparison, PairedDifference) for comparison in comparisons.values()):
        tables.append(builder.paired_differences(evaluations))
    return tables


def is_comparable(evaluation: Evaluation, published: Mapping[str, Any]) -> bool:
    """
    Whether a system was evaluated on the data of the published rows: the whole test split of MSMO.

    An evaluation names its data by the user's folder, so the folder's name must contain "msmo" (in any case), the split be
    "test", and the number of articles be that of the split within 5 %.
    """
    data = published["data"]
    return (
        data["name"].casefold() in evaluation.data_name.casefold()
        and evaluation.split == data["split"]
        and abs(evaluation.articles - data["articles"]) <= SPLIT_TOLERANCE * data["articles"]
    )


def check_layout(evaluations: Sequence[Evaluation], task: Task) -> None:
    """
    Checks that all systems were evaluated for a task.

    Raises:
        EvaluationError: One was not.
    """
    for evaluation in evaluations:
        if evaluation.task != task.name:
            raise EvaluationError(
                f"{evaluation.system!r} was evaluated for {evaluation.task}, which stands in other tables than {task.name}; "
                f"pass --layout {evaluation.task} with the folders of that task alone."
            )


@dataclass(frozen=True)
class TableBuilder:
    """
    Fills tables: published rows, and the evaluated systems below.

    Args:
        published (`Mapping[str, Any]`): From [`load_published`].
        reference (`Evaluation`): The system that the others are compared with.
        comparisons (`Comparisons`): What [`compare_with`] found.
        data (`Mapping`, *optional*): What the published rows were measured on; None where that is not to be had.
        paired_columns (`Sequence[ScoreColumn]`, *optional*): What systems are compared on.
    """

    published: Mapping[str, Any]
    reference: Evaluation
    comparisons: Comparisons
    data: Mapping[str, Any] | None = None
    paired_columns: Sequence[ScoreColumn] = PAIRED_COLUMNS

    def comparison(self, evaluations: Sequence[Evaluation]) -> Table:
        table = empty_table("comparison", "Comparison with published systems", ("System",), COMPARISON_COLUMNS)
        part = self.published["comparison"]
        self.fill(table, COMPARISON_COLUMNS, part, part["rows"], evaluations)
        table.note(implied_rouge_l_note(part["rows"], self._citation(self.published["mmae"])))
        return table

    def variants(
        self, name: str, title: str, columns: Sequence[ScoreColumn], evaluations: Sequence[Evaluation]
    ) -> Table:
        table = empty_table(name, title, ("System",), columns)
        part = self.published[name]
        self.fill(table, columns, part, part["rows"], evaluations)
        if not evaluations:
            table.note("No evaluated system was trained with this objective.")
        return table

    def relevance_diversity(self, evaluations: Sequence[Evaluation]) -> Table:
        title = "Relevance against diversity of the selected images"
        table = empty_table("relevance_diversity", title, ("System", "Selection"), RELEVANCE_COLUMNS)
        part = self.published["multi_objective"]
        compared = {row["system"]: row for row in self.published["comparison"]["rows"]}
        rows = [
            # The relevance table prints no MaxSim; the comparison gives it for the system that is in both.
            {"max_sim": compared.get(row["system"], {}).get("max_sim"), **row}
            for row in part["rows"]
        ]
        self.fill(table, RELEVANCE_COLUMNS, part, rows, evaluations, selection=True)
        table.note(
            "IP, MaxSim and CLIPScore measure relevance; PCD, the pairwise cosine distance among the selected images, "
            "measures diversity, filtered: among those relevant to the summary. A published MaxSim is that of the "
            "comparison table."
        )
        return table

    def paired_differences(self, evaluations: Sequence[Evaluation]) -> Table:
        others = [evaluation for evaluation in evaluations if evaluation.system != self.reference.system]
        tested = {key for (_, key), comparison in self.comparisons.items() if isinstance(comparison, PairedDifference)}
        columns = [column for column in self.paired_columns if column.key in tested]
        table = empty_table(
            "paired_differences", f"Paired differences to {self.reference.system}", ("System",), columns
        )
        for evaluation in others:
            found = [self.comparisons.get((evaluation.system, column.key)) for column in columns]
            if evaluation.articles_sha256 != self.reference.articles_sha256:
                table.note(self._other_articles(evaluation))
                continue
            notes = self._note_not_compared(table, evaluation, self.paired_columns)
            table.rows += self._paired_rows(table, evaluation, columns, found, notes)
        whole = "MMAE is computed from each resample's means, each over the articles where it is defined."
        if any(column.key == BLEU4 for column in columns):
            whole = "BLEU-4 is computed from the counts of each resample's articles."
        table.note(
            "Mean difference to the reference system on the articles that both scored, with its 95 % interval and p-value "
            f"(paired percentile bootstrap, {RESAMPLES} resamples of articles; p-values are two-sided and not corrected for the "
            f"number of comparisons). {whole}"
        )
        return table

    def _paired_rows(
        self,
        table: Table,
        evaluation: Evaluation,
        columns: Sequence[ScoreColumn],
        found: Sequence[PairedDifference | str | None],
        notes: Mapping[str, int],
    ) -> list[Row]:
        means, intervals, p_values, articles = [], [], [], []
        for column, comparison in zip(columns, found, strict=True):
            if not isinstance(comparison, PairedDifference):
                missing = (
                    f"{evaluation.system}: {column.heading} is not computed for it or for {self.reference.system}."
                )
                means.append(Cell(DASH, notes=(notes.get(column.key) or table.note(missing),)))
                for cells in (intervals, p_values, articles):
                    cells.append(Cell(""))
                continue
            mean, low, high = (
                column.shown_difference(column.factor * value)
                for value in (comparison.mean, comparison.low, comparison.high)
            )
            means.append(Cell(mean + _direction(comparison)))
            intervals.append(Cell(f"{low} to {high}"))
            p_values.append(Cell(f"{comparison.p_value:.3f}"))
            articles.append(Cell(str(comparison.articles)))
        return [
            Row("own", (Cell(f"{OWN_MARK} {evaluation.system}"), *means)),
            Row("detail", (Cell("95 % interval"), *intervals)),
            Row("detail", (Cell("p-value"), *p_values)),
            Row("detail", (Cell("articles"), *articles)),
        ]

    def fill(
        self,
        table: Table,
        columns: Sequence[ScoreColumn],
        part: Mapping[str, Any],
        published_rows: Sequence[Mapping[str, Any]],
        evaluations: Sequence[Evaluation],
        selection: bool = False,
    ) -> None:
        """Writes the published rows of a part, and those of the systems, with the notes that they need."""
        citation = table.note(f"Published, {part['where']}: {self._citation(part)}")
        best = {
            column.key: max(row[column.key] for row in published_rows if row.get(column.key) is not None)
            for column in columns
        }
        # All published rows with image scores select by the visual relevance predictor.
        texts = [Cell("vrp")] if selection else []
        for row in published_rows:
            head = Cell(row["system"], notes=(citation,))
            scores = [_published_cell(table, column, row.get(column.key), best[column.key]) for column in columns]
            table.rows.append(Row("published", (head, *texts, *scores)))
        for evaluation in evaluations:
            table.rows += self._own_rows(table, columns, evaluation, best, selection)
        if evaluations:
            self._explain(table, columns, evaluations)

    def _is_comparable(self, evaluation: Evaluation) -> bool:
        return self.data is not None and is_comparable(evaluation, self.published)

    def _citation(self, part: Mapping[str, Any]) -> str:
        source = self.published["sources"][part["source"]]
        return f"{source['citation']}, {source['url']}"

    def _own_rows(
        self,
        table: Table,
        columns: Sequence[ScoreColumn],
        evaluation: Evaluation,
        best: Mapping[str, float],
        selection: bool,
    ) -> list[Row]:
        remarks = [f"{evaluation.system}: {note}" for note in evaluation.notes]
        notes = map(table.note, (self._described(evaluation, columns), *remarks))
        head = Cell(f"{OWN_MARK} {evaluation.system}", notes=tuple(notes))
        values, intervals, differences = [], [], []
        for column in columns:
            score = evaluation.scores.get(column.key)
            if score is None:
                reason = evaluation.not_computed.get(column.key, "the evaluation gives no reason")
                values.append(Cell(DASH, notes=(table.note(f"{evaluation.system}: not computed: {reason}"),)))
                intervals.append(Cell(""))
                differences.append(Cell(""))
                continue
            value = column.factor * score.value
            direction = _direction(self.comparisons.get((evaluation.system, column.key)))
            values.append(Cell(column.shown(value) + direction))
            ends = [end for end in (score.low, score.high) if end is not None]
            shown = " to ".join(column.shown(column.factor * end) for end in ends)
            intervals.append(Cell(shown if len(ends) == 2 else ""))
            if column.key in MODEL_BASED:
                unknown = table.note(
                    "No difference to published: the score depends on the model that measures it, and the one behind the "
                    "published values is not known."
                )
                differences.append(Cell(DASH, notes=(unknown,)))
            else:
                differences.append(Cell(column.shown_difference(value - best[column.key])))
        texts = [Cell(evaluation.selection)] if selection else []
        blank = [Cell("")] * len(texts)
        rows = [Row("own", (head, *texts, *values))]
        if any(cell.text for cell in intervals):
            rows.append(Row("detail", (Cell("interval"), *blank, *intervals)))
        if self._is_comparable(evaluation):
            rows.append(Row("detail", (Cell("to best published"), *blank, *differences)))
        if selection:
            rows += _other_selections(table, columns, evaluation)
        return rows

    def _explain(self, table: Table, columns: Sequence[ScoreColumn], evaluations: Sequence[Evaluation]) -> None:
        elsewhere = [evaluation for evaluation in evaluations if not self._is_comparable(evaluation)]
        if elsewhere and self.data is None:
            where = "; ".join(f"{evaluation.system}: {_data(evaluation)}" for evaluation in elsewhere)
            table.warnings.append(
                f"Not comparable with the published rows, which are on the paper's own test sets, with another ROUGE and BLEU: "
                f"{where}."
            )
        elif elsewhere:
            data = self.data
            where = "; ".join(f"{evaluation.system}: {_data(evaluation)}" for evaluation in elsewhere)
            table.warnings.append(
                f"Not comparable with the published rows, which are on the whole {data['split']} split of {data['name']} "
                f"(about {data['articles']:,} articles): {where}. No difference to published rows is given for these."
                f" Comparable is data named after {data['name']}, split {data['split']}, with that number of articles."
            )
        to_best = "To best published: own value minus the largest published value of the column, which is set in bold."
        table.note(
            f"{OWN_MARK} evaluated by spectra-sum evaluate; interval: the confidence interval that it gives. "
            + (to_best if self.data is not None else "The largest published value of a column is set in bold.")
        )
        others = [evaluation for evaluation in evaluations if evaluation.system != self.reference.system]
        tested = [
            evaluation.system for evaluation in others if evaluation.articles_sha256 == self.reference.articles_sha256
        ]
        if tested:
            table.note(
                f"↑ ↓ significantly above or below {self.reference.system} at the 5 % level (paired randomisation test over the "
                "articles that both scored, not corrected for the number of comparisons)."
            )
        for evaluation in others:
            if evaluation.system in tested:
                self._note_not_compared(table, evaluation, columns)
            else:
                table.note(self._other_articles(evaluation))

    def _note_not_compared(
        self, table: Table, evaluation: Evaluation, columns: Sequence[ScoreColumn]
    ) -> dict[str, int]:
        """By the name of a score that is not compared, the number of the note that says why."""
        by_reason = defaultdict(list)
        for column in columns:
            comparison = self.comparisons.get((evaluation.system, column.key))
            if isinstance(comparison, str):
                by_reason[comparison].append(column)
        numbers = {}
        for reason, apart in by_reason.items():
            pair = f"{evaluation.system} and {self.reference.system}"
            headings = ", ".join(column.heading for column in apart)
            number = table.note(f"{pair} are not compared on {headings}: {reason}.")
            numbers.update({column.key: number for column in apart})
        return numbers

    def _other_articles(self, evaluation: Evaluation) -> str:
        return f"{evaluation.system} and {self.reference.system} are not compared: they scored different articles."

    def _described(self, evaluation: Evaluation, columns: Sequence[ScoreColumn]) -> str:
        counts = [
            f"{column.heading} over {evaluation.scores[column.key].articles:,}"
            for column in columns
            if column.key in evaluation.scores and evaluation.scores[column.key].articles != evaluation.articles
        ]
        computed = [column.key for column in columns if column.key in evaluation.scores]
        models = dict.fromkeys(words for key in computed for words in measured_by(evaluation, key))
        models.pop(USUAL, None)
        dropped = [f"{what.replace('_', ' ')}: {count:,}" for what, count in evaluation.dropped.items() if count]
        images = [] if evaluation.selection == NO_SELECTION else [f"images by {evaluation.selection}"]
        parts = [f"{evaluation.system}: {evaluation.source}", *images, _data(evaluation)]
        return "; ".join([*parts, *models, *counts, *dropped])


def empty_table(name: str, title: str, text_columns: tuple[str, ...], columns: Sequence[ScoreColumn]) -> Table:
    """A table without rows."""
    headings = (*text_columns, *(column.heading for column in columns))
    return Table(name, title, headings, len(text_columns))


def _published_cell(table: Table, column: ScoreColumn, value: float | None, best: float) -> Cell:
    if value is None:
        return Cell(DASH, notes=(table.note("Not published."),))
    return Cell(column.shown(value), best=value == best)


def _data(evaluation: Evaluation) -> str:
    return f"{evaluation.data_name}, {evaluation.split}, {evaluation.articles:,} articles"


def _direction(comparison: PairedDifference | str | None) -> str:
    if not significant(comparison):
        return ""
    return " ↑" if comparison.mean > 0 else " ↓"


def _other_selections(table: Table, columns: Sequence[ScoreColumn], evaluation: Evaluation) -> list[Row]:
    rows = []
    for name, scores in evaluation.selections.items():
        if name == evaluation.selection:
            continue
        note = table.note(
            "Same summaries: images that another method selects for the summaries of the system above; means without "
            f"interval and test, {DASH} where undefined for every article."
        )
        values = [
            Cell(column.shown(column.factor * scores[column.key]) if column.key in scores else DASH)
            for column in columns
        ]
        rows.append(Row("detail", (Cell("same summaries", notes=(note,)), Cell(name), *values)))
    return rows
