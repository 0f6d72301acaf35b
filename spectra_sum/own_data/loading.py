"""The articles of whatever data a user names: the columns of MSMO's records, checked, and told what was read as what."""

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import datasets
import pyarrow
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from pyarrow import compute

from ..msmo.builder import load_msmo
from ..msmo.closed_world import closed_world_dataset
from ..msmo.sources import image_counts
from ..records.article_images import BrokenImage
from .broken_files import find_broken
from .columns import USUAL_NAMES, find_columns, parse_columns
from .formats import CLOSED_WORLD, SPLIT_KEYWORDS, OwnDataError, Source, check_no_own_options, find_source
from .opening import Rows, open_source, told_in_one_line
from .rows import RowReader, article_features

# Images may lie in the rows.
_BATCH = 100
# Of a stream: it is what is read before the first article comes.
_STREAM_BATCH = 16
# What every reader of articles needs; captions and alternative texts may be missing.
_NEEDED = ("id", "title", "article", "summary", "images", "gold_images")
_TOLD_IMAGES = 5
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
    """

    source: Source
    splits: dict[str, Dataset | IterableDataset] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    unread: dict[str, list[str]] = field(default_factory=dict)
    without_body: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """What was found, for the user: a line, and one for each other assignment of columns that a split has."""
        kind = _KIND_NAMES.get(self.source.kind, self.source.kind)
        lines: dict[str, list[str]] = {}
        for split in self.splits:
            columns, unread = self.columns[split], self.unread[split]
            line = "the columns of articles"
            if columns:
                line = ", ".join(f"{ours} = {theirs}" for ours, theirs in columns.items())
                without = [ours for ours in USUAL_NAMES if ours not in columns]
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
        ]

    def findings(self) -> list[str]:
        """The same, where anything had to be found."""
        return self.lines() if any(self.columns.values()) else []


def load_articles(
    source: Source,
    *,
    columns: Sequence[str] = (),
    config: str | None = None,
    streaming: bool = False,
    num_proc: int | None = None,
    splits: Collection[str] | None = None,
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

    Raises:
        OwnDataError: The data cannot be read. The message names the file or article, the column, and the fix.
    """
    given = parse_columns(columns)
    opened = open_source(source, config=config, streaming=streaming, num_proc=num_proc)
    wanted = [split for split in opened if splits is None or not split or split in splits]
    if not wanted:
        raise OwnDataError(f"{source.name} has no split {' or '.join(map(repr, splits))}; it has {', '.join(opened)}.")
    found = OwnArticles(source)
    for split in wanted:
        articles, rows = [], 0
        for part in opened[split]:
            if not given and isinstance(part.records, Dataset) and _are_articles(source, part.records):
                records, known, unread = part.records, {}, []
            else:
                records, known, unread = _read(source, part, given, num_proc)
            articles.append(records)
            rows += len(part.records) if isinstance(part.records, Dataset) else 0
        records = articles[0] if len(articles) == 1 else datasets.concatenate_datasets(articles)
        if isinstance(records, Dataset):
            found.without_body[split] = rows - len(records)
            records = records if "id" in known or not known else _with_own_ids(records)
        else:
            with told_in_one_line(source):
                if next(iter(records.take(1)), None) is None:
                    raise OwnDataError(f"{source.name} has no {split} articles.")
        found.splits[split], found.columns[split], found.unread[split] = records, known, unread
    return found


def load_any(
    source: Source,
    *,
    columns: Sequence[str] = (),
    config: str | None = None,
    split: str | None = None,
    verify: str = "header",
) -> OwnArticles:
    """
    The articles of any data, unchecked, to be looked at.

    Args:
        source (`Source`): Of [`find_source`].
        columns, config: As of [`load_articles`].
        split (`str`, *optional*): Only this one; all by default.
        verify (`str`, *optional*, defaults to `"header"`): How the images of a folder in the MSMO layout are checked.

    Raises:
        ValueError: The data cannot be read.
    """
    wanted = None if split is None else [split]
    if source.kind == CLOSED_WORLD:
        splits = closed_world_dataset(dict.fromkeys(wanted or SPLIT_KEYWORDS, 200), seed=0)
    elif source.kind == "msmo":
        with told_in_one_line(source):
            splits = load_msmo(source.name, splits=wanted, verify=verify)
    else:
        return load_articles(source, columns=columns, config=config, splits=wanted)
    return OwnArticles(source, dict(splits), {name: {} for name in splits}, {name: [] for name in splits})


