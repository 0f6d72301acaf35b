"""The closed world's cut-outs and backgrounds: objects of its colours in several poses, drawn without any file."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from spectra_sum.linked_pairs.objects import Group, Picture, solid
from spectra_sum.msmo.closed_world_images import COLOURS
from spectra_sum.seeds import stable_seed

POSES = 4
BACKGROUNDS = 48
SIDE = 256
BACKGROUND_SIDE = 512
_DETAIL = 2  # pixels drawn for one that is kept
# How light a part is: of 1 the object's colour, of less towards black, of more towards white.
_DARK, _DIM, _BODY, _LIGHT = 0.25, 0.65, 1.0, 1.5
Part = tuple[str, tuple[float, ...], float]


def _star(points: int, outer: float, inner: float) -> tuple[float, ...]:
    corners = []
    for corner in range(2 * points):
        angle, radius = math.pi * corner / points, (outer, inner)[corner % 2]
        corners += [0.5 + radius * math.sin(angle), 0.5 - radius * math.cos(angle)]
    return tuple(corners)


# Parts from back to front, in a square of side 1: the form, its points or box, and how light it is.
SHAPES: dict[str, tuple[Part, ...]] = {
    "boat": (
        ("rectangle", (0.48, 0.1, 0.52, 0.66), _DARK),
        ("polygon", (0.55, 0.12, 0.55, 0.6, 0.88, 0.6), _BODY),
        ("polygon", (0.45, 0.25, 0.45, 0.6, 0.2, 0.6), _LIGHT),
        ("polygon", (0.08, 0.66, 0.92, 0.66, 0.76, 0.9, 0.24, 0.9), _DIM),
    ),
    "fish": (
        ("polygon", (0.66, 0.5, 0.95, 0.28, 0.88, 0.5, 0.95, 0.72), _DIM),
        ("polygon", (0.36, 0.36, 0.5, 0.16, 0.62, 0.38), _DIM),
        ("ellipse", (0.06, 0.3, 0.74, 0.7), _BODY),
        ("ellipse", (0.16, 0.41, 0.24, 0.49), _DARK),
        ("polygon", (0.4, 0.5, 0.54, 0.44, 0.54, 0.6), _LIGHT),
    ),
    "house": (
        ("rectangle", (0.68, 0.14, 0.78, 0.4), _DARK),
        ("rectangle", (0.18, 0.46, 0.82, 0.92), _BODY),
        ("polygon", (0.08, 0.48, 0.5, 0.1, 0.92, 0.48), _DIM),
        ("rectangle", (0.28, 0.6, 0.46, 0.92), _DARK),
        ("rectangle", (0.56, 0.58, 0.74, 0.74), _LIGHT),
    ),
    "key": (
        ("rectangle", (0.4, 0.45, 0.95, 0.55), _BODY),
        ("rectangle", (0.72, 0.5, 0.79, 0.72), _BODY),
        ("rectangle", (0.87, 0.5, 0.94, 0.76), _BODY),
        ("ellipse", (0.05, 0.29, 0.47, 0.71), _DIM),
        ("ellipse", (0.13, 0.37, 0.39, 0.63), _LIGHT),
    ),
    "mug": (
        ("ellipse", (0.52, 0.32, 0.94, 0.74), _DIM),
        ("ellipse", (0.62, 0.42, 0.84, 0.64), _LIGHT),
        ("rectangle", (0.14, 0.2, 0.68, 0.9), _BODY),
        ("ellipse", (0.14, 0.11, 0.68, 0.29), _DARK),
        ("rectangle", (0.14, 0.62, 0.68, 0.72), _LIGHT),
    ),
    "star": (("polygon", _star(5, 0.45, 0.2), _BODY), ("polygon", _star(5, 0.2, 0.09), _LIGHT)),
    "tree": (
        ("rectangle", (0.43, 0.6, 0.57, 0.95), _DARK),
        ("polygon", (0.14, 0.74, 0.5, 0.3, 0.86, 0.74), _DIM),
        ("polygon", (0.22, 0.48, 0.5, 0.06, 0.78, 0.48), _BODY),
        ("ellipse", (0.6, 0.6, 0.68, 0.68), _LIGHT),
    ),
    "umbrella": (
        ("rectangle", (0.48, 0.5, 0.52, 0.9), _DARK),
        ("rectangle", (0.36, 0.86, 0.52, 0.9), _DARK),
        ("top", (0.06, 0.12, 0.94, 0.96), _BODY),
        ("top", (0.34, 0.12, 0.66, 0.96), _LIGHT),
    ),
}


@dataclass(frozen=True)
class DrawnObject:
    """
    A cut-out that is drawn.

    Args:
        colour (`str`): One of the closed world's colours.
        shape (`str`): One of `SHAPES`.
        pose (`int`): Its number: each is turned, stretched and lit in another way, the same ones for all seeds of pairs.
    """

    colour: str
    shape: str
    pose: int

    @property
    def name(self) -> str:
        return f"{self.colour}_{self.shape}/{self.pose}"

    def load(self) -> Image.Image:
        """The cut-out in RGBA, cropped to the object, at most `SIDE` pixels a side."""
        generator = np.random.default_rng(stable_seed("drawn object", self.colour, self.shape, self.pose))
        # Each pose has its own part of the angles, so that no two are alike.
        angle = -40 + 80 * (self.pose + 0.8 * generator.random()) / POSES
        return draw_object(
            self.colour,
            self.shape,
            angle=angle,
            stretch=generator.uniform(0.75, 1.25),
            light=generator.uniform(0.8, 1.1),
        )


@dataclass(frozen=True)
class DrawnBackground:
    """
    A background that is drawn: sky and ground in muted colours.

    Args:
        number (`int`): Which one.
    """

    number: int

    @property
    def name(self) -> str:
        return f"scene_{self.number}"

    def load(self) -> Image.Image:
        """The background in RGB, `BACKGROUND_SIDE` pixels a side."""
        generator = np.random.default_rng(stable_seed("drawn background", self.number))
        y, x = np.mgrid[:BACKGROUND_SIDE, :BACKGROUND_SIDE].astype(np.float32) / BACKGROUND_SIDE
        horizon = generator.uniform(0.35, 0.7)
        for waves in (2, 5, 11):
            horizon = horizon + 0.06 / waves * np.sin(
                2 * np.pi * (waves * x * generator.uniform(0.6, 1.4) + generator.random())
            )
        tints = generator.uniform(-0.09, 0.09, (2, 3))
        sky, ground = generator.uniform(0.6, 0.9) + tints[0], generator.uniform(0.3, 0.65) + tints[1]
        is_ground = (y > horizon)[..., None]
        pixels = np.where(is_ground, ground * (1.1 - 0.3 * y[..., None]), sky * (0.85 + 0.3 * y[..., None]))
        grain = (
            generator.normal(0, 0.02, (BACKGROUND_SIDE // 4, BACKGROUND_SIDE // 4)).repeat(4, axis=0).repeat(4, axis=1)
        )
        pixels = 255 * (pixels + grain[..., None])
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_object(colour: str, shape: str, *, angle: float, stretch: float, light: float) -> Image.Image:
    """
    An object of the closed world as a cut-out.

    Args:
        colour (`str`): One of the closed world's colours.
        shape (`str`): One of `SHAPES`.
        angle (`float`): How far it is turned, in degrees against the clock.
        stretch (`float`): Its width by its height; 1 as in `SHAPES`.
        light (`float`): What its colours are multiplied by.

    Returns:
        `Image`: RGBA, cropped to the object, at most `SIDE` pixels a side.
    """
    side = SIDE * _DETAIL
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    for form, points, shade in SHAPES[shape]:
        scaled = [side * point for point in points]
        fill = _shaded(COLOURS[colour], shade, light)
        options = {"fill": fill, "outline": _shaded(COLOURS[colour], _DARK, light), "width": 2 * _DETAIL}
        if form == "rectangle":
            draw.rectangle(scaled, **options)
        elif form == "ellipse":
            draw.ellipse(scaled, **options)
        elif form == "top":
            draw.pieslice(scaled, 180, 360, **options)
        else:
            draw.polygon(scaled, **options)
    image = image.resize((round(SIDE * min(1, stretch)), round(SIDE * min(1, 1 / stretch))), Image.Resampling.LANCZOS)
    image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    image = image.crop(solid(image).getbbox())
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def drawn_groups() -> list[Group]:
    """Each shape in each colour, with `POSES` cut-outs."""
    return [
        Group(f"{colour}_{shape}", f"a {colour} {shape}", [DrawnObject(colour, shape, pose) for pose in range(POSES)])
        for colour in COLOURS
        for shape in SHAPES
    ]


def drawn_backgrounds() -> list[Picture]:
    """`BACKGROUNDS` backgrounds."""
    return [DrawnBackground(number) for number in range(BACKGROUNDS)]


def _shaded(colour: tuple[float, float, float], shade: float, light: float) -> tuple[int, int, int, int]:
    # Towards white from 1 on, where multiplying would leave a channel of 0 as it is.
    mixed = [value * shade if shade <= 1 else value + (1 - value) * (shade - 1) for value in colour]
    return (*(min(255, round(255 * value * light)) for value in mixed), 255)
