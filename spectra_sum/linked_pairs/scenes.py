"""What lies behind the objects of an image: a part of a picture, or what a model paints around them by a description."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageChops

from spectra_sum.documents.parts import printable
from spectra_sum.linked_pairs.backgrounds import share_of_a_colour, square
from spectra_sum.linked_pairs.composition import Placement, compose
from spectra_sum.linked_pairs.counts import Counts
from spectra_sum.linked_pairs.image_files import LinkedPairsError
from spectra_sum.linked_pairs.objects import Picture, loaded, solid

PLAIN_SCENES = (
    "a sandy beach under a clear sky",
    "a green meadow with low hills in the distance",
    "a forest path in autumn",
    "a snowy field at dusk",
    "a calm lake with mountains behind it",
    "a desert with dunes",
    "an empty street in a small town",
    "a cobbled square in the morning",
    "a wooden table by a window",
    "a kitchen counter with white tiles",
    "a living room with a grey sofa",
    "a library with tall shelves",
    "a workshop with a wooden floor",
    "a brick wall in the afternoon sun",
    "a concrete floor in an empty hall",
    "a garden with a gravel path",
    "a field of yellow flowers",
    "a rocky shore in the mist",
    "a harbour at sunset",
    "a park lawn in the shade of trees",
)
MAX_CHARACTERS = 1000
# Pipelines of diffusers paint sides that are multiples of 8 or 16.
SIDE_STEP = 16
# Of the painted pixels at most this share has one colour, at 5 bits a channel.
MAX_SHARE_OF_A_COLOUR = 0.9
# What the model sees where it paints: what it knows as nothing.
_GREY = (127, 127, 127)


class Background(NamedTuple):
    """
    The background of an image.

    Attributes:
        picture (`Image`, *optional*): RGB, of the canvas' size; None where the painting cannot be used.
        record (`dict[str, Any]`): Where it comes from.
        painted (`bool`): Whether a model has painted it.
        rejection (`str`): Why it cannot be used, as in `PAINTING_REJECTIONS`.
    """

    picture: Image.Image | None
    record: dict[str, Any]
    painted: bool = False
    rejection: str = ""


class Scene(Protocol):
    """One of the backgrounds to choose from. `name` says which one."""

    @property
    def name(self) -> str: ...

    def background(
        self, layers: Sequence[Image.Image], placements: Sequence[Placement], size: int, generator: np.random.Generator
    ) -> Background:
        """The background of `size` pixels a side for objects, as [`compose`] takes them."""
        ...


class Painter(Protocol):
    """A model that paints. `record` says which one and how, for JSON; `name` is what the user calls it."""

    @property
    def name(self) -> str: ...

    @property
    def record(self) -> dict[str, Any]: ...

    def paint(self, image: Image.Image, mask: Image.Image, description: str, seed: int) -> Image.Image | None:
        """An RGB image with what is white in the mask (mode L) painted anew; None where its safety checker refuses."""
        ...


class PictureScene(NamedTuple):
    """
    A picture, of which a square is shown.

    Attributes:
        source (`Picture`): The picture.
    """

    source: Picture

    @property
    def name(self) -> str:
        return self.source.name

    def background(
        self, layers: Sequence[Image.Image], placements: Sequence[Placement], size: int, generator: np.random.Generator
    ) -> Background:
        picture = loaded(self.source)
        crop = square(picture.size, generator)
        shown = picture.resize((size, size), Image.Resampling.LANCZOS, box=crop)
        return Background(shown, {"file": self.name, "crop": list(crop)})


class PaintedScene(NamedTuple):
    """
    A description, by which a model paints around the objects.

    Attributes:
        name (`str`): The description.
        painter (`Painter`): The model.
    """

    name: str
    painter: Painter

    def background(
        self, layers: Sequence[Image.Image], placements: Sequence[Placement], size: int, generator: np.random.Generator
    ) -> Background:
        seed = int(generator.integers(2**31))
        mask = free(layers, placements, size)
        image = compose(Image.new("RGB", (size, size), _GREY), layers, placements)
        painting = self.painter.paint(image, mask, self.name, seed)
        record = {"model": self.painter.name, "description": self.name, "seed": seed}
        if painting is None:
            return Background(None, record, rejection="refused")
        if share_of_a_colour(painting, mask) > MAX_SHARE_OF_A_COLOUR:
            return Background(None, record, rejection="one_colour")
        return Background(painting, record, painted=True)


def free(layers: Sequence[Image.Image], placements: Sequence[Placement], size: int) -> Image.Image:
    """The mask (mode L, 0 or 255) of the pixels of a canvas of `size` pixels a side that no object has."""
    taken = Image.new("L", (size, size))
    for layer, placement in zip(layers, placements, strict=True):
        mask = solid(layer)
        taken.paste(mask, (placement.x, placement.y), mask)
    return ImageChops.invert(taken)


def read_descriptions(path: Path, counts: Counts) -> list[str]:
    """
    The descriptions of backgrounds in a file, one a line.

    Args:
        path (`Path`): A text file in UTF-8; empty lines are skipped.
        counts (`Counts`): Counts what is kept and what is not.

    Raises:
        LinkedPairsError: It cannot be read, a line is too long, or there are less than two descriptions.
    """
    place = f"--background-descriptions {printable(path)}"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise LinkedPairsError(f"{place}: it is not in UTF-8 (byte {error.start}); save it as UTF-8.") from None
    except OSError as error:
        raise LinkedPairsError(f"{place}: it cannot be read ({error.strerror}); name a text file.") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = printable(" ".join(line.split()))
        if len(text) > MAX_CHARACTERS:
            raise LinkedPairsError(
                f"{place}: line {number} has {len(text):,} characters, more than {MAX_CHARACTERS:,}; shorten it."
            )
        if text.casefold() in found:
            counts.leave_out("descriptions", "repeated", text)
        elif text:
            found[text.casefold()] = text
    if len(found) < 2:
        raise LinkedPairsError(f"{place}: pairs need at least two descriptions, one a line; it has {len(found)}.")
    return list(found.values())
