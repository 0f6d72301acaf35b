"""The closed world's difficulty settings: what each of them changes, one thing at a time.

- ``standard``: a chart and a scene of the article's group are told, each value right after the group's name.
- ``far``: captions and summaries name the group at the end of the clause, after the value that belongs to it.
- ``paired``: an article is about two groups, and its summary tells the trend of each; no setting is told. A fact's
  value holds the group's name (``"red rising"``), so that a trend told of the wrong group is wrong.
- ``thin``: charts are thin coloured lines instead of filled areas.
- ``counts``: signs with one to four dots of the group's colour take the place of the scenes.

Articles of one seed and split have the same contents and texts in ``standard`` and ``thin``, and differ from ``far``
in their captions and summaries alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from spectra_sum.msmo.closed_world_texts import CAPTIONS, FAR_CAPTIONS


@dataclass(frozen=True)
class Difficulty:
    """What a difficulty setting decides.

    Args:
        image_kinds (`tuple[str, str]`, *optional*, defaults to `("trend", "setting")`): the two kinds of images, each
            named by the fact that it shows.
        visual_kinds (`tuple[str, ...]`, *optional*, defaults to `("trend", "setting")`): the facts that a summary
            tells of each of its article's groups.
        groups (`int`, *optional*, defaults to `1`): groups per article, of different colours.
        captions (`Mapping[str, str]`, *optional*): template of the caption, and of the summary's clause, per kind.
        thin_lines (`bool`, *optional*, defaults to `False`): whether charts are thin lines instead of filled areas.
    """

    image_kinds: tuple[str, str] = ("trend", "setting")
    visual_kinds: tuple[str, ...] = ("trend", "setting")
    groups: int = 1
    captions: Mapping[str, str] = field(default_factory=lambda: CAPTIONS)
    thin_lines: bool = False


DIFFICULTIES = {
    "standard": Difficulty(),
    "far": Difficulty(captions=FAR_CAPTIONS),
    "paired": Difficulty(visual_kinds=("trend",), groups=2),
    "thin": Difficulty(thin_lines=True),
    "counts": Difficulty(image_kinds=("trend", "count"), visual_kinds=("trend", "count")),
}


def difficulty_named(name: str) -> Difficulty:
    """The difficulty setting of this name.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    if name not in DIFFICULTIES:
        raise ValueError(f"difficulty must be one of {', '.join(DIFFICULTIES)}, got {name!r}.")
    return DIFFICULTIES[name]
