"""Drawings for the demo's news articles, made with Pillow's primitives."""

from collections.abc import Callable

from PIL import Image, ImageDraw

WIDTH, HEIGHT = 480, 320
# Drawn larger and reduced, which smooths the edges.
_SCALE = 3
SKY, SEA, INK = "#cfe6f2", "#3d7ea6", "#26323a"


class _Canvas:
    """Shapes in the units of the finished image."""

    def __init__(self, background: str):
        self.image = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * _SCALE), background)
        self._draw = ImageDraw.Draw(self.image)

    def box(self, left: float, top: float, right: float, bottom: float, fill: str, radius: float = 0) -> None:
        self._draw.rounded_rectangle(_scaled(left, top, right, bottom), radius * _SCALE, fill)

    def disc(self, x: float, y: float, radius: float, fill: str) -> None:
        self._draw.ellipse(_scaled(x - radius, y - radius, x + radius, y + radius), fill)

    def area(self, fill: str, *points: tuple[float, float]) -> None:
        self._draw.polygon([tuple(_scaled(*point)) for point in points], fill)

    def line(self, fill: str, width: float, *points: tuple[float, float]) -> None:
        self._draw.line([tuple(_scaled(*point)) for point in points], fill, round(width * _SCALE), joint="curve")

    def finished(self) -> Image.Image:
        return self.image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _scaled(*values: float) -> list[float]:
    return [value * _SCALE for value in values]


def draw_tram() -> Image.Image:
    """A red tram on a quay, with a crane behind the water."""
    canvas = _Canvas(SKY)
    canvas.box(0, 170, WIDTH, 235, SEA)
    canvas.line("#5f6f78", 8, (390, 175), (390, 60), (300, 60))
    canvas.line("#5f6f78", 4, (390, 60), (430, 85), (430, 175))
    canvas.line("#5f6f78", 3, (320, 60), (320, 110))
    canvas.box(0, 235, WIDTH, HEIGHT, "#b9b1a3")
    canvas.line("#6d675d", 4, (0, 285), (WIDTH, 285))
    canvas.line(INK, 2, (0, 92), (WIDTH, 92))
    canvas.line(INK, 3, (190, 130), (215, 93), (240, 130))
    canvas.box(50, 130, 385, 268, "#c5362f", 18)
    canvas.box(50, 215, 385, 228, "#f4ece0")
    for left in (75, 140, 205, 270):
        canvas.box(left, 150, left + 50, 200, "#e9f4fa", 5)
    canvas.box(335, 150, 375, 250, "#e9f4fa", 5)
    for x in (110, 160, 285, 335):
        canvas.disc(x, 272, 14, INK)
        canvas.disc(x, 272, 5, "#9aa5ab")
    return canvas.finished()


def draw_line_map() -> Image.Image:
    """A tram line with its stops between two banks of water."""
    canvas = _Canvas("#eef0e4")
    canvas.area("#a9d0e4", (0, 215), (150, 190), (290, 245), (WIDTH, 170), (WIDTH, HEIGHT), (0, HEIGHT))
    for street in (((60, 0), (90, 195)), ((200, 0), (220, 210)), ((340, 0), (350, 210)), ((0, 60), (WIDTH, 40))):
        canvas.line("#ffffff", 9, *street)
    stops = ((40, 115), (125, 130), (205, 150), (285, 175), (365, 145), (440, 110))
    canvas.line("#c5362f", 8, *stops)
    for x, y in stops:
        canvas.disc(x, y, 11, "#c5362f")
        canvas.disc(x, y, 6, "#ffffff")
    return canvas.finished()


def draw_passengers() -> Image.Image:
    """A bar chart of a week, whose first day is the highest."""
    canvas = _Canvas("#ffffff")
    for y in (70, 130, 190):
        canvas.line("#d8dee2", 2, (45, y), (450, y))
    for index, value in enumerate((38, 31, 29, 30, 34, 27, 22)):
        left = 62 + 56 * index
        canvas.box(left, 260 - 5.4 * value, left + 36, 260, "#c5362f" if index == 0 else "#7b98a8", 4)
    canvas.line(INK, 3, (45, 40), (45, 260), (450, 260))
    return canvas.finished()


def draw_apples() -> Image.Image:
    """An apple tree with red fruit on a meadow."""
    canvas = _Canvas(SKY)
    canvas.box(0, 245, WIDTH, HEIGHT, "#86ad5b")
    canvas.area("#6b4a2f", (222, 275), (258, 275), (250, 165), (230, 165))
    canvas.line("#6b4a2f", 9, (240, 200), (190, 150))
    canvas.line("#6b4a2f", 9, (240, 190), (295, 145))
    for x, y, radius in ((180, 125, 55), (300, 120, 55), (240, 90, 65), (240, 140, 60)):
        canvas.disc(x, y, radius, "#4f7f3a")
    for x, y in (
        (160, 120),
        (200, 150),
        (195, 85),
        (240, 60),
        (250, 120),
        (290, 85),
        (310, 140),
        (265, 165),
        (335, 110),
    ):
        canvas.disc(x, y, 11, "#cf3b30")
    for x in (175, 285, 330):
        canvas.disc(x, 270, 10, "#cf3b30")
    return canvas.finished()


def draw_temperature() -> Image.Image:
    """A curve over five nights that falls below the line of zero degrees in three of them."""
    canvas = _Canvas("#ffffff")
    canvas.box(45, 170, 450, 265, "#e3eff8")
    canvas.line("#7b98a8", 3, (45, 170), (450, 170))
    depths = ((45, 70), (85, 150), (125, 75), (165, 215), (205, 90), (245, 245), (285, 100), (325, 225), (365, 80))
    canvas.line("#2f6fb0", 5, *depths, (405, 140), (450, 60))
    for x, y in ((165, 215), (245, 245), (325, 225)):
        canvas.disc(x, y, 8, "#c5362f")
    canvas.line(INK, 3, (45, 40), (45, 265), (450, 265))
    return canvas.finished()


def draw_mountains() -> Image.Image:
    """A river in a green valley below mountains with snow."""
    canvas = _Canvas(SKY)
    canvas.disc(395, 65, 30, "#f7d774")
    canvas.area("#8797a3", (0, 220), (120, 70), (240, 220))
    canvas.area("#748592", (150, 220), (290, 45), (WIDTH, 220))
    canvas.area("#ffffff", (120, 70), (88, 110), (112, 103), (128, 116), (152, 110))
    canvas.area("#ffffff", (290, 45), (254, 90), (280, 82), (300, 98), (334, 86))
    canvas.box(0, 215, WIDTH, HEIGHT, "#86ad5b")
    canvas.area("#a9d0e4", (250, 215), (262, 215), (300, 260), (380, 320), (250, 320), (255, 260))
    return canvas.finished()


DRAWINGS: dict[str, Callable[[], Image.Image]] = {
    "tram": draw_tram,
    "line_map": draw_line_map,
    "passengers": draw_passengers,
    "apples": draw_apples,
    "temperature": draw_temperature,
    "mountains": draw_mountains,
}
