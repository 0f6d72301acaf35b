"""What a document is made of, whatever file it came from."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from PIL import Image

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class DocumentError(ValueError):
    """A document that cannot be read at all. The message names the file and the fix."""


@dataclass(frozen=True)
class Problem:
    """
    Something of a document that was left out, or another remark on it.

    Attributes:
        kind (`str`): `"remote_image"` (not fetched), `"outside_folder"`, `"missing_image"`, `"broken_image"`,
            `"oversized_image"`, `"small_image"` (under 24 pixels a side), `"unsupported_image"` (unknown schemes; in
            Markdown also `data:`), `"image_limit"`, `"raw_html"` (what of the HTML in Markdown is not read),
            `"image_text"` (a caption or alternative text that cannot be read), `"front_matter"` (no valid YAML or TOML) or
            `"page_furniture"` (what surrounds the article of an HTML page,
            and what in it is not its text); the summarizer adds its own.
        detail (`str`): What it was, and why, in words.
    """

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')}: {self.detail}"


@dataclass(frozen=True)
class DocumentImage:
    """
    An image of a document.

    Attributes:
        name (`str`): Its address as the document writes it.
        alt (`str`): Its alternative text; may be empty.
        image (`PIL.Image.Image`): The pixels, in RGB.
        caption (`str`, *optional*, defaults to `""`): Its caption.
    """

    name: str
    alt: str
    image: Image.Image
    caption: str = ""

    @property
    def description(self) -> str:
        """Alternative text and caption on one line."""
        return described(self.alt, self.caption)


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


def described(alt: str, caption: str) -> str:
    """An image's alternative text and caption on one line; once where they are equal."""
    return " – ".join(dict.fromkeys(text for text in (alt, caption) if text))


def shown_address(source: str) -> str:
    """An image's percent-encoded address as people read it."""
    return shortened(printable(unquote(source)))
