"""What a request holds → a document: files in a folder of its own, read as everywhere, and gone afterwards."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...documents.parts import Document, DocumentError
from ...uploads.article_input import Limits, TooLargeError, read_article
from ..errors import ApiError
from .shapes import RequestOptions
from .uploads import SentAddress, SentFile


@dataclass
class SentArticle:
    """
    A request's article.

    Attributes:
        title (`str`), text (`str`): May be empty.
        document (`SentFile`, *optional*): In place of the text.
        images (`list[SentFile | SentAddress]`): In the request's order.
        options (`RequestOptions`): How it is summarized.
        stream (`bool`): Whether the answer is streamed.
    """

    title: str = ""
    text: str = ""
    document: SentFile | None = None
    images: list[SentFile | SentAddress] = field(default_factory=list)
    options: RequestOptions = field(default_factory=RequestOptions)
    stream: bool = False


def check_image_count(count: int, limits: Limits) -> None:
    """
    Holds a request to its number of images before any is decoded.

    Raises:
        ApiError: 413.
    """
    if count > limits.images:
        raise ApiError(
            413, f"There are {count} images; leave at most {limits.images}.", param="images", code="too_large"
        )


def read_sent(article: SentArticle, images: Sequence[SentFile], limits: Limits) -> Document:
    """
    The document of a request. An image that cannot be used is an error here, so that the answer's images are the request's.

    Args:
        article (`SentArticle`): The request.
        images (`Sequence[SentFile]`): Its images, with those fetched that are addresses.
        limits (`Limits`): What is accepted.

    Raises:
        ApiError: 400 or 413.
    """
    with tempfile.TemporaryDirectory(prefix="spectra-sum-") as folder:
        try:
            # A folder for each file: names may be equal.
            paths = [_written(Path(folder, str(place)), image) for place, image in enumerate(images)]
            document = article.document and _written(Path(folder, "document"), article.document)
            return read_article(
                article.title,
                article.text,
                document,
                paths,
                limits,
                captions=[image.caption for image in images],
                alts=[image.alt for image in images],
                leave_out=False,
            )
        except DocumentError as error:
            status = 413 if isinstance(error, TooLargeError) else 400
            message = re.sub(rf"{re.escape(folder)}(/\w+)?/", "", str(error))
            raise ApiError(status, message, code="too_large" if status == 413 else "invalid_article") from None


def _written(folder: Path, file: SentFile) -> str:
    folder.mkdir()
    path = folder / file.name
    path.write_bytes(file.data)
    return str(path)
