"""The images of a dataset's articles, decoded one by one: a broken one is left out and told, and ends no run.

`datasets` decodes all images of a record when it is read, and a truncated one raises an error that names neither article nor
file. Here records keep their images undecoded ([`UndecodedArticles`]) until [`read_images`] decodes them.
"""

import errno
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset
from PIL import Image, ImageOps

from modeling_spectra.rgb_images import DECODING_ERRORS, flat_rgb

# Of the machine or of the process, not of the file.
_NOT_THE_FILE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
# Of a disk or a mount that fails: a cache would keep its images as broken for good.
_NOT_THE_FILE |= {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENXIO, errno.EHOSTDOWN}

# Ghostscript.
_BY_OTHER_PROGRAMS = {"EPS"}


class BrokenImage(NamedTuple):
    """
    An image that could not be read. `str` names it with the remedy.

    Attributes:
        article (`str`): The article's id.
        index (`int`): The image's place among the article's images, from 0.
        images (`int`): How many images of the article are read at all.
        file (`str`): Its path; of one inside the dataset the name of the file that it was made from, or nothing.
        damage (`str`): What is wrong with it.
    """

    article: str
    index: int
    images: int
    file: str
    damage: str

    def __str__(self) -> str:
        where = f"{self.file} (image {self.index + 1})" if self.file else f"image {self.index + 1}"
        return (
            f"article {self.article}: {where} is broken and left out: {self.damage}; replace the file and start again, or "
            "remove it"
        )


class ReadImages(NamedTuple):
    """The readable `images` of an article with their places among its images, `indices`, and those that are `broken`."""

    images: list[Image.Image]
    indices: list[int]
    broken: list[BrokenImage]


class UndecodedArticles:
    """
    The articles of a dataset one by one, as its own items are, but with their images as they are stored: dicts with `bytes`
    or `path`. A map-style dataset for a `DataLoader`.

    Args:
        records (`Dataset`): The articles.
    """

    def __init__(self, records: Dataset):
        self.records = records
        self._rows = records.with_format("arrow")

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index].to_pylist()[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return self._rows[indices].to_pylist()


def undecoded(records: Sequence[dict[str, Any]] | Dataset) -> Sequence[dict[str, Any]] | UndecodedArticles:
    """Articles to read one by one; those of a `Dataset` come undecoded."""
    return UndecodedArticles(records) if isinstance(records, Dataset) else records


def read_images(record: Mapping[str, Any], limit: int | None = None) -> ReadImages:
    """
    Decodes the images of an article, as models see them: by [`flat_rgb`], of which what it refuses is broken, too.

    Args:
        record (`Mapping[str, Any]`): With `id` and `images`: dicts with `bytes` or `path`, as `datasets` stores them, or PIL
            images.
        limit (`int`, *optional*): Only the first ones are read, broken or not; all by default.
    """
    stored = list(record["images"] or ())[:limit]
    images, indices, broken = [], [], []
    for index, value in enumerate(stored):
        try:
            image = flat_rgb(value if isinstance(value, Image.Image) else _decoded(value))
        except DECODING_ERRORS as error:
            if isinstance(error, OSError) and error.errno in _NOT_THE_FILE:
                raise
            damage = str(error).strip() or type(error).__name__
            if isinstance(error, Image.UnidentifiedImageError):
                # Pillow names the object in memory, which is another one in each run.
                damage = "it is no image in a format that is read"
            broken.append(BrokenImage(record["id"], index, len(stored), _file_of(value), damage))
        else:
            images.append(image)
            indices.append(index)
    return ReadImages(images, indices, broken)


def decoded(record: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """The article with its first images decoded once for all who read them; a broken one stays as it is stored."""
    read = dict(zip(*read_images(record, limit)[1::-1], strict=True))
    return {**record, "images": [read.get(index, value) for index, value in enumerate(record["images"])]}


def count_broken(broken: Iterable[BrokenImage], *, gold: Collection[tuple[str, int]] = ()) -> dict[str, int]:
    """
    What is counted of broken images; what there is none of is left out.

    Args:
        broken (`Iterable[BrokenImage]`): The images; one that was met several times counts once.
        gold (`Collection[tuple[str, int]]`, *optional*): Ids and places of the gold images.

    Returns:
        `broken_images`, `broken_gold_images` (those among them) and `articles_made_text_only`: articles of which no image is
        left.
    """
    places = {(image.article, image.index): image for image in broken}
    left = {image.article: image.images for image in places.values()}
    for image in places.values():
        left[image.article] -= 1
    counts = {
        "broken_images": len(places),
        "broken_gold_images": len(places.keys() & set(gold)),
        "articles_made_text_only": sum(count == 0 for count in left.values()),
    }
    return {name: count for name, count in counts.items() if count}


def _decoded(value: Mapping[str, Any]) -> Image.Image:
    """As the feature `datasets.Image` does, but from this machine only."""
    if not isinstance(value, Mapping):
        raise ValueError(f"it is neither a PIL image nor a dict with bytes or a path, but {type(value).__name__}")
    if value["bytes"] is None and value["path"] is None:
        raise ValueError("it has neither bytes nor a path")
    source = value["path"] if value["bytes"] is None else io.BytesIO(value["bytes"])
    with Image.open(source, formats=_stored_formats()) as file:
        file.load()
        return ImageOps.exif_transpose(file)


def _stored_formats() -> list[str]:
    """All that Pillow reads, as `datasets` stores images in many, but those for which it starts another program."""
    Image.init()
    return [name for name in Image.OPEN if name not in _BY_OTHER_PROGRAMS]


def _file_of(value: Any) -> str:
    if isinstance(value, Image.Image):
        return str(getattr(value, "filename", ""))
    if not isinstance(value, Mapping):
        return ""
    return str(value["path"] if value["bytes"] is None else Path(value["path"] or "").name)
