"""Geometry of the charts: axes and lines. The templates draw them as inline SVG, coloured by the page's style."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tick:
    """A tick at `position` along its axis, in viewBox units."""

    position: float
    label: str


@dataclass(frozen=True)
class Axes:
    """
    A drawing of `width` × `height` viewBox units whose plot spans `left` to `right` and `top` to `bottom`.

    The values of the first and the last tick lie on the plot's edges; y grows downwards.
    """

    x_values: Sequence[float]
    y_values: Sequence[float]
    # Narrow, so that the labels stay readable on a phone.
    width: int = 400
    height: int = 240
    left: int = 48
    right: int = 388
    top: int = 12
    bottom: int = 204

    def x(self, value: float) -> float:
        """The position of `value` along the x axis."""
        low, high = self.x_values[0], self.x_values[-1]
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """The position of `value` along the y axis."""
        low, high = self.y_values[0], self.y_values[-1]
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)

    @property
    def x_ticks(self) -> list[Tick]:
        return _ticks(self.x_values, self.x)

    @property
    def y_ticks(self) -> list[Tick]:
        return _ticks(self.y_values, self.y)


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
    axes: Axes

    @property
    def description(self) -> str:
        """The chart in words, for those who do not see it."""
        values = ", ".join(f"{line.name} ends at {line.last_value}" for line in self.lines)
        return f"{self.title} by {self.x_label}: {values}."


def number(value: float, digits: int = 3) -> str:
    """A number in few characters: 1,234 for large ones, else `digits` significant digits."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.{digits}g}"


def _ticks(values: Sequence[float], position: Callable[[float], float]) -> list[Tick]:
    """Ticks with as few digits as tell them apart."""
    for digits in range(3, 12):
        labels = [number(value, digits) for value in values]
        if len(set(labels)) == len(labels):
            break
    return [Tick(position(value), label) for value, label in zip(values, labels, strict=True)]


def ticks_between(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` multiples of 1, 2 or 5 times a power of ten that cover [low, high]."""
    # Values that differ by rounding only are the same.
    span = high - low if high - low > 1e-9 * max(abs(low), abs(high)) else 0.0
    raw = span / count or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def line_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    styles: Mapping[str, int],
    x_label: str = "step",
    x_values: Sequence[float] | None = None,
) -> LineChart | None:
    """
    Lays out a line chart whose y axis starts at zero, or below it for negative values.

    A value that is not finite interrupts its line.

    Args:
        series (`Mapping[str, Sequence[tuple[float, float]]]`):
            (x, y) points in order of x, by name.
        styles (`Mapping[str, int]`):
            The style number of each name.
        x_label (`str`, *optional*, defaults to `"step"`):
            Name of the x axis.
        x_values (`Sequence[float]`, *optional*):
            Where the x axis has its ticks, two or more that cover all points; round numbers if not given.

    Returns:
        The chart, or `None` when no series has a finite point.
    """
    finite = [point for points in series.values() for point in points if math.isfinite(point[1])]
    if not finite:
        return None
    axes = Axes(
        x_values or ticks_between(min(x for x, _ in finite), max(x for x, _ in finite)),
        ticks_between(min(0.0, min(y for _, y in finite)), max(0.0, max(y for _, y in finite))),
    )
    lines = []
    for name, points in series.items():
        commands, drawn = [], False
        for x, y in points:
            if math.isfinite(y):
                commands.append(f"{'L' if drawn else 'M'}{axes.x(x)} {axes.y(y)}")
            drawn = math.isfinite(y)
        last = next((point for point in reversed(points) if math.isfinite(point[1])), None)
        if last is not None:
            end = (axes.x(last[0]), axes.y(last[1]))
            lines.append(Line(name, styles[name], "".join(commands), end, number(last[1])))
    return LineChart(title, x_label, lines, axes)
