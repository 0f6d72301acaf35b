"""The closed world's pictures: 48 x 48 charts and scenes, drawn from a meaning and a random generator.

An image says one thing about one colour: a chart shows the colour's ``trend`` as a filled area or as a thin line, a
scene shows its ``setting`` as a whole-image background behind a large emblem, and a sign its ``count`` as one to four
dots. Areas and backgrounds are what a very small vision model learns within minutes; lines and counts are harder.
"""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

SIZE = 48

COLOURS = {
    "red": (0.86, 0.10, 0.12),
    "yellow": (0.94, 0.86, 0.10),
    "green": (0.10, 0.66, 0.18),
    "cyan": (0.08, 0.76, 0.80),
    "blue": (0.12, 0.20, 0.88),
    "purple": (0.68, 0.12, 0.78),
}
TRENDS = ("rising", "falling", "peaking", "dipping")
SETTINGS = ("night", "winter", "desert")
COUNTS = ("single", "double", "triple", "quadruple")
IMAGE_VALUES = {"trend": TRENDS, "setting": SETTINGS, "count": COUNTS}
"""What an image can say, per kind; meaning ids run through the kinds, in each through the colours, and their values."""

_FIRST_MEANING = dict(
    zip(
        IMAGE_VALUES,
        itertools.accumulate((len(COLOURS) * len(values) for values in IMAGE_VALUES.values()), initial=0),
        strict=False,
    )
)
MEANINGS = sum(len(COLOURS) * len(values) for values in IMAGE_VALUES.values())
"""Number of different meanings."""

_PART = 64  # images drawn at a time: the intermediate arrays then stay in the processor's cache
_COLOUR_RGB = np.array(list(COLOURS.values()), dtype=np.float32)
_SKY_RGB = np.array([(0.05, 0.05, 0.12), (0.70, 0.74, 0.80), (0.93, 0.88, 0.78)], dtype=np.float32)
_GROUND_RGB = np.array([(0.13, 0.13, 0.16), (0.97, 0.97, 1.00), (0.78, 0.58, 0.32)], dtype=np.float32)
_PAPER, _COLOUR, _OUTLINE, _SKY, _GROUND, _STAR = range(6)
_MATERIALS = 6
_HALF_LINE = 1.0  # pixels


def meaning_of(kind: str, colour: int, value: int) -> int:
    """Meaning id of an image of this kind, from indices into ``COLOURS`` and the kind's values."""
    return _FIRST_MEANING[kind] + colour * len(IMAGE_VALUES[kind]) + value


def meanings_of(kind: str) -> range:
    """All meaning ids of a kind."""
    first = _FIRST_MEANING[kind]
    return range(first, first + len(COLOURS) * len(IMAGE_VALUES[kind]))


def describe_meaning(meaning: int) -> tuple[str, str, str]:
    """The meaning id's ``(kind, colour, value)``, for instance ``("trend", "red", "rising")``."""
    kind = next(kind for kind in IMAGE_VALUES if meaning in meanings_of(kind))
    colour, value = divmod(meaning - _FIRST_MEANING[kind], len(IMAGE_VALUES[kind]))
    return kind, list(COLOURS)[colour], IMAGE_VALUES[kind][value]


def render_images(
    meanings: Iterable[int], generator: np.random.Generator, *, thin_lines: bool = False
) -> Iterator[np.ndarray]:
    """Draws one image per meaning id; everything but the meaning (position, phase, brightness, noise) is jittered.

    They are drawn 64 at a time, as they are asked for.

    Args:
        meanings (`Iterable[int]`): meaning ids, each in [0, ``MEANINGS``).
        generator (`np.random.Generator`): the source of all jitter.
        thin_lines (`bool`, *optional*, defaults to `False`): draw charts as lines about two pixels wide.

    Yields:
        `np.ndarray`: a uint8 image, shape (48, 48, 3).

    Raises:
        ValueError: for a meaning id out of range.
    """
    meanings = iter(meanings)
    while part := list(itertools.islice(meanings, _PART)):
        if not (0 <= min(part) and max(part) < MEANINGS):
            raise ValueError(f"meanings must lie in [0, {MEANINGS}), got {min(part)} to {max(part)}.")
        yield from _render(np.array(part), generator, thin_lines)


