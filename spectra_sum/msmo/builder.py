"""The MSMO dataset as a `datasets` builder over the user's own copy; the dataset may not be redistributed."""

import logging
import os
import posixpath
import tempfile
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import datasets
from datasets.filesystems import is_remote_filesystem

from spectra_sum.msmo.article_index import index_split, read_index
from spectra_sum.msmo.article_record import read_record
from spectra_sum.msmo.integrity import IntegrityReport, SplitIntegrity, report_name
from spectra_sum.msmo.layout import SPLIT_FOLDERS, VERIFY_CHOICES, find_splits, fingerprint_split

logger = logging.getLogger(__name__)

# Far more than there are processes, and little to hold and to send them.
MAX_RANGES = 1024
ARROW_BATCH_SIZE = 1000


@dataclass
class MSMOConfig(datasets.BuilderConfig):
    """
    The configuration of [`MSMO`].

    Args:
        data_dir (`str`): The folder that holds `train_data`, `valid_data`, `test_data`; kept as an absolute path.
        splits (`Collection[str]`, *optional*): The splits to read, of `"train"`, `"validation"`, `"test"`. Defaults to
            all that exist.
        verify (`str`, *optional*, defaults to `"header"`): `"header"` reads each image's header, `"full"` decodes it.

    Raises:
        ValueError: `verify` or `splits` has an unknown value, or a folder is a link that leads out of `data_dir`.
        FileNotFoundError: `data_dir` is no copy of the dataset.
    """

    splits: Collection[str] | None = None
    verify: str = "header"

    def __post_init__(self):
        super().__post_init__()
        if self.verify not in VERIFY_CHOICES:
            raise ValueError(f"verify must be one of {', '.join(VERIFY_CHOICES)}, got {self.verify!r}")
        if isinstance(self.splits, str):
            raise ValueError(f"splits must be a list of names, got the string {self.splits!r}; pass [{self.splits!r}]")
        self.data_dir = os.path.realpath(os.path.expanduser(self.data_dir))
        self.splits = tuple(find_splits(Path(self.data_dir), self.splits))

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Names the cache folder. It changes with every file that is added, removed or changed."""
        content = {
            "data_dir": self.data_dir,
            "verify": self.verify,
            **{split: fingerprint_split(Path(self.data_dir, SPLIT_FOLDERS[split])) for split in self.splits},
        }
        return super().create_config_id(content, custom_features)


class MSMO(datasets.GeneratorBasedBuilder):
    """
    Articles with images, summaries and, where annotated, gold images, from a local copy of MSMO (Zhu et al., EMNLP
    2018) in the layout in which it is distributed (see `layout.py`).

    A record has `id`, `title`, `article` (paragraphs separated by blank lines), `summary` (a list of sentences),
    `images`, `captions` and `alt_texts` (one per image, empty where there is none), `gold_images` (indices into `images`;
    empty for None and where nothing is annotated) and `provenance` (for `summary`, `captions`, `alt_texts` and `gold_images`
    the files they come from, relative to the root; empty if there is no such file). Images stay where they are: the cache
    holds their paths, and pixels are decoded when a record is read.

    Damage is never fatal and never silent: an article without body or summary is dropped, a broken image is left out
    (`gold_images` counts the images that remain), and [`MSMO.integrity_report`] counts and lists it all.

    Args:
        data_dir (`str` or `os.PathLike`): The folder that holds `train_data`, `valid_data`, `test_data`.
        splits (`Collection[str]`, *optional*): See [`MSMOConfig`].
        verify (`str`, *optional*, defaults to `"header"`): See [`MSMOConfig`].
        cache_dir (`str` or `os.PathLike`, *optional*): Defaults to the cache of `datasets`.
    """

    # Belongs to the cache's path: raised when the same files would give other records.
    VERSION = datasets.Version("1.2.0")
    BUILDER_CONFIG_CLASS = MSMOConfig

    def __init__(
        self,
        data_dir: str | os.PathLike,
        *,
        splits: Collection[str] | None = None,
        verify: str = "header",
        cache_dir: str | os.PathLike | None = None,
    ):
        super().__init__(
            cache_dir=cache_dir, dataset_name="msmo", data_dir=os.fspath(data_dir), splits=splits, verify=verify
        )
        self._index_reports: dict[str, SplitIntegrity] = {}
        self._index_folder = ""

    def _info(self) -> datasets.DatasetInfo:
        text = datasets.Value("string")
        return datasets.DatasetInfo(
            description="Multimodal summarization with multimodal output",
            features=datasets.Features(
                {
                    "id": text,
                    "title": text,
                    "article": text,
                    "summary": datasets.List(text),
                    "images": datasets.List(datasets.Image()),
                    "captions": datasets.List(text),
                    "alt_texts": datasets.List(text),
                    "gold_images": datasets.List(datasets.Value("int64")),
                    "provenance": dict.fromkeys(("summary", "captions", "alt_texts", "gold_images"), text),
                }
            ),
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        generators = []
        for split in self.config.splits:
            report = self._index_reports[split] = SplitIntegrity()
            index = self._index_path(split)
            readable = index_split(Path(self.config.data_dir, SPLIT_FOLDERS[split]), report, index)
            # `ranges` is the only list: with num_proc it is cut into one contiguous run of positions per process.
            ranges = position_ranges(report.totals["articles"])
            generator = datasets.SplitGenerator(split, {"split": split, "index": str(index), "ranges": ranges})
            # The progress bar's total; the number of records replaces it at the end.
            generator.split_info.num_examples = readable
            generators.append(generator)
        return generators

    def _index_path(self, split: str) -> Path:
        # Always of this name: what a run that was killed left is replaced, and removed at the end.
        return Path(self._index_folder, f"index-{split}.sqlite")

    def _prepare_split(self, split_generator: datasets.SplitGenerator, file_format: str = "arrow", **kwargs) -> None:
        # An opened Arrow file holds some 64 kB of memory per batch. `datasets` makes them small where there may be
        # images in them: in Parquet there are, here there are only paths.
        self._writer_batch_size = ARROW_BATCH_SIZE if file_format == "arrow" else None
        # A run that was killed leaves its folder, and in it the parts of its processes.
        for part in self._report_parts(split_generator.name):
            self._fs.rm_file(part)
        super()._prepare_split(split_generator, file_format=file_format, **kwargs)

    def _generate_examples(self, split: str, index: str, ranges: list[tuple[int, int]]) -> Iterator[tuple[str, dict]]:
        report = SplitIntegrity()
        folder = os.path.join(self.config.data_dir, SPLIT_FOLDERS[split])
        first, last = (ranges[0][0], ranges[-1][1]) if ranges else (0, 0)
        for files in read_index(index, first, last):
            record = read_record(folder, files, self.config.verify, report)
            if record is not None:
                yield record["id"], record
        # Each process leaves its part beside the records it writes; its first article gives the order.
        part = posixpath.join(self._output_dir, f"{_part_prefix(split)}{first:09d}.json")
        self._fs.write_text(part, report.to_json())

    def _report_parts(self, split: str) -> list[str]:
        paths = self._fs.ls(self._output_dir, detail=False)
        return sorted(path for path in paths if posixpath.basename(path).startswith(_part_prefix(split)))

    def _download_and_prepare(self, dl_manager, verification_mode, **prepare_splits_kwargs) -> None:
        is_remote = is_remote_filesystem(self._fs)
        with tempfile.TemporaryDirectory() if is_remote else nullcontext(self._output_dir) as folder:
            self._index_folder = folder
            super()._download_and_prepare(dl_manager, verification_mode, **prepare_splits_kwargs)
            for split in self.config.splits:
                self._index_path(split).unlink()
        for split, report in self._index_reports.items():
            for part in self._report_parts(split):
                report.merge(SplitIntegrity.from_json(self._fs.read_text(part)))
                self._fs.rm_file(part)
            self._fs.write_text(posixpath.join(self._output_dir, report_name(split)), report.to_json())

    def download_and_prepare(self, *args, **kwargs) -> None:
        """
        Reads the copy into the cache, or finds it there, and logs the report's counts. Takes the arguments of
        [`~datasets.DatasetBuilder.download_and_prepare`]; `num_proc` (`int`, *optional*) is the number of processes.
        """
        super().download_and_prepare(*args, **kwargs)
        report = self.integrity_report()
        level = logging.WARNING if report.counts else logging.INFO
        logger.log(level, "%s\n%s", self.config.data_dir, report.summary())

    def integrity_report(self) -> IntegrityReport:
        """
        What was damaged in the copy. It is stored beside the cached dataset.

        Raises:
            FileNotFoundError: The dataset has not been prepared.
        """
        paths = {split: posixpath.join(self._output_dir, report_name(split)) for split in self.config.splits}
        if not all(self._fs.exists(path) for path in paths.values()):
            raise FileNotFoundError(f"no report in {self._output_dir}; call download_and_prepare() first")
        return IntegrityReport(
            {split: SplitIntegrity.from_json(self._fs.read_text(path)) for split, path in paths.items()}
        )

    def as_streaming_dataset(self, *args, **kwargs) -> None:
        """Not supported: streamed records would pass without the report."""
        raise NotImplementedError("MSMO is not streamed; use as_dataset(split).to_iterable_dataset()")

    def _as_dataset(self, split=datasets.Split.TRAIN, in_memory: bool = False) -> datasets.Dataset:
        # `datasets` refuses to read a split without records; here all of its articles may have been dropped.
        if str(split) in self.info.splits and self.info.splits[str(split)].num_examples == 0:
            columns = {name: [] for name in self.info.features}
            return datasets.Dataset.from_dict(columns, features=self.info.features, split=split)
        return super()._as_dataset(split, in_memory)


def load_msmo(
    data_dir: str | os.PathLike,
    *,
    splits: Collection[str] | None = None,
    verify: str = "header",
    num_proc: int | None = None,
    cache_dir: str | os.PathLike | None = None,
) -> datasets.DatasetDict:
    """
    The MSMO dataset of a local copy; the counts of its report are logged.

    Args:
        data_dir (`str` or `os.PathLike`): The folder that holds `train_data`, `valid_data`, `test_data`.
        splits (`Collection[str]`, *optional*): Some of `"train"`, `"validation"`, `"test"`. Defaults to all that
            exist.
        verify (`str`, *optional*, defaults to `"header"`): `"header"` reads each image's header, `"full"` decodes it.
        num_proc (`int`, *optional*): Number of processes.
        cache_dir (`str` or `os.PathLike`, *optional*): Defaults to the cache of `datasets`.

    Raises:
        ValueError, FileNotFoundError: See [`MSMOConfig`].
    """
    builder = MSMO(data_dir, splits=splits, verify=verify, cache_dir=cache_dir)
    builder.download_and_prepare(num_proc=num_proc)
    return builder.as_dataset()


def stored_damage(records: datasets.Dataset) -> dict[str, int]:
    """How often each of `DAMAGE_KINDS` was found when the split was read from its folder; empty for other datasets."""
    for file in records.cache_files:
        path = Path(file["filename"]).with_name(report_name(str(records.split)))
        if path.is_file():
            return dict(SplitIntegrity.from_json(path.read_text(encoding="utf-8")).counts)
    return {}


def position_ranges(articles: int) -> list[tuple[int, int]]:
    """The positions 0 to `articles` as at most `MAX_RANGES` ranges (start, stop), one after another."""
    size = max(1, -(-articles // MAX_RANGES))
    return [(start, min(start + size, articles)) for start in range(0, articles, size)]


def _part_prefix(split: str) -> str:
    return f"integrity-{split}-part-"
