"""The images that a document shows: each once, however often and under whatever addresses it is named."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from .linked_files import LinkedFiles
from .local_images import ImageError, check_side, open_data_image, open_local_image
from .parts import Document, DocumentImage, Problem, described, printable, shortened, shown_address

# A decoded image takes up to 3 MB.
MAX_IMAGES = 200
MAX_ADDRESSES = 1000
# Of one image; a srcset has a dozen.
MAX_ADDRESSES_OF_IMAGE = 100


@dataclass
class NamedImage:
    """
    What the document says of one image so far.

    Attributes:
        alt (`str`), caption (`str`): The better ones of all that were given.
        name (`str`): The address that was read, else the likeliest one.
        image (`PIL.Image.Image`, *optional*): The pixels.
        error (`ImageError`, *optional*): Why there are none.
    """

    alt: str = ""
    caption: str = ""
    name: str = ""
    image: Image.Image | None = None
    error: ImageError | None = None

    def describe(self, alt: str, caption: str) -> None:
        """Takes over texts that say more than those it has."""
        self.alt = max(filter(None, (self.alt, alt)), key=self._worth, default="")
        self.caption = max(filter(None, (self.caption, caption)), key=self._worth, default="")

    def _worth(self, text: str) -> tuple[bool, int]:
        # Programs that write pages fill in the file's name.
        return text != PurePosixPath(self.name).name, len(text)


@dataclass(frozen=True)
class Address:
    """An address of an image: as written, as a path from the document's folder, and whether equal ones name the same
    image (a placeholder's address does not)."""

    written: str
    link: str
    identifies: bool = True

    @property
    def is_data(self) -> bool:
        return self.link[:5].lower() == "data:"


@dataclass
class LinkedImages:
    """
    Opens the images that a document names, `MAX_IMAGES` of them with at most `MAX_ADDRESSES` tries.

    Two of them are one image if they share an address, a file or all pixels; it has the longer alt text and caption.

    Args:
        files (`LinkedFiles`): Finds the files.
        data_uris (`bool`, *optional*, defaults to `False`): Read the images in `data:` URIs as well.
    """

    files: LinkedFiles
    data_uris: bool = False
    _images: list[NamedImage] = field(default_factory=list)
    _by_address: dict[str, NamedImage] = field(default_factory=dict)
    _opened: dict[str | Path, Image.Image | ImageError] = field(default_factory=dict)
    # By the id of the pixels, which `_opened` keeps.
    _by_opened: dict[int, NamedImage] = field(default_factory=dict)
    _tried: int = 0
    _refused: int = 0

    def add(
        self, addresses: Sequence[Address], alt: str = "", caption: str = "", shown: tuple[float, float] | None = None
    ) -> None:
        """
        Opens the image at the first of its addresses that can be read, if it is new.

        Args:
            addresses (`Sequence[Address]`): The likeliest first; not empty.
            alt (`str`, *optional*, defaults to `""`): Its alternative text.
            caption (`str`, *optional*, defaults to `""`): Its caption.
            shown (`tuple[float, float]`, *optional*): Width and height in pixels that the document gives it.
        """
        addresses = addresses[:MAX_ADDRESSES_OF_IMAGE]
        keys = [address.link for address in addresses if address.identifies and not address.is_data]
        known = [self._by_address[key] for key in keys if key in self._by_address]
        image = known[0] if known else NamedImage()
        if image.image is None:
            room = len(self._by_opened) < MAX_IMAGES and self._tried < MAX_ADDRESSES
            if room:
                known_links = self._by_address.keys() & set(keys)
                self._open(image, [address for address in addresses if address.link not in known_links], shown)
            if not known:
                self._refused += not room
                if not room:
                    return
                image = self._by_opened.get(id(image.image), image)
                if image.image is None or id(image.image) not in self._by_opened:
                    self._images.append(image)
            if image.image is not None:
                self._by_opened.setdefault(id(image.image), image)
        for key in keys:
            self._by_address.setdefault(key, image)
        image.describe(printable(alt), printable(caption))

    def finish(self, document: Document) -> set[str]:
        """
        Gives the document its images, and a problem for each that cannot be used.

        Returns:
            `set[str]`: The captions that stand in full with an image or in a problem.
        """
        captions = set()
        by_pixels: dict[bytes, NamedImage] = {}
        for image in self._images:
            if image.image is not None:
                first = by_pixels.setdefault(_digest(image.image), image)
                first.describe(image.alt, image.caption)
                continue
            text = described(image.alt, image.caption)
            about = f" (described as: {shortened(text)})" if text else ""
            document.problems.append(Problem(image.error.kind, f"{image.name}: {image.error}{about}"))
            if shortened(text) == text:
                captions.add(image.caption)
        for image in by_pixels.values():
            document.images.append(DocumentImage(image.name, image.alt, image.image, image.caption))
            captions.add(image.caption)
        if self._refused:
            document.problems.append(
                Problem("image_limit", f"{self._refused} images after the first {len(self._images)} are not read")
            )
        return captions

    def _open(self, image: NamedImage, addresses: Sequence[Address], shown: tuple[float, float] | None) -> None:
        for address in addresses:
            try:
                if shown:
                    check_side(*shown)
                opened = self._opened_at(address)
                check_side(*opened.size)
            except ImageError as error:
                # Of a placeholder's size says less than why the image itself is not read.
                if image.error is None or image.error.kind == "small_image" != error.kind:
                    image.error, image.name = ImageError(error.kind, str(error)), _shown(address)
            else:
                image.image, image.error, image.name = opened, None, _shown(address)
                return

    def _opened_at(self, address: Address) -> Image.Image:
        self._tried += 1
        if self.data_uris and address.is_data:
            return self._once(address.link, open_data_image)
        return self._once(self.files.find(address.link), open_local_image)

    def _once(self, place: str | Path, opener: Callable[[str | Path], Image.Image]) -> Image.Image:
        if place not in self._opened:
            try:
                self._opened[place] = opener(place)
            except ImageError as error:
                # The error itself would keep what was decoded, by its traceback.
                self._opened[place] = ImageError(error.kind, str(error))
        opened = self._opened[place]
        if isinstance(opened, ImageError):
            raise ImageError(opened.kind, str(opened))
        return opened


def _shown(address: Address) -> str:
    if not address.is_data:
        return shown_address(address.written)
    kind = printable(address.link[5:].split(",")[0].split(";")[0])
    return shortened(f"embedded image {kind}".strip())


def _digest(image: Image.Image) -> bytes:
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