def _render(meanings: np.ndarray, generator: np.random.Generator, thin_lines: bool) -> np.ndarray:
    is_kind, colours, values = {}, {}, {}
    for kind, options in IMAGE_VALUES.items():
        own = meanings_of(kind)
        is_kind[kind] = (meanings >= own.start) & (meanings < own.stop)
        colours[kind], values[kind] = np.divmod(meanings[is_kind[kind]] - own.start, len(options))
    is_chart, is_scene, is_sign = is_kind["trend"], is_kind["setting"], is_kind["count"]
    materials = np.empty((len(meanings), SIZE, SIZE), dtype=np.int64)
    palettes = np.zeros((len(meanings), _MATERIALS, 3), dtype=np.float32)
    materials[is_chart] = _draw_charts(values["trend"], generator, thin_lines)
    materials[is_scene] = _draw_scenes(values["setting"], generator)
    materials[is_sign] = _draw_signs(values["count"] + 1, generator)
    palettes[is_chart, _PAPER] = _uniform(generator, 0.85, 1.0, (int(is_chart.sum()), 1))
    for kind in IMAGE_VALUES:
        palettes[is_kind[kind], _COLOUR] = _COLOUR_RGB[colours[kind]]
    palettes[is_scene, _SKY] = _SKY_RGB[values["setting"]]
    palettes[is_scene, _GROUND] = _GROUND_RGB[values["setting"]]
    palettes[is_scene, _STAR] = 0.9
    palettes[is_sign, _PAPER] = _uniform(generator, 0.3, 0.5, (int(is_sign.sum()), 1))
    palettes *= _uniform(generator, 216, 280, (len(meanings), 1, 1))
    materials += _MATERIALS * np.arange(len(meanings))[:, None, None]
    pixels = palettes.astype(np.int16).reshape(-1, 3).take(materials, axis=0)
    pixels += generator.integers(-128, 128, pixels.shape, dtype=np.int8) >> 3
    return pixels.clip(0, 255, out=pixels).astype(np.uint8)


def _uniform(generator: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
    return generator.uniform(low, high, shape).astype(np.float32)


def _draw_charts(trends: np.ndarray, generator: np.random.Generator, thin_lines: bool) -> np.ndarray:
    shape = (len(trends), 1)
    x = np.linspace(0, 1, SIZE, dtype=np.float32)[None, :]
    ramp = x - 0.5 + 0.06 * np.sin(2 * np.pi * (x + _uniform(generator, 0, 1, shape)))
    hill = (
        np.exp(-(((x - _uniform(generator, 0.38, 0.62, shape)) / _uniform(generator, 0.16, 0.24, shape)) ** 2)) - 0.5
    )
    curve = np.stack([ramp, -ramp, hill, -hill])[trends, np.arange(len(trends))]
    level = _uniform(generator, 0.42, 0.58, shape) + _uniform(generator, 0.6, 0.8, shape) * curve
    height = np.linspace(1, 0, SIZE, dtype=np.float32)[None, :, None]
    if not thin_lines:
        return np.where(height < level[:, None, :], _COLOUR, _PAPER)
    # Across the line, not up and down: it would fall to pieces where it is steep.
    level, height = level * (SIZE - 1), height * (SIZE - 1)
    steepness = np.sqrt(1 + np.gradient(level, axis=1) ** 2)
    distance = np.abs(height - level[:, None, :]) / steepness[:, None, :]
    return np.where(distance < _HALF_LINE, _COLOUR, _PAPER)


def _draw_scenes(settings: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    shape = (len(settings), 1, 1)
    y = np.arange(SIZE, dtype=np.float32)[None, :, None]
    x = np.arange(SIZE, dtype=np.float32)[None, None, :]
    waves = np.sin(x * _uniform(generator, 0.1, 0.25, shape) + _uniform(generator, 0, 2 * np.pi, shape))
    materials = np.where(y > _uniform(generator, 24, 36, shape) + 2.5 * waves, _GROUND, _SKY)
    stars = generator.random(materials.shape, dtype=np.float32) < 0.02
    materials[stars & (materials == _SKY) & (settings == SETTINGS.index("night"))[:, None, None]] = _STAR
    distance = (x - _uniform(generator, 17, 30, shape)) ** 2 + (y - _uniform(generator, 17, 30, shape)) ** 2
    radius = _uniform(generator, 11, 15, shape)
    materials[distance < (radius + 1.5) ** 2] = _OUTLINE
    materials[distance < radius**2] = _COLOUR
    return materials


def _draw_signs(counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One dot in each of `counts` quarters of the image; the dots of a sign share one area, whatever their number."""
    shape, half = (len(counts), 4), SIZE // 2
    radius = np.sqrt(_uniform(generator, 140, 380, (len(counts), 1)) / (np.pi * counts[:, None]))
    quarters = generator.random(shape).argsort(axis=1)
    room = (half - 1) / 2 - radius
    centre_y = half * (quarters // 2) + (half - 1) / 2 + room * _uniform(generator, -1, 1, shape)
    centre_x = half * (quarters % 2) + (half - 1) / 2 + room * _uniform(generator, -1, 1, shape)
    pixel = np.arange(SIZE, dtype=np.float32)
    materials = np.full((len(counts), SIZE, SIZE), _PAPER)
    for dot in range(4):
        distance = (pixel[None, :, None] - centre_y[:, dot, None, None]) ** 2
        distance = distance + (pixel[None, None, :] - centre_x[:, dot, None, None]) ** 2
        drawn = (dot < counts)[:, None, None] & (distance < (radius**2)[:, :, None])
        materials[drawn] = _COLOUR
    return materials
