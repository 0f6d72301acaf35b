"""What is damaged in a copy of the MSMO dataset: exact counts by kind, and the first examples of each kind."""

import json
from collections import Counter
from dataclasses import dataclass, field

MAX_EXAMPLES = 20

DAMAGE_KINDS = {
    "article_without_body": "article without a body: dropped",
    "article_without_summary": "article without a summary: dropped",
    "article_without_title": "article without a title: kept with an empty one",
    "section_repeated": "section that occurs again in its article: its texts are joined",
    "text_outside_sections": "article with text before its first section: that text is left out",
    "undecodable_bytes": "text file that is not UTF-8: the bad bytes became U+FFFD",
    "unreadable_file": "text file that the system refused to read",
    "broken_image": "image file that Pillow refuses, or larger than the pixel limit: left out",
    "missing_image": "number skipped among the images of an article",
    "image_without_article": "image file whose article does not exist",
    "caption_without_article": "caption file whose article does not exist",
    "caption_without_image": "caption file whose image does not exist",
    "caption_repeated": "second caption file of one image: left out",
    "empty_caption": "caption file without text",
    "alt_text_without_article": "alternative text whose article does not exist",
    "alt_text_without_image": "alternative text whose image does not exist",
    "alt_text_repeated": "second alternative text of one image: left out",
    "empty_alt_text": "file of an alternative text without text",
    "gold_image_missing": "gold name for which there is no image file: left out",
    "gold_image_broken": "gold name of a broken image: left out",
    "gold_repeated": "gold name that its article already has",
    "gold_out_of_order": "gold name that does not stand on its article's line: the name decides",
    "annotation_missing": "test split without image_annotation.txt",
    "annotation_blank_line": "blank line of image_annotation.txt: read as None",
    "annotation_lines_missing": "article without a line in image_annotation.txt",
    "annotation_lines_extra": "line of image_annotation.txt beyond the last article",
    "missing_folder": "folder img or caption that does not exist",
    "unsafe_name": "name that leads out of its folder, or that is not UTF-8: not read",
    "unknown_file": "entry that the layout does not know (hidden file, folder, dangling link): not read",
}


@dataclass
class SplitIntegrity:
    """
    The findings of one split.

    Args:
        totals (`Counter`): What there is: `articles` (files), `records` (articles that were kept), and in the records
            `images`, `captions` and `alt_texts` (not empty), and `articles_with_gold`.
        counts (`Counter`): How often each of `DAMAGE_KINDS` occurs.
        examples (`dict[str, list[str]]`): For each kind the first `MAX_EXAMPLES` places: a path relative to the
            dataset's root, with a detail where there is more to say.
    """

    totals: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: str, detail: str = "", count: int = 1) -> None:
        """Counts one finding; `count` is for a finding that stands for several (lines, numbers)."""
        if kind not in DAMAGE_KINDS:
            raise KeyError(f"unknown kind of damage {kind!r}")
        self.counts[kind] += count
        examples = self.examples.setdefault(kind, [])
        if len(examples) < MAX_EXAMPLES:
            # A name of undecodable bytes could be neither logged nor printed.
            place = place.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            examples.append(f"{place}: {detail}" if detail else place)

    def merge(self, later: "SplitIntegrity") -> None:
        """Adds the findings of the articles that follow. Parts merged in order give what one process would give."""
        self.totals.update(later.totals)
        self.counts.update(later.counts)
        for kind, examples in later.examples.items():
            self.examples[kind] = (self.examples.get(kind, []) + examples)[:MAX_EXAMPLES]

    def to_json(self) -> str:
        return json.dumps({"totals": self.totals, "counts": self.counts, "examples": self.examples}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "SplitIntegrity":
        content = json.loads(text)
        return cls(Counter(content["totals"]), Counter(content["counts"]), content["examples"])


def report_name(split: str) -> str:
    """The file beside a cached split that holds its findings."""
    return f"integrity-{split}.json"


@dataclass
class IntegrityReport:
    """
    The findings of a dataset. `str(report)` lists them for a reader.

    Args:
        splits (`dict[str, SplitIntegrity]`): The findings of each split by its name.
    """

    splits: dict[str, SplitIntegrity]

    @property
    def counts(self) -> Counter[str]:
        """How often each of `DAMAGE_KINDS` occurs in all splits; kinds that do not occur are absent."""
        return sum((split.counts for split in self.splits.values()), Counter())

    def summary(self) -> str:
        """Totals by split and counts by kind, without the examples."""
        return self._render(with_examples=False)

    def __str__(self) -> str:
        return self._render(with_examples=True)

    def _render(self, with_examples: bool) -> str:
        lines = []
        for name, split in self.splits.items():
            totals = split.totals
            # MSMO itself has none.
            alt_texts = f"{totals['alt_texts']:,} alternative texts, " if totals["alt_texts"] else ""
            lines.append(
                f"{name}: {totals['records']:,} of {totals['articles']:,} articles, {totals['images']:,} images, "
                f"{totals['captions']:,} captions, {alt_texts}{totals['articles_with_gold']:,} articles with gold images"
            )
            for kind in DAMAGE_KINDS:
                if split.counts[kind]:
                    lines.append(f"  {split.counts[kind]:,} x {kind} ({DAMAGE_KINDS[kind]})")
                    if with_examples:
                        lines.extend(f"    {example}" for example in split.examples[kind])
                        if split.counts[kind] > len(split.examples[kind]):
                            lines.append("    ...")
        return "\n".join(lines)
