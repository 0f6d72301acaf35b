"""The closed world's pictures: 48 x 48 charts and scenes, drawn from a meaning and a random generator.

An image says one thing about one colour: a chart shows the colour's ``trend`` as a filled area, a scene shows its
``setting`` as a whole-image background behind a large emblem. Areas and backgrounds are used because a very small
vision model learns them within minutes; thin lines and object counts it does not.
"""

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

CHART_MEANINGS = len(COLOURS) * len(TRENDS)
MEANINGS = CHART_MEANINGS + len(COLOURS) * len(SETTINGS)
"""Number of different meanings: ids below ``CHART_MEANINGS`` are charts, the others scenes."""

_PART = 64  # images drawn at a time: the intermediate arrays then stay in the processor's cache
_COLOUR_RGB = np.array(list(COLOURS.values()), dtype=np.float32)
_SKY_RGB = np.array([(0.05, 0.05, 0.12), (0.70, 0.74, 0.80), (0.93, 0.88, 0.78)], dtype=np.float32)
_GROUND_RGB = np.array([(0.13, 0.13, 0.16), (0.97, 0.97, 1.00), (0.78, 0.58, 0.32)], dtype=np.float32)
_PAPER, _COLOUR, _OUTLINE, _SKY, _GROUND, _STAR = range(6)
_MATERIALS = 6


def chart_meaning(colour: np.ndarray | int, trend: np.ndarray | int) -> np.ndarray | int:
    """Meaning id of a chart, from indices into ``COLOURS`` and ``TRENDS``."""
    return colour * len(TRENDS) + trend


def scene_meaning(colour: np.ndarray | int, setting: np.ndarray | int) -> np.ndarray | int:
    """Meaning id of a scene, from indices into ``COLOURS`` and ``SETTINGS``."""
    return CHART_MEANINGS + colour * len(SETTINGS) + setting


def describe_meaning(meaning: int) -> tuple[str, str, str]:
    """The meaning id's ``(kind, colour, value)``, for instance ``("trend", "red", "rising")``."""
    colours = list(COLOURS)
    if meaning < CHART_MEANINGS:
        colour, value = divmod(meaning, len(TRENDS))
        return "trend", colours[colour], TRENDS[value]
    colour, value = divmod(meaning - CHART_MEANINGS, len(SETTINGS))
    return "setting", colours[colour], SETTINGS[value]


def render_images(meanings: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draws one image per meaning id; everything but the meaning (position, phase, brightness, noise) is jittered.

    Args:
        meanings (`np.ndarray`): meaning ids, shape (n,), each in [0, ``MEANINGS``).
        generator (`np.random.Generator`): the source of all jitter.

    Returns:
        `np.ndarray`: uint8 images, shape (n, 48, 48, 3).
    """
    meanings = np.asarray(meanings)
    if meanings.size and not (0 <= meanings.min() and meanings.max() < MEANINGS):
        raise ValueError(f"meanings must lie in [0, {MEANINGS}), got {meanings.min()} to {meanings.max()}.")
    parts = [_render(meanings[start : start + _PART], generator) for start in range(0, len(meanings), _PART)]
    return np.concatenate(parts) if parts else np.empty((0, SIZE, SIZE, 3), dtype=np.uint8)


def _render(meanings: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    is_chart = meanings < CHART_MEANINGS
    charts = meanings[is_chart]
    scenes = meanings[~is_chart] - CHART_MEANINGS
    materials = np.empty((len(meanings), SIZE, SIZE), dtype=np.int64)
    palettes = np.zeros((len(meanings), _MATERIALS, 3), dtype=np.float32)
    materials[is_chart] = _draw_charts(charts % len(TRENDS), generator)
    materials[~is_chart] = _draw_scenes(scenes % len(SETTINGS), generator)
    palettes[is_chart, _PAPER] = _uniform(generator, 0.85, 1.0, (len(charts), 1))
    palettes[is_chart, _COLOUR] = _COLOUR_RGB[charts // len(TRENDS)]
    palettes[~is_chart, _COLOUR] = _COLOUR_RGB[scenes // len(SETTINGS)]
    palettes[~is_chart, _SKY] = _SKY_RGB[scenes % len(SETTINGS)]
    palettes[~is_chart, _GROUND] = _GROUND_RGB[scenes % len(SETTINGS)]
    palettes[~is_chart, _STAR] = 0.9
    palettes *= _uniform(generator, 216, 280, (len(meanings), 1, 1))
    materials += _MATERIALS * np.arange(len(meanings))[:, None, None]
    pixels = palettes.astype(np.int16).reshape(-1, 3).take(materials, axis=0)
    pixels += generator.integers(-128, 128, pixels.shape, dtype=np.int8) >> 3
    return pixels.clip(0, 255, out=pixels).astype(np.uint8)


def _uniform(generator: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
    return generator.uniform(low, high, shape).astype(np.float32)


def _draw_charts(trends: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    shape = (len(trends), 1)
    x = np.linspace(0, 1, SIZE, dtype=np.float32)[None, :]
    ramp = x - 0.5 + 0.06 * np.sin(2 * np.pi * (x + _uniform(generator, 0, 1, shape)))
    hill = (
        np.exp(-(((x - _uniform(generator, 0.38, 0.62, shape)) / _uniform(generator, 0.16, 0.24, shape)) ** 2)) - 0.5
    )
    curve = np.stack([ramp, -ramp, hill, -hill])[trends, np.arange(len(trends))]
    level = _uniform(generator, 0.42, 0.58, shape) + _uniform(generator, 0.6, 0.8, shape) * curve
    height = np.linspace(1, 0, SIZE, dtype=np.float32)[None, :, None]
    return np.where(height < level[:, None, :], _COLOUR, _PAPER)


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
