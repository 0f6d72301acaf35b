"""Which datasets hold articles already, and prepared articles as a task reads them."""

from collections.abc import Callable

import pyarrow
from datasets import Dataset, Value
from pyarrow import compute

from ..tasks.task import Task
from .formats import OwnDataError, Source
from .rows import article_features

# What every reader of articles needs; captions and alternative texts may be missing.
_NEEDED = ("id", "title", "article", "summary", "images", "gold_images")


def are_articles(source: Source, records: Dataset) -> bool:
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


def for_task(where: str, split: str, records: Dataset, task: Task, report: Callable[[str], None] | None) -> Dataset:
    """
    Prepared articles, such as those of the MSMO layout, as the task reads them: an instruction has no title.

    Args:
        where (`str`), split (`str`): The data, for the report.
        records (`Dataset`): The articles.
        task (`Task`): What they are for.
        report (`Callable`, *optional*): Is told how many titles are not read.
    """
    titled = sum(map(bool, records["title"])) if task.has_instructions else 0
    if not titled:
        return records
    if report is not None:
        report(f"{where}: the titles of {titled} {split}{' ' if split else ''}records are not read ({task.name})")
    names = records.column_names
    bare = records.remove_columns("title").add_column("title", [""] * len(records), feature=Value("string"))
    return bare.select_columns(names)
