"""Geometry of the reliability diagram: observed over predicted probability, and how many images stand behind it."""

from dataclasses import dataclass

from .charts import Axes, number, ticks_between
from .contents import CalibrationCurve

BARS_TOP, BARS_BOTTOM = 278, 318
COUNT_CHARACTER_WIDTH = 7.0


@dataclass(frozen=True)
class ReliabilityPoint:
    """A bin of probabilities: a dot at (`x`, `y`), and a bar from `left` to `right` up to `bar_top`."""

    bin: str
    probability: str
    gold_share: str
    images: str
    short_images: str
    x: float
    y: float
    left: float
    right: float
    bar_top: float


@dataclass(frozen=True)
class ReliabilityChart:
    """A reliability diagram, ready to be drawn; `path` connects its dots, `counts_fit` the numbers over its bars."""

    title: str
    error: str
    images: str
    points: list[ReliabilityPoint]
    path: str
    counts_fit: bool
    axes: Axes
    bars_bottom: int = BARS_BOTTOM

    @property
    def description(self) -> str:
        """The chart in words, for those who do not see it."""
        listed = "; ".join(f"{point.probability}: {point.gold_share} of {point.images}" for point in self.points)
        return (
            f"Mean predicted probability and share of gold images per bin, {listed}. "
            f"Expected calibration error {self.error}, {self.images} images."
        )


def short_count(count: int) -> str:
    """A count in at most four characters, below a billion: 999, 1.2k, 12k, 1.2M."""
    # The bounds are those of the rounded numbers: 999,600 is 1.0M and not 1000k.
    unit, name = (1, "") if count < 1_000 else (1_000, "k") if count < 999_500 else (1_000_000, "M")
    scaled = count / unit
    return f"{scaled:.1f}{name}" if unit > 1 and scaled < 9.95 else f"{scaled:.0f}{name}"


def reliability_chart(curve: CalibrationCurve) -> ReliabilityChart:
    """Lays out the diagram of one curve with at least one point; both axes span [0, 1]."""
    fifths = ticks_between(0.0, 1.0)
    axes = Axes(fifths, fifths, height=358, top=30, bottom=230)
    most = max(point.images for point in curve.points)
    points = [
        ReliabilityPoint(
            f"{number(point.low)} to {number(point.high)}",
            f"{point.probability:.3f}",
            f"{point.gold_share:.3f}",
            f"{point.images:,}",
            short_count(point.images),
            axes.x(point.probability),
            axes.y(point.gold_share),
            axes.x(point.low),
            axes.x(point.high),
            # A bin with few images still shows a line.
            round(BARS_BOTTOM - max(point.images / most * (BARS_BOTTOM - BARS_TOP), 1.0), 1),
        )
        for point in curve.points
    ]
    return ReliabilityChart(
        curve.name,
        f"{curve.expected_calibration_error:.3f}",
        f"{sum(point.images for point in curve.points):,}",
        points,
        "M" + "L".join(f"{point.x} {point.y}" for point in points),
        all(len(point.short_images) * COUNT_CHARACTER_WIDTH <= point.right - point.left for point in points),
        axes,
    )
