"""Images of a dataset that cannot be read, found before any work; readers leave them out wherever they meet them."""

import warnings
from collections.abc import Sequence

import pyarrow
from datasets import Dataset
from PIL import Image

from modeling_spectra.rgb_images import DECODING_ERRORS

from ..msmo.sources import image_counts
from ..records.article_images import BrokenImage, UndecodedArticles, read_images
from .formats import OwnDataError

_BATCH = 256
_TOLD = 5


def find_broken(records: Dataset, verify: str = "header") -> list[BrokenImage]:
    """
    The broken images of all articles.

    Args:
        records (`Dataset`): Articles with the columns `id` and `images`.
        verify (`str`, *optional*, defaults to `"header"`): `"header"` opens the image files that the articles name; images
            inside the dataset are not looked at. `"full"` decodes every image.
    """
    if verify == "full":
        articles = UndecodedArticles(records.select_columns(["id", "images"]))
        return [image for index in range(len(articles)) for image in read_images(articles[index]).broken]
    broken = []
    for batch in records.select_columns(["id", "images"]).with_format("arrow").iter(batch_size=_BATCH):
        images = batch["images"].combine_chunks()
        # The bytes of the others are not touched.
        files = iter(zip(images.flatten().field("bytes").is_null().to_pylist(), _paths(images), strict=True))
        for identifier, count in zip(batch["id"].to_pylist(), images.value_lengths().to_pylist(), strict=True):
            for index in range(count or 0):
                named, path = next(files)
                if named and (damage := _damage(path)):
                    broken.append(BrokenImage(identifier, index, count, path, damage))
    return broken


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
    named = [f"  {image}" for image in broken[:_TOLD]]
    more = [f"  … and {len(broken) - _TOLD} more"] if len(broken) > _TOLD else []
    lost = f"{where}: {len(broken)} of {total} images are broken or missing, and are left out where they are read:"
    return [lost, *named, *more]


def _paths(images: pyarrow.ListArray) -> list[str | None]:
    return images.flatten().field("path").to_pylist()


def _damage(path: str) -> str:
    try:
        with warnings.catch_warnings():
            # Pillow only warns between one and two times its limit, and so it is told when the pixels are read.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path):
                return ""
    except FileNotFoundError:
        return "there is no such file"
    except Image.UnidentifiedImageError:
        return "it is no image in a format that is read"
    except DECODING_ERRORS as error:
        return str(error).strip() or type(error).__name__
