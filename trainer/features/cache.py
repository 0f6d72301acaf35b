"""The feature cache: frozen towers and the teacher run once per article, and training reads what they gave.

Under `cache_dir/DIGEST/` lie the shards of one split, and beside them `key.json`, the record that DIGEST is of. Several
processes fill a cache together, those of one launch or of several: each takes the next shard that is missing and that nobody
has locked. The system lets go of the locks of a process that ends, however it ends.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow
import pyarrow.compute
import torch
from datasets import Dataset
from filelock import FileLock
from safetensors import safe_open

from spectra_sum.errors import SpectraSumError
from spectra_sum.records.article_images import BrokenImage
from spectra_sum.sentences import reference_sentences
from trainer.features.extraction import FeatureExtractor, read_columns
from trainer.features.shards import (
    Content,
    ShardReader,
    article_digests,
    article_stamps,
    check_shard,
    digest_tensor,
    shard_content,
    write_shard,
)

ARTICLES_PER_SHARD = 512
# Of patches a shard holds fewer articles: a tenth of a gigabyte to about one.
BYTES_PER_SHARD = 2**30
# Two integers and two digests.
BYTES_PER_ARTICLE = 2 * 8 + 2 * 32


class SplitFeatures:
    """The shards of one split: which there are to be, which there are, and making one.

    `contents` is what the shards held when they were checked, which is what they must hold when they are read.

    Args:
        folder (`Path`): Where they lie.
        name (`str`): The split's name.
        records (`Dataset`): Its articles, of which shards hold consecutive ones.
        max_images (`int`): Images of an article that are used at most.
        bytes_per_image, bytes_per_sentence (`int`): What is stored of each.
        whole_summaries (`bool`): A summary counts as one sentence.
        image_texts (`bool`, *optional*, defaults to `False`): The features depend on the images' texts, too.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        records: Dataset,
        *,
        max_images: int,
        bytes_per_image: int,
        bytes_per_sentence: int,
        whole_summaries: bool,
        image_texts: bool = False,
    ):
        self.folder = folder
        self.name = name
        self.records = records
        self.max_images = max_images
        self.bytes_per_image = bytes_per_image
        self.bytes_per_sentence = bytes_per_sentence
        self.whole_summaries = whole_summaries
        self.articles_per_shard = max(1, min(ARTICLES_PER_SHARD, BYTES_PER_SHARD // (max_images * bytes_per_image)))
        self._rows = records.select_columns(read_columns(records, image_texts)).with_format("arrow")
        self._stamps: dict[int, list[bytes]] = {}
        self.contents: dict[int, Content] = {}

    def shards(self) -> range:
        """The numbers of the shards."""
        return range(-(-len(self.records) // self.articles_per_shard))

    def articles(self, shard: int) -> range:
        """The places in the split of a shard's articles."""
        start = shard * self.articles_per_shard
        return range(start, min(start + self.articles_per_shard, len(self.records)))

    def path(self, shard: int) -> Path:
        return self.folder / f"shard-{shard:05d}.safetensors"

    def lock(self, shard: int) -> FileLock:
        return FileLock(self.folder / f"shard-{shard:05d}.lock")

    def raw_rows(self, articles: range) -> pyarrow.Table:
        """The columns of [`read_columns`] (images undecoded) of consecutive articles."""
        return self._rows[articles.start : articles.stop]

    def stamps(self, shard: int) -> list[bytes]:
        """See [`article_stamps`]; of the files as they were when it was asked first."""
        if shard not in self._stamps:
            self._stamps[shard] = article_stamps(self.raw_rows(self.articles(shard)), self.max_images)
        return self._stamps[shard]

    def digests(self, shard: int) -> list[bytes]:
        """See [`article_digests`]."""
        return article_digests(self.raw_rows(self.articles(shard)), self.max_images)

    def problem(self, shard: int, *, checksum: bool = False) -> str | None:
        """The problem of [`check_shard`]; without one, `contents` has the shard's."""
        if not self.path(shard).is_file():
            return "missing"
        problem, content = check_shard(
            self.path(shard), self.stamps(shard), lambda: self.digests(shard), checksum=checksum
        )
        if content is not None:
            self.contents[shard] = content
        return problem

    def size(self, shards: Iterable[int]) -> int:
        """Bytes that shards take on disk, but for a few hundred each."""
        total = 0
        for shard in shards:
            rows = self.raw_rows(self.articles(shard))
            counts = pyarrow.compute.list_value_length(rows["images"]).to_pylist()
            images = sum(min(count or 0, self.max_images) for count in counts)
            total += images * self.bytes_per_image + len(rows) * BYTES_PER_ARTICLE
            if self.bytes_per_sentence:
                texts = [len(reference_sentences(summary)) for summary in rows["summary"].to_pylist()]
                sentences = sum(map(bool, texts)) if self.whole_summaries else sum(texts)
                total += sentences * self.bytes_per_sentence
        return total

    def build(self, shard: int, extractor: FeatureExtractor, advance: Callable[[int], None]) -> None:
        """Compute and write a shard; the caller holds its lock.

        Args:
            shard (`int`): Its number.
            extractor (`FeatureExtractor`): Computes the features.
            advance (`Callable`): Is told how many articles more are done.
        """
        articles = self.articles(shard)
        # Before anything is read: what is changed meanwhile is found stale.
        stamps, digests = self.stamps(shard), self.digests(shard)
        rows = []
        for batch in extractor.extract(self.records.select(articles)):
            rows.extend(batch)
            advance(len(batch))
        tensors = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        tensors["image_starts"] = _starts(len(row["image_embeds"]) for row in rows)
        tensors["sentence_starts"] = _starts(len(row.get("sentence_embeds", ())) for row in rows)
        tensors["broken_starts"] = _starts(len(row["broken_indices"]) for row in rows)
        if not len(tensors["broken_indices"]):
            # As earlier versions write it.
            del tensors["broken_indices"], tensors["broken_starts"]
        tensors["article_stamps"], tensors["article_digests"] = digest_tensor(stamps), digest_tensor(digests)
        write_shard(self.path(shard), tensors)
        self.contents[shard] = shard_content(tensors["article_digests"], len(articles))

    def broken_images(self) -> list[BrokenImage]:
        """The images that could not be read when the shards were written, of which there are no features."""
        broken = []
        for shard in self.contents:
            with safe_open(self.path(shard), framework="pt") as file:
                if "broken_indices" not in file.keys():  # noqa: SIM118
                    continue
                starts, indices = file.get_tensor("broken_starts"), file.get_tensor("broken_indices")
            rows = self.raw_rows(self.articles(shard)).to_pylist()
            for row, (start, end) in zip(rows, pairwise(starts.tolist()), strict=False):
                for index in indices[start:end].tolist():
                    path = row["images"][index]["path"] or ""
                    count = min(len(row["images"]), self.max_images)
                    broken.append(
                        BrokenImage(row["id"], index, count, path, "it was so when its features were cached")
                    )
        return broken


def _starts(counts: Iterable[int]) -> torch.Tensor:
    return torch.tensor([0, *counts]).cumsum(0)


class CachedFeatures:
    """Reads the features of articles by their ids, in whatever process it is used.

    Args:
        splits (`Sequence[SplitFeatures]`): Complete splits.
        patch_shape (`tuple[int, int]`, *optional*): (P, d_v) where patches are cached.
        patch_dtype (`torch.dtype`, *optional*): Theirs.
        embedding_size (`int`): d of images; that of sentences is the teacher's.
        with_teacher (`bool`): Whether the teacher's labels and sentences are there.

    Attributes:
        broken_images (`list[BrokenImage]`): Those that could not be read when the features were computed.

    Raises:
        ValueError: An id stands for two different articles.
    """

    def __init__(
        self,
        splits: Sequence[SplitFeatures],
        *,
        embedding_size: int,
        with_teacher: bool,
        patch_shape: tuple[int, int] | None = None,
        patch_dtype: torch.dtype | None = None,
    ):
        self.embedding_size = embedding_size
        self.with_teacher = with_teacher
        self.patch_shape = patch_shape
        self.patch_dtype = patch_dtype
        self.broken_images = [image for split in splits for image in split.broken_images()]
        self._layouts = [(split.folder, split.articles_per_shard, dict(split.contents)) for split in splits]
        self._places: dict[str, tuple[int, int]] = {}
        self._reader = ShardReader()
        for number, split in enumerate(splits):
            for position, identifier in enumerate(split.records["id"]):
                place = self._places.setdefault(identifier, (number, position))
                if place != (number, position):
                    first = splits[place[0]]
                    contents = [
                        article_digests(owner.raw_rows(range(row, row + 1)), owner.max_images)
                        for owner, row in ((first, place[1]), (split, position))
                    ]
                    if contents[0] != contents[1]:
                        raise SpectraSumError(
                            f"the id {identifier!r} stands for two different articles (in {first.name} and {split.name}); "
                            "features are cached by id: give each article its own."
                        )

    def read(self, identifier: str) -> dict[str, torch.Tensor]:
        """One article's `image_embeds` (n, d), with a teacher `marginals` (n,) and `sentence_embeds` (s, d), with patches
        `patches` (n, P, d_v); where images of it or of its neighbours were broken also `broken_indices` (x,).

        Raises:
            KeyError: The cache was not made for this article.
            ValueError: Another run has changed the cache.
        """
        if identifier not in self._places:
            raise KeyError(f"the feature cache has no article {identifier!r}; it was made for other splits.")
        number, position = self._places[identifier]
        folder, per_shard, contents = self._layouts[number]
        shard, row = divmod(position, per_shard)
        return self._reader.read(folder / f"shard-{shard:05d}.safetensors", row, contents[shard])

    def batch(self, articles: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Features of B articles as [`read`] gives them → padded with zeros, at least one image each:

        `image_embeds` (B, N, d), float32, `image_mask` (B, N), with a teacher `marginals` (B, N), float64,
        `sentence_embeds` (B, S, d) and `sentence_mask` (B, S), with patches `patches` (B, N, P, d_v).
        """
        counts = [len(article["image_embeds"]) for article in articles]
        images, size = max([1, *counts]), len(articles)
        batch = {
            "image_embeds": torch.zeros(size, images, self.embedding_size),
            "image_mask": torch.arange(images) < torch.tensor(counts)[:, None],
        }
        if self.patch_shape is not None:
            batch["patches"] = torch.zeros(size, images, *self.patch_shape, dtype=self.patch_dtype)
        if self.with_teacher:
            sentences = [len(article["sentence_embeds"]) for article in articles]
            batch["marginals"] = torch.zeros(size, images, dtype=torch.float64)
            width = articles[0]["sentence_embeds"].shape[-1]
            batch["sentence_embeds"] = torch.zeros(size, max(sentences), width)
            batch["sentence_mask"] = torch.arange(max(sentences)) < torch.tensor(sentences)[:, None]
        for row, article in enumerate(articles):
            for name, values in article.items():
                batch[name][row, : len(values)] = values
        return batch
