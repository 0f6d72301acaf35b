"""What was read, what was left out, and what quality control has rejected."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CUTOUT_REASONS = {
    "no_image": "no image",
    "outside": "links that lead out of the folder",
    "broken": "cannot be read",
    "whole": "without a transparent background or a mask",
    "mask_size": "with a mask of another size",
    "lone_mask": "masks without an image",
    "empty": "with nothing cut out",
    "small": "too small",
    "repeated": "the same as another one",
    "unsure": "without a mask that the model is sure of",
    "border": "with masks along three sides or more",
    "pieces": "with masks of several pieces",
}
GROUP_REASONS = {"few_poses": "with less than two poses"}
BACKGROUND_REASONS = {
    "no_image": "no image",
    "outside": "links that lead out of the folder",
    "broken": "cannot be read",
    "small": "too small",
    "drawing": "drawings",
}
DESCRIPTION_REASONS = {"repeated": "the same as another one"}
REJECTIONS = {
    "small": "with an object that is too small",
    "overlap": "with objects that overlap too much",
    "hidden": "with an object that is too little to see",
}
PAINTING_REJECTIONS = {
    "refused": "that the model's safety checker has refused",
    "one_colour": "painted in one colour",
}
SOURCES = {
    "groups": GROUP_REASONS,
    "cut-outs": CUTOUT_REASONS,
    "backgrounds": BACKGROUND_REASONS,
    "descriptions": DESCRIPTION_REASONS,
}


@dataclass
class Counts:
    """
    Counts of one making of pairs. `tries` is the sum of `rejected`, `unused`, and two images for each pair.

    Args:
        kept (`Counter`): Groups, cut-outs, backgrounds and descriptions of backgrounds that pairs are made of.
        left_out (`dict[str, Counter]`): Of each of these, by reason.
        damage (`list[str]`): Each file that should be an image and cannot be read, or leads elsewhere, and why.
        segmented (`int`): Of the cut-outs those with a mask that a model has made.
        tries (`int`): Images that were composed.
        rejected (`Counter`): Those that failed quality control, by their first reason in `REJECTIONS`, or by one in
            `PAINTING_REJECTIONS`.
        painted (`int`): Good backgrounds that a model has painted.
        unused (`int`): Good images whose partner never was.
        pairs (`Counter`): Pairs, by split.
        given_up (`int`): Pairs of which an image failed each time.
    """

    kept: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Counter[str]] = field(default_factory=lambda: {source: Counter() for source in SOURCES})
    damage: list[str] = field(default_factory=list)
    segmented: int = 0
    tries: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    painted: int = 0
    unused: int = 0
    pairs: Counter[str] = field(default_factory=Counter)
    given_up: int = 0

    def leave_out(self, source: str, reason: str, place: str, detail: str = "") -> None:
        """Counts what is left out, and notes it where it is damaged."""
        self.left_out[source][reason] += 1
        if reason in ("broken", "outside", "mask_size"):
            self.damage.append(f"{place}: {detail or SOURCES[source][reason]}")

    def source_lines(self) -> list[str]:
        """What was read, for a reader."""
        kept = ", ".join(f"{self.kept[source]:,} {source}" for source in SOURCES if source in self.kept)
        lines = [f"read: {kept}"]
        if self.segmented:
            lines.append(f"cut out of photographs by the model: {self.segmented:,}")
        for source, reasons in SOURCES.items():
            if any(self.left_out[source].values()):
                lines.append(f"{source} left out: {_told(self.left_out[source], reasons)}")
        return lines

    def lines(self) -> list[str]:
        """All counts, for a reader."""
        made = f"images: {self.tries:,} tried, {2 * self.pairs.total():,} kept"
        reasons = REJECTIONS | (PAINTING_REJECTIONS if "descriptions" in self.kept else {})
        parts = [made, *(f"{self.rejected[reason]:,} rejected {text}" for reason, text in reasons.items())]
        if self.unused:
            parts.append(f"{self.unused:,} without a partner")
        lines = [*self.source_lines(), ", ".join(parts)]
        if self.given_up:
            lines.append(f"pairs given up: {self.given_up:,}, after too many rejected tries")
        return lines

    def record(self) -> dict[str, Any]:
        """All counts, for JSON."""
        return {
            "kept": _ordered(self.kept, SOURCES),
            "left_out": {source: _ordered(self.left_out[source], reasons) for source, reasons in SOURCES.items()},
            "segmented": self.segmented,
            "tries": self.tries,
            "rejected": _ordered(self.rejected, REJECTIONS | PAINTING_REJECTIONS),
            "painted": self.painted,
            "unused": self.unused,
            "pairs": dict(self.pairs),
            "given_up": self.given_up,
        }


def _told(counter: Counter[str], reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{counter[reason]:,} {text}" for reason, text in reasons.items() if counter[reason])


def _ordered(counter: Counter[str], names: Mapping[str, Any]) -> dict[str, int]:
    return {name: counter[name] for name in names}
