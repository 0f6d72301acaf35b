"""The articles of whatever data a user names: the columns of MSMO's records, checked, and told what was read as what."""

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import datasets
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from ..msmo.builder import load_msmo
from ..msmo.closed_world import closed_world_dataset
from ..msmo.sources import image_counts
from ..tasks.task import SUMMARIZATION, Task
from .broken_files import broken_lines, find_broken
from .columns import find_columns, parse_columns, usual_names
from .formats import (
    CLOSED_WORLD,
    SPLIT_KEYWORDS,
    OwnDataError,
    Source,
    check_no_own_options,
    check_task,
    find_source,
)
from .opening import Rows, open_source, told_in_one_line
from .prepared import are_articles, for_task
from .rows import RowReader, article_features

# Images may lie in the rows.
_BATCH = 100
# Of a stream: it is what is read before the first article comes.
_STREAM_BATCH = 16
_KIND_NAMES = {
    "saved": "save_to_disk",
    "hub": "Hub",
    "json": "JSON",
    "csv": "CSV",
    "parquet": "Parquet",
    "msmo": "MSMO",
}
Report = Callable[[str], None]


@dataclass
class OwnArticles:
    """
    Articles of a user's data.

    Attributes:
        source (`Source`): The data.
        splits (`dict[str, Dataset | IterableDataset]`): The articles by split; `""` is the one of data without splits. A
            stream's images are not decoded.
        columns (`dict[str, dict[str, str]]`): By split the data's columns by the record's; empty where they are records already.
        unread (`dict[str, list[str]]`): By split the columns that are not read.
        without_body (`dict[str, int]`): By split how many rows have no body, and were left out; of streams nobody knows.
        task (`Task`): What the articles are for.
        notes (`list[str]`): What else was left out, or put in a place.
    """

    source: Source
    splits: dict[str, Dataset | IterableDataset] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    unread: dict[str, list[str]] = field(default_factory=dict)
    without_body: dict[str, int] = field(default_factory=dict)
    task: Task = SUMMARIZATION
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What was found, for the user: a line, and one for each other assignment of columns that a split has."""
        kind, word = _KIND_NAMES.get(self.source.kind, self.source.kind), self.task.word
        lines: dict[str, list[str]] = {}
        for split in self.splits:
            columns, unread = self.columns[split], self.unread[split]
            line = "the columns of articles"
            if columns:
                line = ", ".join(f"{word(ours)} = {theirs}" for ours, theirs in columns.items())
                without = [word(ours) for ours in usual_names(self.task) if ours not in columns]
                line += f"; none is {', '.join(without)}" if without else ""
                line += f"; not read: {', '.join(unread)}" if unread else ""
            lines.setdefault(line, []).append(split)
        several = len(lines) > 1
        lost = {split: count for split, count in self.without_body.items() if count}
        return [
            *(
                f"{self.source.name} ({kind}{', ' + '/'.join(of) if several else ''}): {line}"
                for line, of in lines.items()
            ),
            *(f"{self.source.name}: {count} rows without a body are left out" for count in lost.values()),
            *self.notes,
        ]

    def findings(self) -> list[str]:
        """The same, where anything had to be found."""
        return self.lines() if any(self.columns.values()) else self.notes


def load_articles(
    source: Source,
    *,
    columns: Sequence[str] = (),
    config: str | None = None,
    streaming: bool = False,
    num_proc: int | None = None,
    splits: Collection[str] | None = None,
    task: Task = SUMMARIZATION,
) -> OwnArticles:
    """
    Reads a user's data of a kind that `datasets` reads into articles. What has all columns of articles in their types stays as
    it is.

    Args:
        source (`Source`): Of [`find_source`], but neither the closed world nor a folder in the MSMO layout.
        columns (`Sequence[str]`, *optional*): `"OURS=THEIRS"`; see [`parse_columns`].
        config (`str`, *optional*): A Hub dataset's configuration.
        streaming (`bool`, *optional*, defaults to `False`): Streams, for training: an article without a summary raises when
            it is met.
        num_proc (`int`, *optional*): Processes that read.
        splits (`Collection[str]`, *optional*): Only these, as far as they are there; all by default. Data without splits are
            read whole.
        task (`Task`, *optional*, defaults to `SUMMARIZATION`): What they are for, which says what columns may be called; where
            it has an instruction, an article without one gets it.

    Raises:
        OwnDataError: The data cannot be read. The message names the file or article, the column, and the fix.
    """
    given = parse_columns(columns, task)
    opened = open_source(source, config=config, streaming=streaming, num_proc=num_proc, task=task)
    wanted = [split for split in opened if splits is None or not split or split in splits]
    if not wanted:
        raise OwnDataError(f"{source.name} has no split {' or '.join(map(repr, splits))}; it has {', '.join(opened)}.")
    found = OwnArticles(source, task=task)
    for split in wanted:
        articles, rows = [], 0
        for part in opened[split]:
            if not given and isinstance(part.records, Dataset) and are_articles(source, part.records):
                records, known, unread = for_task(source.name, split, part.records, task, found.notes.append), {}, []
            else:
                records, known, unread = _read(source, part, given, num_proc, task)
            found.notes += part.notes
            articles.append(records)
            rows += len(part.records) if isinstance(part.records, Dataset) else 0
        records = articles[0] if len(articles) == 1 else datasets.concatenate_datasets(articles)
        if isinstance(records, Dataset):
            found.without_body[split] = rows - len(records)
            found.notes += _defaulted(source.name, split, records, task)
            records = records if "id" in known or not known else _with_own_ids(records)
        else:
            with told_in_one_line(source):
                if next(iter(records.take(1)), None) is None:
                    raise OwnDataError(f"{source.name} has no {split} articles.")
                if task.has_instructions and "article" not in known:
                    found.notes.append(f"{source.name}: all records get the task's instruction, {task.instruction!r}")
        found.splits[split], found.columns[split], found.unread[split] = records, known, unread
    return found


def load_any(
    source: Source,
    *,
    columns: Sequence[str] = (),
    config: str | None = None,
    split: str | None = None,
    verify: str = "header",
    task: Task = SUMMARIZATION,
) -> OwnArticles:
    """
    The articles of any data, unchecked, to be looked at.

    Args:
        source (`Source`): Of [`find_source`].
        columns, config: As of [`load_articles`].
        split (`str`, *optional*): Only this one; all by default.
        verify (`str`, *optional*, defaults to `"header"`): How the images of a folder in the MSMO layout are checked.
        task (`Task`, *optional*, defaults to `SUMMARIZATION`): As of [`load_articles`].

    Raises:
        ValueError: The data cannot be read.
    """
    check_task(source, task)
    wanted = None if split is None else [split]
    if source.kind == CLOSED_WORLD:
        splits = closed_world_dataset(dict.fromkeys(wanted or SPLIT_KEYWORDS, 200), seed=0)
    elif source.kind == "msmo":
        with told_in_one_line(source):
            splits = load_msmo(source.name, splits=wanted, verify=verify)
    else:
        return load_articles(source, columns=columns, config=config, splits=wanted, task=task)
    found = OwnArticles(source, task=task)
    for name, records in splits.items():
        found.splits[name] = for_task(source.name, name, records, task, found.notes.append)
        found.columns[name], found.unread[name] = {}, []
    return found


def load_splits(
    source: Source,
    *,
    columns: Sequence[str] = (),
    config: str | None = None,
    streaming: bool = False,
    num_proc: int | None = None,
    verify: str = "header",
    report: Report | None = None,
    task: Task = SUMMARIZATION,
) -> DatasetDict | IterableDatasetDict:
    """
    All splits of a user's data, to be trained on: every article has a summary. The split of data without splits is `""`.

    Args:
        source, columns, config, streaming, num_proc, task: As of [`load_articles`].
        verify (`str`, *optional*, defaults to `"header"`): As of [`find_broken`]; of a stream nothing is looked at.
        report (`Callable`, *optional*): Is given lines on what was read, for the user.

    Raises:
        OwnDataError: The data cannot be read, or not be trained on.
    """
    found = load_articles(source, columns=columns, config=config, streaming=streaming, num_proc=num_proc, task=task)
    _tell(found.findings(), report)
    if streaming:
        return IterableDatasetDict(found.splits)
    for split, records in found.splits.items():
        check_split(source.name, split, records, task=task)
        _tell(broken_lines(source.name, records, find_broken(records, verify)), report)
    return DatasetDict(found.splits)


def load_split(
    data: str,
    split: str,
    *,
    columns: Sequence[str] = (),
    config: str | None = None,
    closed_world_seed: int = 0,
    closed_world_articles: int = 200,
    closed_world_difficulty: str = "standard",
    need_summaries: bool = True,
    report: Report | None = None,
    task: Task = SUMMARIZATION,
) -> Dataset:
    """
    Loads one split of any data.

    Args:
        data (`str`): ``"closed_world"``, a folder in the MSMO layout, or data of the user's own: a file, a folder or a Hub id;
            see [`find_source`]. Data without splits are the one that is asked for.
        split (`str`): ``"train"``, ``"validation"`` or ``"test"``.
        columns, config, task: As of [`load_articles`]; columns and configuration are for data of the user's own.
        closed_world_seed (`int`, *optional*, defaults to `0`): The closed world's seed.
        closed_world_articles (`int`, *optional*, defaults to `200`): Its number of articles.
        closed_world_difficulty (`str`, *optional*, defaults to `"standard"`): One of `DIFFICULTIES`.
        need_summaries (`bool`, *optional*, defaults to `True`): False: articles may have none, which is an empty list.
        report (`Callable`, *optional*): Is given lines on what was read of the user's own data.

    Raises:
        ValueError: when the data or the split do not exist, or the split has no article, lacks a column, holds an id twice, an
            article without a summary, a gold image that is none of the article's, or an image outside of the data's folder.
    """
    source = find_source(data)
    check_task(source, task)
    check_no_own_options(source, columns, config)
    if source.kind == CLOSED_WORLD:
        sizes = {split: closed_world_articles}
        return closed_world_dataset(sizes, seed=closed_world_seed, difficulty=closed_world_difficulty)[split]
    if source.kind == "msmo":
        records = for_task(data, split, load_msmo(data, splits=[split])[split], task, report)
        check_split(data, split, records, need_summaries=need_summaries, task=task)
        return records
    found = load_articles(source, columns=columns, config=config, splits=[split], task=task)
    records = found.splits[split if split in found.splits else ""]
    _tell(found.findings(), report)
    check_split(data, split, records, need_summaries=need_summaries, task=task)
    _tell(broken_lines(data, records, find_broken(records)), report)
    return records


def check_split(
    where: str, split: str, records: Dataset, *, need_summaries: bool = True, task: Task = SUMMARIZATION
) -> None:
    """
    Checks the articles of a split as a whole.

    Raises:
        OwnDataError: There are none, an id stands there twice, an article has no summary, or gold images that it has not; or one
            that is an instruction has no images.
    """
    if not len(records):
        raise OwnDataError(f"{where} has no {split}{' ' if split else ''}articles.")
    ids = sorted(records["id"])
    twice = [first for first, second in itertools.pairwise(ids) if first == second]
    if twice:
        raise OwnDataError(
            f"{where} holds {len(twice)} ids twice, {twice[0]!r} among them; give each article its own id."
        )
    lacking = without_summary(records)
    if lacking and need_summaries:
        word = task.word("summary")
        raise OwnDataError(
            f"{where}: {len(lacking)} of {len(records)} articles have no {word}, {lacking[0]!r} among them; give them one, "
            f"leave them out, or name the column with --columns {word}=NAME."
        )
    counts = image_counts(records)
    bare = [name for name, count in zip(records["id"], counts, strict=True) if not count]
    if bare and task.has_instructions:
        raise OwnDataError(
            f"{where}: {len(bare)} of {len(records)} records have no images, {bare[0]!r} among them, and {task.name} is about "
            "images; give them some, or leave them out."
        )
    for name, gold, count in zip(records["id"], records["gold_images"], counts, strict=True):
        if gold is None or not all(0 <= index < count for index in gold):
            raise OwnDataError(f"{where}: the gold images of {name!r} are {gold}, but it has {count} images (from 0).")


def without_summary(records: Dataset) -> list[str]:
    """The ids of the articles without a summary."""
    return [name for name, lines in zip(records["id"], records["summary"], strict=True) if not any(lines or ())]


def _read(
    source: Source, rows: Rows, given: dict[str, str], num_proc: int | None, task: Task
) -> tuple[Dataset | IterableDataset, dict[str, str], list[str]]:
    """Rows as articles, with the columns that were found and those that are not read."""
    records = rows.records
    names = records.column_names
    if names is None:
        with told_in_one_line(source):
            names = list(next(iter(records.take(1)), {}))
    if rows.columns is not None and given:
        raise OwnDataError(f"columns: those of stories in VIST's layout are known ({source.name}); leave it out.")
    columns = dict(rows.columns or find_columns(source.name, names, given, task))
    unread = [name for name in names if name not in columns.values()]
    if isinstance(records, IterableDataset):
        # Files without types of columns hold no images.
        records = records if records.features is None else records.decode(False)
        reader = RowReader(source.name, columns, rows.place, stream=True, task=task)
        features = article_features(decode=False)
        read = records.map(reader, batched=True, batch_size=_STREAM_BATCH, remove_columns=names, features=features)
        return read, columns, unread
    features = {theirs: _without_decoding(records.features[theirs]) for theirs in columns.values()}
    # `cast_column` would write all images of a list of them once more.
    records = copy.deepcopy(records)
    records.info.features.update({theirs: feature for theirs, feature in features.items() if feature is not None})
    reader = RowReader(source.name, columns, rows.place, task=task)
    try:
        read = records.map(
            reader,
            batched=True,
            batch_size=_BATCH,
            remove_columns=names,
            features=article_features(),
            num_proc=num_proc,
            desc="reading articles",
        )
    except UnicodeDecodeError as error:
        # Arrow takes the bytes of a text as they are.
        raise OwnDataError(f"{source.name}: a text is not UTF-8 ({error}); save the data as UTF-8.") from None
    return read, columns, unread


def _defaulted(where: str, split: str, records: Dataset, task: Task) -> list[str]:
    """How many records have the task's instruction, which is that of those without one."""
    if not task.has_instructions or not (count := sum(text == task.instruction for text in records["article"])):
        return []
    name = f"{split} " if split else ""
    return [f"{where}: {count} of {len(records)} {name}records have the task's instruction, {task.instruction!r}"]


def _with_own_ids(records: Dataset) -> Dataset:
    """Ids that were made of the content, and are equal where articles are: the later ones get a number."""
    seen: Counter[str] = Counter()
    ids = []
    for name in records["id"]:
        seen[name] += 1
        ids.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    if len(seen) == len(ids):
        return records
    columns = records.column_names
    return records.remove_columns("id").add_column("id", ids).select_columns(columns)


def _without_decoding(feature: object) -> object | None:
    """The feature of images as they are stored; None for all others."""
    if isinstance(feature, datasets.Image):
        return datasets.Image(mode=feature.mode, decode=False)
    if isinstance(feature, datasets.List | datasets.LargeList):
        inner = _without_decoding(feature.feature)
        return None if inner is None else type(feature)(inner)
    return None


def _tell(lines: Sequence[str], report: Report | None) -> None:
    if report is not None:
        for line in lines:
            report(line)
