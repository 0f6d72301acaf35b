"""What the page shows of an evaluation: tables of scores, relevance against diversity, precision over k, calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .charts import LineChart, line_chart, ticks_between
from .contents import CalibrationCurve, PrecisionCurve, RelevancePoint, ScoreTable
from .reliability_chart import ReliabilityChart, reliability_chart
from .scatter_chart import ScatterChart, scatter_chart

# Up to this k every k has its own tick.
MOST_TICKS = 12


@dataclass(frozen=True)
class DataTable:
    """The numbers of a chart as a table; the first column names the rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class TradeOff:
    """The section on relevance against diversity."""

    chart: ScatterChart
    table: DataTable


@dataclass(frozen=True)
class PrecisionOverK:
    """The section on precision over k; `behind` says how many articles stand behind each curve."""

    chart: LineChart
    table: DataTable
    behind: list[str]


@dataclass(frozen=True)
class Reliability:
    """The section on calibration: a chart and its numbers for each curve."""

    charts: list[tuple[ReliabilityChart, DataTable]]


def checked_tables(tables: Sequence[ScoreTable]) -> Sequence[ScoreTable]:
    """The tables as they are.

    Raises:
        ValueError: A row has not one text per column.
    """
    for table in tables:
        for row in table.rows:
            if len(row) != len(table.columns):
                raise ValueError(
                    f"table {table.title!r}: a row has {len(row)} texts for {len(table.columns)} columns: {list(row)}."
                )
    return tables


def trade_off(points: Sequence[RelevancePoint], relevance_label: str, diversity_label: str) -> TradeOff | None:
    """The scatter plot of the points; `None` without any.

    Raises:
        ValueError: A point is not finite.
    """
    for point in points:
        if not (math.isfinite(point.relevance) and math.isfinite(point.diversity)):
            raise ValueError(
                f"point {point.name!r} of relevance against diversity is not finite: ({point.relevance}, "
                f"{point.diversity}); leave out what is undefined, and say so in a note."
            )
    if not points:
        return None
    return TradeOff(
        scatter_chart(
            "Relevance against diversity",
            [(point.name, point.relevance, point.diversity) for point in points],
            relevance_label,
            diversity_label,
        ),
        DataTable(
            ["Selection", relevance_label, diversity_label],
            [[point.name, f"{point.relevance:.3f}", f"{point.diversity:.3f}"] for point in points],
        ),
    )


def precision_over_k(curves: Sequence[PrecisionCurve]) -> PrecisionOverK | None:
    """The curves in one chart; `None` without any.

    Raises:
        ValueError: A curve has no points, or two have the same name.
    """
    _check_curves("precision", curves)
    if not curves:
        return None
    largest = max(point.k for curve in curves for point in curve.points)
    chart = line_chart(
        "Precision of the first k images",
        {curve.name: [(point.k, point.precision) for point in curve.points] for curve in curves},
        {curve.name: index for index, curve in enumerate(curves)},
        "k",
        list(range(1, max(largest, 2) + 1)) if largest <= MOST_TICKS else ticks_between(1, largest),
    )
    behind = []
    for curve in curves:
        last = curve.points[-1]
        behind.append(
            f"{curve.name}: {last.articles:,} article{'s' * (last.articles != 1)} at every k; "
            f"{last.articles_with_k_images:,} of them with at least {last.k} scored image{'s' * (last.k != 1)}."
        )
    rows = [
        [
            curve.name,
            str(point.k),
            f"{point.precision:.3f}",
            f"{point.articles:,}",
            f"{point.articles_with_k_images:,}",
        ]
        for curve in curves
        for point in curve.points
    ]
    columns = ["Ranking", "k", "Precision", "Articles", "With at least k images"]
    return PrecisionOverK(chart, DataTable(columns, rows), behind)


def reliability(curves: Sequence[CalibrationCurve]) -> Reliability | None:
    """A chart for each curve; `None` without any.

    Raises:
        ValueError: A curve has no points, or two have the same name.
    """
    _check_curves("calibration", curves)
    columns = ["Bin", "Mean probability", "Share of gold images", "Images"]
    charts = []
    for curve in curves:
        chart = reliability_chart(curve)
        rows = [[point.bin, point.probability, point.gold_share, point.images] for point in chart.points]
        charts.append((chart, DataTable(columns, rows)))
    return Reliability(charts) if charts else None


def _check_curves(kind: str, curves: Sequence[PrecisionCurve] | Sequence[CalibrationCurve]) -> None:
    names = [curve.name for curve in curves]
    for curve in curves:
        if not curve.points:
            raise ValueError(f"{kind} curve {curve.name!r} has no points; leave it out.")
        if names.count(curve.name) > 1:
            raise ValueError(f"two {kind} curves are named {curve.name!r}; name each of them differently.")