def load_splits(
    source: Source,
    *,
    columns: Sequence[str] = (),
    config: str | None = None,
    streaming: bool = False,
    num_proc: int | None = None,
    verify: str = "header",
    report: Report | None = None,
) -> DatasetDict | IterableDatasetDict:
    """
    All splits of a user's data, to be trained on: every article has a summary. The split of data without splits is `""`.

    Args:
        source, columns, config, streaming, num_proc: As of [`load_articles`].
        verify (`str`, *optional*, defaults to `"header"`): As of [`find_broken`]; of a stream nothing is looked at.
        report (`Callable`, *optional*): Is given lines on what was read, for the user.

    Raises:
        OwnDataError: The data cannot be read, or not be trained on.
    """
    found = load_articles(source, columns=columns, config=config, streaming=streaming, num_proc=num_proc)
    _tell(found.findings(), report)
    if streaming:
        return IterableDatasetDict(found.splits)
    for split, records in found.splits.items():
        check_split(source.name, split, records)
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
) -> Dataset:
    """
    Loads one split of any data.

    Args:
        data (`str`): ``"closed_world"``, a folder in the MSMO layout, or data of the user's own: a file, a folder or a Hub id;
            see [`find_source`]. Data without splits are the one that is asked for.
        split (`str`): ``"train"``, ``"validation"`` or ``"test"``.
        columns, config: As of [`load_articles`], for data of the user's own.
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
    check_no_own_options(source, columns, config)
    if source.kind == CLOSED_WORLD:
        sizes = {split: closed_world_articles}
        return closed_world_dataset(sizes, seed=closed_world_seed, difficulty=closed_world_difficulty)[split]
    if source.kind == "msmo":
        records = load_msmo(data, splits=[split])[split]
        check_split(data, split, records, need_summaries=need_summaries)
        return records
    found = load_articles(source, columns=columns, config=config, splits=[split])
    records = found.splits[split if split in found.splits else ""]
    _tell(found.findings(), report)
    check_split(data, split, records, need_summaries=need_summaries)
    _tell(broken_lines(data, records, find_broken(records)), report)
    return records


def check_split(where: str, split: str, records: Dataset, *, need_summaries: bool = True) -> None:
    """
    Checks the articles of a split as a whole.

    Raises:
        OwnDataError: There are none, an id stands there twice, an article has no summary, or gold images that it has not.
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
        raise OwnDataError(
            f"{where}: {len(lacking)} of {len(records)} articles have no summary, {lacking[0]!r} among them; give them one, "
            "leave them out, or name the column with --columns summary=NAME."
        )
    for name, gold, count in zip(records["id"], records["gold_images"], image_counts(records), strict=True):
        if gold is None or not all(0 <= index < count for index in gold):
            raise OwnDataError(f"{where}: the gold images of {name!r} are {gold}, but it has {count} images (from 0).")


def without_summary(records: Dataset) -> list[str]:
    """The ids of the articles without a summary."""
    return [name for name, lines in zip(records["id"], records["summary"], strict=True) if not any(lines or ())]


def broken_lines(where: str, records: Dataset, broken: Sequence[BrokenImage]) -> list[str]:
    """
    What is told of broken images.

    Raises:
        OwnDataError: No image of any article can be read, which is more than damage.
    """
    if not broken:
        return []
    total = sum(image_counts(records))
    if len(broken) == total:
        first = broken[0]
        raise OwnDataError(
            f"{where}: none of its {total} images can be read; {first.file or f'the first one of {first.article!r}'}: "
            f"{first.damage}. Paths count from the folder of the data file."
        )
    named = [f"  {image}" for image in broken[:_TOLD_IMAGES]]
    more = [f"  … and {len(broken) - _TOLD_IMAGES} more"] if len(broken) > _TOLD_IMAGES else []
    lost = f"{where}: {len(broken)} of {total} images are broken or missing, and are left out where they are read:"
    return [lost, *named, *more]


def _read(
    source: Source, rows: Rows, given: dict[str, str], num_proc: int | None
) -> tuple[Dataset | IterableDataset, dict[str, str], list[str]]:
    """Rows as articles, with the columns that were found and those that are not read."""
    records = rows.records
    names = records.column_names
    if names is None:
        with told_in_one_line(source):
            names = list(next(iter(records.take(1)), {}))
    columns = find_columns(source.name, names, given)
    unread = [name for name in names if name not in columns.values()]
    if isinstance(records, IterableDataset):
        # Files without types of columns hold no images.
        records = records if records.features is None else records.decode(False)
        reader = RowReader(source.name, columns, rows.place, stream=True)
        features = article_features(decode=False)
        read = records.map(reader, batched=True, batch_size=_STREAM_BATCH, remove_columns=names, features=features)
        return read, columns, unread
    features = {theirs: _without_decoding(records.features[theirs]) for theirs in columns.values()}
    # `cast_column` would write all images of a list of them once more.
    records = copy.deepcopy(records)
    records.info.features.update({theirs: feature for theirs, feature in features.items() if feature is not None})
    reader = RowReader(source.name, columns, rows.place)
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


def _are_articles(source: Source, records: Dataset) -> bool:
    """Whether a dataset has all columns of articles in their types, with its images inside it."""
    features = article_features()
    if any(
        records.features.get(name, None if name in _NEEDED else feature) != feature
        for name, feature in features.items()
    ):
        return False
    # An image that is named only could be any file of this machine, or an address to fetch.
    embedded = all(not chunk.flatten().field("bytes").null_count for chunk in records.data.column("images").chunks)
    if not embedded and source.kind == "saved":
        raise OwnDataError(
            f"{source.name}: it names images by their paths; save it with `save_to_disk`, which embeds them."
        )
    return embedded and _are_whole(records.data)


def _are_whole(table: pyarrow.Table) -> bool:
    """Whether each row has an id, a body, and as many texts as images; others are read, and what is wrong is told."""
    if any(table.column(name).null_count for name in ("id", "article", "summary", "images")):
        return False
    if compute.any(
        compute.equal(compute.utf8_length(compute.utf8_trim_whitespace(table.column("article"))), 0)
    ).as_py():
        return False
    images = compute.list_value_length(table.column("images"))
    texts = [table.column(name) for name in ("captions", "alt_texts") if name in table.column_names]
    return all(not text.null_count and compute.list_value_length(text).equals(images) for text in texts)


def _tell(lines: Sequence[str], report: Report | None) -> None:
    if report is not None:
        for line in lines:
            report(line)
