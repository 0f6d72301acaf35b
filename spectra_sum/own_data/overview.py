"""What a split of any data holds: counts, lengths, what is wrong with it, and some records, for `spectra-sum data check`."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..documents.parts import printable, shortened
from ..models.sources import ModelError, find_smollm2
from ..msmo.builder import stored_damage
from ..msmo.integrity import DAMAGE_KINDS
from ..msmo.sources import image_counts
from ..records.article_images import BrokenImage, UndecodedArticles
from ..tasks.task import SUMMARIZATION, Task
from .broken_files import find_broken
from .formats import OwnDataError
from .loading import check_split, without_summary
from .parting import VALIDATION_SHARE

# Tokens of more articles would take minutes, and tell no more.
TOKENIZED = 1000
_NAMED_IMAGES = 5
_SHOWN = 100


def load_tokenizer(name: str | None) -> tuple[str, PreTrainedTokenizerBase] | None:
    """
    The tokenizer whose tokens are counted, with its name.

    Args:
        name (`str`, *optional*): Folder or Hub id of a model, or `"smollm2"`. By default that of SmolLM2's package, and None
            where it is not installed.

    Raises:
        ModelError: It cannot be loaded.
    """
    try:
        file = find_smollm2() if name in (None, "smollm2") else None
    except ModelError:
        if name is None:
            return None
        raise
    place, options = (str(file.parent), {"gguf_file": file.name}) if file else (name, {})
    try:
        return name or "smollm2", AutoTokenizer.from_pretrained(place, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{name or 'smollm2'}: its tokenizer cannot be loaded: {' '.join(str(error).split())}"
        ) from error


@dataclass
class Overview:
    """
    What was found in a split.

    Attributes:
        split (`str`): Its name; `""` where the data have no splits.
        records (`Dataset`): Its articles.
        counts (`dict[str, str]`): What there is, by a word.
        problems (`list[str]`): What training and evaluation refuse.
        task (`Task`): What the articles are for.
        broken (`list[BrokenImage]`): Images that will be left out.
    """

    split: str
    records: Dataset
    counts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    broken: list[BrokenImage] = field(default_factory=list)
    task: Task = SUMMARIZATION

    @classmethod
    def of(
        cls,
        split: str,
        records: Dataset,
        tokenizer: tuple[str, PreTrainedTokenizerBase] | None = None,
        *,
        verify: str = "header",
        task: Task = SUMMARIZATION,
    ) -> "Overview":
        """
        Looks at a split.

        Args:
            split (`str`): Its name.
            records (`Dataset`): Its articles.
            tokenizer (`tuple`, *optional*): Of [`load_tokenizer`].
            verify (`str`, *optional*, defaults to `"header"`): As of [`find_broken`].
            task (`Task`, *optional*, defaults to `SUMMARIZATION`): What the articles are for.
        """
        overview = cls(split, records, task=task)
        if len(records):
            overview._count(tokenizer)
            overview.broken = find_broken(records, verify)
        overview._find_problems()
        return overview

    @property
    def is_wrong(self) -> bool:
        """Whether training would refuse the split, or leave images of it out."""
        return bool(self.problems or self.broken)

    def _count(self, tokenizer: tuple[str, PreTrainedTokenizerBase] | None) -> None:
        records, images = self.records, image_counts(self.records)
        with_images = sum(map(bool, images))
        self.counts["images"] = f"{sum(images):,} in {with_images:,} articles, at most {max(images)}"
        for name, word in (("captions", "captions"), ("alt_texts", "alternative texts")):
            rows = records[name] if name in records.column_names else []
            self.counts[word] = f"{sum(bool(text) for row in rows for text in row or ()):,}"
        if not self.task.has_instructions:
            gold = [row for row in records["gold_images"] if row]
            self.counts["gold images"] = f"{sum(map(len, gold)):,} in {len(gold):,} articles"
        self.counts["answers" if self.task.has_instructions else "summaries"] = (
            f"{len(records) - len(without_summary(records)):,}"
        )
        bodies, summaries = records["article"], _joined(records["summary"])
        read, written = ("instruction", "answer") if self.task.has_instructions else ("body", "summary")
        self.counts["words"] = _lengths({read: bodies, written: summaries}, lambda text: len(text.split()))
        if tokenizer is None:
            return
        name, encode = tokenizer
        first = records.select(range(min(len(records), TOKENIZED)))
        titles, summaries = first["title"], _joined(first["summary"])
        whole = [f"{title}\n{summary}" for title, summary in zip(titles, summaries, strict=True)]
        texts = {
            read: first["article"],
            **({written: summaries} if self.task.has_instructions else {"title and summary": whole}),
        }
        of = "" if len(first) == len(records) else f", of the first {len(first):,} articles"
        # As the processor does, which reads the spelling of a special token as plain text.
        options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        lengths = _lengths(texts, lambda text: len(encode(text, **options)["input_ids"]))
        self.counts["tokens"] = f"{lengths} ({name}{of})"

    def _find_problems(self) -> None:
        lacking = without_summary(self.records)
        if lacking:
            self.problems.append(
                f"{len(lacking)} articles have no {self.task.word('summary')}, {lacking[0]!r} among them: training and "
                "evaluation need one of each"
            )
        try:
            check_split("the data", self.split, self.records, need_summaries=False, task=self.task)
        except OwnDataError as error:
            self.problems.append(str(error))

    def lines(self, shown: int = 3) -> list[str]:
        """The overview for a reader, with the first `shown` articles, shortened."""
        unsplit = f"all (no splits: training parts {VALIDATION_SHARE:.0%} off for validation)"
        lines = [f"{self.split or unsplit}: {len(self.records):,} articles"]
        lines += [f"  {word:<18} {text}" for word, text in self.counts.items()]
        lines += [
            f"  {count:,} x {kind} ({DAMAGE_KINDS[kind]})" for kind, count in stored_damage(self.records).items()
        ]
        lines += [f"  wrong: {problem}" for problem in self.problems]
        if self.broken:
            lines.append(f"  broken images, left out where they are read: {len(self.broken):,}")
            lines += [f"    {printable(str(image))}" for image in self.broken[:_NAMED_IMAGES]]
            lines += ["    …"] if len(self.broken) > _NAMED_IMAGES else []
        articles = UndecodedArticles(self.records)
        for index in range(min(shown, len(articles))):
            lines += _shown_article(articles[index], self.task)
        return lines


def _joined(summaries: Iterable[Sequence[str]]) -> list[str]:
    return [" ".join(lines or ()) for lines in summaries]


def _lengths(texts: dict[str, Iterable[str]], length: Callable[[str], int]) -> str:
    """Least, median and greatest length of each kind of text."""
    parts = []
    for name, values in texts.items():
        lengths = sorted(map(length, values))
        parts.append(f"{name} {lengths[0]:,} / {statistics.median_low(lengths):,} / {lengths[-1]:,}")
    return ", ".join(parts) + " (least / median / most)"


def _shown_article(article: dict[str, Any], task: Task) -> list[str]:
    images = article["images"] or []
    names = [
        Path(image["path"]).name if image["bytes"] is None else f"{len(image['bytes']):,} bytes" for image in images
    ]
    texts = [text for name in ("captions", "alt_texts") for text in article.get(name) or () if text]
    rows = {
        "title": article["title"],
        "article": article["article"],
        "summary": " ".join(article["summary"] or ()),
        "images": ", ".join(names),
        "first text": texts[0] if texts else "",
        "gold images": ", ".join(map(str, article["gold_images"] or ())),
    }
    return [
        f"  {printable(article['id'])}",
        *(
            f"    {task.word(name):<11} {shortened(printable(' '.join(text.split())), _SHOWN)}"
            for name, text in rows.items()
            if text
        ),
    ]
