"""Geometry of the line charts: the template draws them as inline SVG, coloured by the page's style."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Units of the SVG's viewBox: narrow, so that the labels stay readable on a phone.
WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 36


@dataclass(frozen=True)
class Tick:
    """A tick at `position` along its axis, in viewBox units."""

    position: float
    label: str


@dataclass(frozen=True)
class Line:
    """
    One series: `path` is SVG path data, `end` the position of its last point.

    `style` is the series' number among all names of the chart's group; it selects colour and dash pattern, so that a
    name looks the same in every chart.
    """

    name: str
    style: int
    path: str
    end: tuple[float, float]
    last_value: str


@dataclass(frozen=True)
class LineChart:
    """A line chart, ready to be drawn."""

    title: str
    x_label: str
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]

    @property
    def description(self) -> str:
        """The chart in words, for those who do not see it."""
        values = ", ".join(f"{line.name} ends at {line.last_value}" for line in self.lines)
        return f"{self.title} by {self.x_label}: {values}."


def number(value: float) -> str:
    """A number in few characters: 1,234 for large ones, else three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def ticks_between(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` multiples of 1, 2 or 5 times a power of ten that cover [low, high]."""
    raw = (high - low) / count or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def line_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    styles: Mapping[str, int],
    x_label: str = "step",
) -> LineChart | None:
    """
    Lays out a line chart whose y axis starts at zero, or below it for negative values.

    A value that is not finite interrupts its line.

    Args:
        series (`Mapping[str, Sequence[tuple[float, float]]]`):
            (x, y) points in order of x, by name.
        styles (`Mapping[str, int]`):
            The style number of each name.

    Returns:
        The chart, or `None` when no series has a finite point.
    """
    finite = [point for points in series.values() for point in points if math.isfinite(point[1])]
    if not finite:
        return None
    x_values = ticks_between(min(x for x, _ in finite), max(x for x, _ in finite))
    y_values = ticks_between(min(0.0, min(y for _, y in finite)), max(0.0, max(y for _, y in finite)))

    def x_position(x: float) -> float:
        return LEFT + (x - x_values[0]) / (x_values[-1] - x_values[0]) * (WIDTH - LEFT - RIGHT)

    def y_position(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_values[0]) / (y_values[-1] - y_values[0]) * (HEIGHT - TOP - BOTTOM)

    lines = []
    for name, points in series.items():
        commands, drawn = [], False
        for x, y in points:
            if math.isfinite(y):
                commands.append(f"{'L' if drawn else 'M'}{x_position(x):.1f} {y_position(y):.1f}")
            drawn = math.isfinite(y)
        last = next((point for point in reversed(points) if math.isfinite(point[1])), None)
        if last is not None:
            end = (round(x_position(last[0]), 1), round(y_position(last[1]), 1))
            lines.append(Line(name, styles[name], "".join(commands), end, number(last[1])))
    return LineChart(
        title,
        x_label,
        lines,
        [Tick(round(x_position(x), 1), number(x)) for x in x_values],
        [Tick(round(y_position(y), 1), number(y)) for y in y_values],
    )
