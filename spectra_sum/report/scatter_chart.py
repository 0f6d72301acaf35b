"""Geometry of the scatter plot: labelled points, whose labels keep clear of each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .charts import Axes, number, ticks_between

DOT_RADIUS = 4.5
# Generous estimates for text of 12 to 14 units in the fonts of the page; the exact width is the browser's to know.
CHARACTER_WIDTH, LABEL_HEIGHT, LONGEST_LABEL = 7.0, 15.0, 26

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ScatterPoint:
    """
    A dot at (`x`, `y`) and its label at (`label_x`, `label_y`), its vertical middle, aligned by `anchor`.

    `leader` is a line (x1, y1, x2, y2) from the dot to a label that had to move away from it, else `None`.
    """

    name: str
    label: str
    style: int
    values: tuple[str, str]
    x: float
    y: float
    label_x: float
    label_y: float
    anchor: str
    leader: Box | None


@dataclass(frozen=True)
class ScatterChart:
    """A scatter plot, ready to be drawn."""

    title: str
    x_label: str
    y_label: str
    points: list[ScatterPoint]
    axes: Axes

    @property
    def description(self) -> str:
        """The chart in words, for those who do not see it."""
        listed = "; ".join(f"{point.name} at {point.values[0]}, {point.values[1]}" for point in self.points)
        return f"{self.x_label} across, {self.y_label} upwards: {listed}."


def scatter_chart(title: str, points: Sequence[tuple[str, float, float]], x_label: str, y_label: str) -> ScatterChart:
    """
    Lays out a scatter plot; its axes cover the points and need not start at zero.

    A label stands to the right of its dot, or at the first other place around it where it covers neither a dot nor
    another label; where there is none, at the place where it covers least. Long names are cut in the label only.

    Args:
        points (`Sequence[tuple[str, float, float]]`):
            (name, x, y) of at least one point, finite.
    """
    axes = Axes(
        ticks_between(min(x for _, x, _ in points), max(x for _, x, _ in points)),
        ticks_between(min(y for _, _, y in points), max(y for _, _, y in points)),
        height=300,
        top=34,
        bottom=264,
    )
    positions = [(axes.x(x), axes.y(y)) for _, x, y in points]
    reach = DOT_RADIUS + 1
    taken = [(x - reach, y - reach, x + reach, y + reach) for x, y in positions]
    drawn = []
    for style, ((name, x_value, y_value), (x, y)) in enumerate(zip(points, positions, strict=True)):
        label = name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"
        width = len(label) * CHARACTER_WIDTH
        label_x, label_y, anchor = min(_places(x, y), key=lambda place: _covered(_box(*place, width), taken, axes))
        box = _box(label_x, label_y, anchor, width)
        taken.append(box)
        values = (number(x_value), number(y_value))
        drawn.append(ScatterPoint(name, label, style, values, x, y, label_x, label_y, anchor, _leader(x, y, box)))
    return ScatterChart(title, x_label, y_label, drawn, axes)


def _places(x: float, y: float) -> list[tuple[float, float, str]]:
    """Places of a label from the best to the worst: beside the dot, above and below it, then row by row further away."""
    side, row = DOT_RADIUS + 4, LABEL_HEIGHT
    places = [(x + side, y, "start"), (x - side, y, "end"), (x, y - row, "middle"), (x, y + row, "middle")]
    for rows in (1, 2, 3, 4):
        for shift in (-rows * row, rows * row):
            places += [(x + side, y + shift, "start"), (x - side, y + shift, "end")]
    return [(round(label_x, 1), round(label_y, 1), anchor) for label_x, label_y, anchor in places]


def _box(label_x: float, label_y: float, anchor: str, width: float) -> Box:
    left = label_x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return left, label_y - LABEL_HEIGHT / 2, left + width, label_y + LABEL_HEIGHT / 2


def _covered(box: Box, taken: Sequence[Box], axes: Axes) -> float:
    """The area of `box` that lies on dots, on other labels, or outside of the plot."""

    def common(other: Box) -> float:
        width = min(box[2], other[2]) - max(box[0], other[0])
        height = min(box[3], other[3]) - max(box[1], other[1])
        return max(width, 0.0) * max(height, 0.0)

    area = (box[2] - box[0]) * (box[3] - box[1])
    inside = common((axes.left, axes.top, axes.right + 8, axes.bottom))
    return round(sum(common(other) for other in taken) + area - inside, 3)


def _leader(x: float, y: float, box: Box) -> Box | None:
    near_x, near_y = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
    distance = math.hypot(near_x - x, near_y - y)
    if distance < LABEL_HEIGHT:
        return None
    start = (DOT_RADIUS + 1) / distance
    return (
        round(x + start * (near_x - x), 1),
        round(y + start * (near_y - y), 1),
        round(near_x, 1),
        round(near_y, 1),
    )
