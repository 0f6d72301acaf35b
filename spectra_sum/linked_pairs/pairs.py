"""Pairs of images that share an object: drawn from a seed, tried until they are good."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from spectra_sum.linked_pairs.composition import Limits, compose, draw_placement, measure, placed
from spectra_sum.linked_pairs.counts import PAINTING_REJECTIONS, Counts
from spectra_sum.linked_pairs.image_files import LinkedPairsError
from spectra_sum.linked_pairs.objects import Group, Picture, loaded
from spectra_sum.linked_pairs.scenes import Scene
from spectra_sum.seeds import stable_seed

INSTRUCTIONS = (
    "What do these two pictures share?",
    "Which object is in both pictures?",
    "Say what the two pictures have in common.",
)
OBJECT = "{object}"
ANSWER = "Both pictures show {object}."
# A painting takes seconds to minutes: a model that only fails is told early.
MOST_FAILED_PAINTINGS = 20
# Cut-outs that are kept decoded: a megabyte each at 512 pixels. A background is seldom used twice.
_KEPT_CUTOUTS = 256


@dataclass(frozen=True)
class Settings:
    """
    How pairs are made.

    Args:
        size (`int`, *optional*, defaults to 512): Side of the images in pixels.
        seed (`int`, *optional*, defaults to 0): The source of all chance.
        sides (`tuple[float, float]`, *optional*, defaults to `(0.3, 0.6)`): Least and greatest longer side of an object, as
            shares of `size`.
        limits (`Limits`, *optional*): Quality control.
        tries (`int`, *optional*, defaults to 50): How often an image is tried before its pair is given up.
        instructions (`tuple[str, ...]`, *optional*, defaults to `INSTRUCTIONS`): One of them is drawn for each pair.
        answer (`str`, *optional*, defaults to `ANSWER`): The answer, with `{object}` where the description stands.

    Raises:
        LinkedPairsError: A setting cannot be met. The message names the command's option.
    """

    size: int = 512
    seed: int = 0
    sides: tuple[float, float] = (0.3, 0.6)
    limits: Limits = field(default_factory=Limits)
    tries: int = 50
    instructions: tuple[str, ...] = INSTRUCTIONS
    answer: str = ANSWER

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 4096:
            raise LinkedPairsError(f"--size {self.size}: images have 64 to 4096 pixels a side.")
        if not 0 < self.sides[0] <= self.sides[1] <= 1:
            raise LinkedPairsError(
                f"--object-size {self.sides[0]:g} {self.sides[1]:g}: give two shares, the less one first."
            )
        if OBJECT not in self.answer:
            raise LinkedPairsError(f"--answer {self.answer!r}: write {OBJECT} where the description stands.")
        if not all(text.strip() for text in self.instructions):
            raise LinkedPairsError("--instructions: one is empty; write what is asked.")


class LinkedImage(NamedTuple):
    """
    An image of a pair.

    Attributes:
        picture (`Image`): RGB, `size` × `size`.
        record (`dict[str, Any]`): Where its background and its objects come from, and how they lie.
    """

    picture: Image.Image
    record: dict[str, Any]


class Pair(NamedTuple):
    """
    A pair.

    Attributes:
        id (`str`): Split and number.
        shared (`Group`): The object in both images.
        others (`tuple[Group, Group]`): The second object of each.
        instruction (`str`), answer (`str`): What is asked, and what is right.
        images (`tuple[LinkedImage, LinkedImage]`): The images.
    """

    id: str
    shared: Group
    others: tuple[Group, Group]
    instruction: str
    answer: str
    images: tuple[LinkedImage, LinkedImage]


class PairMaker:
    """
    Makes the pairs of one split.

    Args:
        split (`str`): Its name.
        groups (`Sequence[Group]`): Its groups, at least three.
        scenes (`Sequence[Scene]`): At least two backgrounds.
        settings (`Settings`): How.
        counts (`Counts`): Counts tries, rejections and pairs.
    """

    def __init__(
        self,
        split: str,
        groups: Sequence[Group],
        scenes: Sequence[Scene],
        settings: Settings,
        counts: Counts,
    ):
        self.split = split
        self.groups = groups
        self.scenes = scenes
        self.settings = settings
        self.counts = counts
        self._cutout = lru_cache(maxsize=_KEPT_CUTOUTS)(self._load_cutout)

    def pairs(self, count: int) -> Iterator[Pair | None]:
        """The first `count` pairs; a smaller count gives a prefix of a larger one. None stands for a pair that was given up."""
        for number in range(count):
            pair = self._pair(number)
            if pair is None:
                self.counts.given_up += 1
            else:
                self.counts.pairs[self.split] += 1
            yield pair

    def _pair(self, number: int) -> Pair | None:
        turn, place = divmod(number, len(self.groups))
        # Each object is shared once before any is a second time.
        shared = self.groups[self._generator("turn", turn).permutation(len(self.groups))[place]]
        generator = self._generator("pair", number)
        rest = [group for group in self.groups if group is not shared]
        others = tuple(rest[index] for index in generator.choice(len(rest), 2, replace=False))
        poses = [shared.poses[index] for index in generator.choice(len(shared.poses), 2, replace=False)]
        scenes = [self.scenes[index] for index in generator.choice(len(self.scenes), 2, replace=False)]
        instruction = self.settings.instructions[generator.integers(len(self.settings.instructions))]
        images: list[LinkedImage] = []
        for pose, other, scene in zip(poses, others, scenes, strict=True):
            image = self._image((shared, pose), other, scene, generator)
            if image is None:
                self.counts.unused += len(images)
                return None
            images.append(image)
        answer = self.settings.answer.replace(OBJECT, shared.description)
        return Pair(
            f"{self.split}-{number:06d}",
            shared,
            (others[0], others[1]),
            instruction,
            answer[:1].upper() + answer[1:],
            (images[0], images[1]),
        )

    def _image(
        self, shared: tuple[Group, Picture], other: Group, scene: Scene, generator: np.random.Generator
    ) -> LinkedImage | None:
        size = self.settings.size
        for number in range(1, self.settings.tries + 1):
            self.counts.tries += 1
            objects = [shared, (other, other.poses[generator.integers(len(other.poses))])]
            if generator.random() < 0.5:
                objects.reverse()
            cutouts = [self._cutout(pose) for _, pose in objects]
            placements = [draw_placement(cutout.size, size, self.settings.sides, generator) for cutout in cutouts]
            layers = [placed(cutout, placement) for cutout, placement in zip(cutouts, placements, strict=True)]
            measures = measure(layers, placements, size)
            rejection = measures.rejection(self.settings.limits)
            if rejection:
                self.counts.rejected[rejection] += 1
                continue
            background = scene.background(layers, placements, size, generator)
            if background.picture is None:
                self._reject_painting(background.rejection, scene)
                continue
            self.counts.painted += background.painted
            found = zip(objects, placements, measures.visible, measures.sizes, strict=True)
            record = {
                "background": background.record,
                # From back to front.
                "objects": [
                    {
                        "group": group.name,
                        "file": pose.name,
                        "shared": group is shared[0],
                        **placement._asdict(),
                        "visible_share": round(visible, 6),
                        "size": round(share, 6),
                    }
                    for (group, pose), placement, visible, share in found
                ],
                "overlap": round(measures.overlap, 6),
                "tries": number,
            }
            return LinkedImage(compose(background.picture, layers, placements), record)
        return None

    def _reject_painting(self, reason: str, scene: Scene) -> None:
        self.counts.rejected[reason] += 1
        failed = {name: self.counts.rejected[name] for name in PAINTING_REJECTIONS if self.counts.rejected[name]}
        if not self.counts.painted and sum(failed.values()) == MOST_FAILED_PAINTINGS:
            told = ", ".join(f"{number} {PAINTING_REJECTIONS[name]}" for name, number in failed.items())
            raise LinkedPairsError(
                f"--inpaint: none of the first {MOST_FAILED_PAINTINGS} paintings can be used ({told}), the last one of "
                f"{scene.name!r}; choose another model, more --inpaint-steps or other --background-descriptions."
            )

    def _generator(self, *parts: str | int) -> np.random.Generator:
        return np.random.default_rng(stable_seed("linked pairs", self.settings.seed, self.split, *parts))

    def _load_cutout(self, pose: Picture) -> Image.Image:
        cutout = loaded(pose)
        # None is shown larger than the canvas.
        cutout.thumbnail((self.settings.size, self.settings.size), Image.Resampling.LANCZOS)
        return cutout
