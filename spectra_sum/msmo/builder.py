"""The MSMO dataset as a `datasets` builder over the user's own copy; the dataset may not be redistributed."""

import logging
import os
import posixpath
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets

from spectra_sum.msmo.integrity import IntegrityReport, SplitIntegrity
from spectra_sum.msmo.layout import (
    ANNOTATION_FILE,
    SPLIT_FOLDERS,
    VERIFY_CHOICES,
    ArticleFiles,
    find_splits,
    fingerprint_split,
    image_damage,
    index_split,
    parse_article,
    read_text,
)

logger = logging.getLogger(__name__)


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
    `images`, `captions` (one per image, empty where there is none), `gold_images` (indices into `images`; empty for
    None and where nothing is annotated) and `provenance` (for `summary`, `captions` and `gold_images` the files they
    come from, relative to the root; empty if there is no such file). Images stay where they are: the cache holds their
    paths, and pixels are decoded when a record is read.

    Damage is never fatal and never silent: an article without body or summary is dropped, a broken image is left out
    (`gold_images` counts the images that remain), and [`MSMO.integrity_report`] counts and lists it all.

    Args:
        data_dir (`str` or `os.PathLike`): The folder that holds `train_data`, `valid_data`, `test_data`.
        splits (`Collection[str]`, *optional*): See [`MSMOConfig`].
        verify (`str`, *optional*, defaults to `"header"`): See [`MSMOConfig`].
        cache_dir (`str` or `os.PathLike`, *optional*): Defaults to the cache of `datasets`.
    """

    # Belongs to the cache's path: raised when the same files would give other records.
    VERSION = datasets.Version("1.0.0")
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
                    "gold_images": datasets.List(datasets.Value("int64")),
                    "provenance": {"summary": text, "captions": text, "gold_images": text},
                }
            ),
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        generators = []
        for split in self.config.splits:
            report = self._index_reports[split] = SplitIntegrity()
            articles = index_split(Path(self.config.data_dir, SPLIT_FOLDERS[split]), report)
            # `articles` is the only list: with num_proc it is cut into one contiguous range per process.
            generators.append(datasets.SplitGenerator(split, {"split": split, "articles": articles}))
        return generators

    def _prepare_split(self, split_generator: datasets.SplitGenerator, **kwargs) -> None:
        # A run that was killed leaves its folder, and in it the parts of its processes.
        for part in self._report_parts(split_generator.name):
            self._fs.rm_file(part)
        # The progress bar's total; the number of records replaces it at the end.
        split_generator.split_info.num_examples = len(split_generator.gen_kwargs["articles"])
        super()._prepare_split(split_generator, **kwargs)

    def _generate_examples(self, split: str, articles: list[ArticleFiles]) -> Iterator[tuple[str, dict]]:
        report = SplitIntegrity()
        folder = Path(self.config.data_dir, SPLIT_FOLDERS[split])
        for files in articles:
            record = _read_record(folder, files, self.config.verify, report)
            if record is not None:
                yield record["id"], record
        # Each process leaves its part beside the records it writes; its first article gives the order.
        first = articles[0].position if articles else 0
        part = posixpath.join(self._output_dir, f"{_part_prefix(split)}{first:09d}.json")
        self._fs.write_text(part, report.to_json())

    def _report_parts(self, split: str) -> list[str]:
        paths = self._fs.ls(self._output_dir, detail=False)
        return sorted(path for path in paths if posixpath.basename(path).startswith(_part_prefix(split)))

    def _download_and_prepare(self, dl_manager, verification_mode, **prepare_splits_kwargs) -> None:
        super()._download_and_prepare(dl_manager, verification_mode, **prepare_splits_kwargs)
        for split, report in self._index_reports.items():
            for part in self._report_parts(split):
                report.merge(SplitIntegrity.from_json(self._fs.read_text(part)))
                self._fs.rm_file(part)
            self._fs.write_text(posixpath.join(self._output_dir, _report_name(split)), report.to_json())

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
        paths = {split: posixpath.join(self._output_dir, _report_name(split)) for split in self.config.splits}
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


def _part_prefix(split: str) -> str:
    return f"integrity-{split}-part-"


def _report_name(split: str) -> str:
    return f"integrity-{split}.json"


def _read_record(folder: Path, files: ArticleFiles, verify: str, report: SplitIntegrity) -> dict | None:
    place = f"{folder.name}/article/{files.article}.txt"
    text = read_text(folder / "article" / f"{files.article}.txt", place, report)
    if text is None:
        return None
    article = parse_article(text)
    for section in ("title", "body", "summary"):
        if not getattr(article, section):
            report.add(f"article_without_{section}", place)
    for section in article.repeated:
        report.add("section_repeated", place, f"@{section}")
    if article.outside:
        report.add("text_outside_sections", place)
    if not article.body or not article.summary:
        return None

    images, captions, caption_files, index_of = [], [], set(), {}
    for image_ending, caption_ending in zip(files.images, files.captions, strict=True):
        name = f"{files.article}_{image_ending}"
        damage = image_damage(folder / "img" / name, verify)
        if damage:
            report.add("broken_image", f"{folder.name}/img/{name}", damage)
            continue
        index_of[image_ending] = len(images)
        images.append(str(folder / "img" / name))
        caption = ""
        if caption_ending:
            name = f"{files.article}_{caption_ending}"
            caption_place = f"{folder.name}/caption/{name}"
            content = read_text(folder / "caption" / name, caption_place, report)
            if content is not None:
                caption = content.strip()
                caption_files.add(f"{folder.name}/caption/{files.article}_*.{caption_ending.partition('.')[2]}")
                if not caption:
                    report.add("empty_caption", caption_place)
        captions.append(caption)
    for ending in files.gold:
        if ending not in index_of:
            report.add("gold_image_broken", f"{folder.name}/img/{files.article}_{ending}")
    gold = sorted(index_of[ending] for ending in files.gold if ending in index_of)

    report.totals.update(
        records=1, images=len(images), captions=sum(map(bool, captions)), articles_with_gold=int(bool(gold))
    )
    return {
        "id": files.article,
        "title": article.title,
        "article": article.body,
        "summary": article.summary,
        "images": images,
        "captions": captions,
        "gold_images": gold,
        "provenance": {
            "summary": place,
            "captions": ", ".join(sorted(caption_files)),
            "gold_images": f"{folder.name}/{ANNOTATION_FILE}" if files.annotated else "",
        },
    }
