"""The dataset's card: rights, counts, where the labels come from, and what was left out of the copy."""

import re
from collections import Counter
from pathlib import Path

import datasets
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard, DatasetCardData

from spectra_sum.msmo.integrity import DAMAGE_KINDS, IntegrityReport

from ..errors import HubError
from ..repository import PROJECT_TAG

LABEL_COLUMNS = ("summary", "captions", "alt_texts", "gold_images")
# The Hub's names for ranges of the number of records.
SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")

# Per label column: files → records whose label comes from them; "" stands for no file.
ProvenanceCounts = dict[str, Counter[str]]


def check_license(license: str) -> None:
    """
    Checks that `license` is written as the Hub writes its licences' identifiers.

    Raises:
        HubError: It is not.
    """
    if not _LICENSE.fullmatch(license):
        raise HubError(
            f"--license {license!r}: this is no identifier of the Hub, which has lower case letters, digits, dots and "
            "dashes; pass one such as cc-by-4.0 or other."
        )


def count_provenance(dataset: datasets.Dataset) -> ProvenanceCounts:
    """The files that each label column comes from, with `*` for the article's hash, and the records of each."""
    counts: ProvenanceCounts = {column: Counter() for column in LABEL_COLUMNS}
    for table in dataset.select_columns(["id", "provenance"]).with_format("arrow").iter(1000):
        for article, files in zip(table["id"].to_pylist(), table["provenance"].to_pylist(), strict=True):
            for column in LABEL_COLUMNS:
                counts[column][files[column].replace(article, "*")] += 1
    return counts


def dataset_card(
    repo_id: str,
    info: datasets.DatasetInfo,
    report: IntegrityReport,
    provenance: dict[str, ProvenanceCounts],
    *,
    license: str | None,
    private: bool,
) -> DatasetCard:
    """
    Makes the card.

    Args:
        repo_id (`str`): `"namespace/name"`.
        info (`DatasetInfo`): Features, splits and sizes, by which `load_dataset` reads the shards.
        report (`IntegrityReport`): Of the copy that is published.
        provenance (`dict[str, ProvenanceCounts]`): Per split, from [`count_provenance`].
        license (`str`, *optional*): Identifier of the licence; `"other"` without one.
        private (`bool`): Whether the repository is private; otherwise the card states that its owner has the right.
    """
    records = sum(split.num_examples for split in info.splits.values())
    data = DatasetCardData(
        pretty_name=repo_id.partition("/")[2],
        license=license or "other",
        language="en",
        task_categories=["summarization"],
        size_categories=[next((name for limit, name in SIZE_CATEGORIES if records < limit), "1M<n<10M")],
        tags=[PROJECT_TAG, "multimodal-summarization", "image", "text"],
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    files = [{"split": split, "path": f"data/{split}-*"} for split in info.splits]
    MetadataConfigs({"default": {"data_files": files}}).to_dataset_card_data(data)
    # The template's own placeholder of the metadata needs the name `card_data`.
    return DatasetCard.from_template(
        data,
        template_path=str(Path(__file__).parent / "templates" / "dataset_card.md.j2"),
        repo_id=repo_id,
        license=license,
        private=private,
        splits={name: split.totals for name, split in report.splits.items()},
        published=list(info.splits),
        damage=[
            (name, kind, DAMAGE_KINDS[kind], split.counts[kind])
            for name, split in report.splits.items()
            for kind in DAMAGE_KINDS
            if split.counts[kind]
        ],
        provenance=[
            (column, split, files, count)
            for column in LABEL_COLUMNS
            for split, counts in provenance.items()
            for files, count in sorted(counts[column].items())
        ],
    )
