"""What a document is made of, whatever file it came from."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from PIL import Image

from .local_images import ImageError, open_data_image, open_linked_image

# A decoded image takes up to 3 MB.
MAX_IMAGES = 200
MAX_ADDRESSES = 1000

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class DocumentError(ValueError):
    """A document that cannot be read at all. The message names the file and the fix."""


@dataclass(frozen=True)
class Problem:
    """
    Something of a document that was left out, or another remark on it.

    Attributes:
        kind (`str`): `"remote_image"` (not fetched), `"outside_folder"`, `"missing_image"`, `"broken_image"`,
            `"oversized_image"`, `"unsupported_image"` (unknown schemes; in Markdown also `data:` and raw HTML),
            `"image_limit"`, `"raw_html"` (text in HTML blocks of Markdown, not read), `"front_matter"` (no valid
            YAML) or `"page_furniture"` (what surrounds the article of an HTML page); the summarizer adds its own.
        detail (`str`): What it was, and why, in words.
    """

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')}: {self.detail}"


@dataclass(frozen=True)
class DocumentImage:
    """An image of a document: its `name` as the document writes it, its alt text, and the decoded RGB `image`."""

    name: str
    alt: str
    image: Image.Image


@dataclass
class Document:
    """
    A document.

    Attributes:
        id (`str`): The file's stem.
        source (`str`): The file's path.
        title (`str`), body (`str`): The text; the body's paragraphs are parted by an empty line.
        images (`list[DocumentImage]`): In the document's order.
        problems (`list[Problem]`): What was left out.
        reference (`str`, *optional*): The summary that an article in the MSMO layout brings along.
    """

    id: str
    source: str
    title: str
    body: str
    images: list[DocumentImage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    reference: str | None = None


def printable(text: str | Path) -> str:
    """The text on one line, safe in a terminal, JSON and HTML: control characters, direction overrides and lone
    surrogates (undecodable bytes of a file name) become U+FFFD, a tab becomes a space."""
    return _UNPRINTABLE.sub("\ufffd", str(text).replace("\t", " "))


def shortened(text: str, length: int = 80) -> str:
    """At most `length` characters of the text, with an ellipsis where it was cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


def shown_address(source: str) -> str:
    """An image's percent-encoded address as people read it."""
    return shortened(printable(unquote(source)))


class LinkedImages:
    """
    Opens the images that a document names: each address once, `MAX_IMAGES` images, `MAX_ADDRESSES` tries.

    Args:
        folder (`Path`): The document's folder, resolved.
        document (`Document`): Receives the images, and one problem for all that are over the limits.
        data_uris (`bool`, *optional*, defaults to `False`): Read the images in `data:` URIs as well.
    """

    def __init__(self, folder: Path, document: Document, *, data_uris: bool = False):
        self._folder = folder
        self._document = document
        self._data_uris = data_uris
        self._opened: dict[str, Image.Image | ImageError] = {}
        self._tried = 0
        self._looked_at = 0
        self._refused = 0

    def has_room(self) -> bool:
        """Whether the document's next image may be opened; counts it either way."""
        room = len(self._document.images) < MAX_IMAGES and self._tried < MAX_ADDRESSES
        self._looked_at += room
        self._refused += not room
        return room

    def open(self, address: str) -> Image.Image:
        """
        The image at an address of the document.

        Raises:
            ImageError: It cannot be used.
        """
        self._tried += 1
        if address not in self._opened:
            try:
                if self._data_uris and address[:5].lower() == "data:":
                    self._opened[address] = open_data_image(address)
                else:
                    self._opened[address] = open_linked_image(address, self._folder)
            except ImageError as error:
                # The error itself would keep what was decoded, by its traceback.
                self._opened[address] = ImageError(error.kind, str(error))
        opened = self._opened[address]
        if isinstance(opened, ImageError):
            raise ImageError(opened.kind, str(opened))
        return opened

    def report_refused(self) -> None:
        """Adds the problem that counts the images over the limits, if there are any."""
        if self._refused:
            self._document.problems.append(
                Problem("image_limit", f"{self._refused} images after the first {self._looked_at} are not read")
            )
