"""The addresses that an `<img>` of an HTML page gives for its image."""

import re
from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

from bs4 import Tag

from ..linked_images import MAX_ADDRESSES_OF_IMAGE, Address

# Of the scripts that load images when they are scrolled into view, those in use first; each puts a placeholder in src.
_LAZY_ATTRIBUTES = (
    "data-src data-original data-lazy-src data-cfsrc data-hi-res-src data-lazy data-actualsrc data-full-src "
    "data-orig-file data-large-file"
).split()
_LAZY_SETS = ("data-srcset", "data-lazy-srcset", "data-original-set")
# What further ones call them.
_OTHER_LAZY = re.compile(r"data-[\w-]*src")
_OTHER_LAZY_SET = re.compile(r"data-[\w-]*srcset")
_PIXELS = re.compile(r"\s*(\d{1,6}(?:\.\d+)?)(?:px)?\s*", re.IGNORECASE)


def image_addresses(image: Tag, sources: Sequence[Tag], base: str) -> list[Address]:
    """
    All addresses that an `<img>` and the `<source>`s beside it give for its image, the likeliest first.

    Those of lazy loaders come first, then `src`, then the sets with the largest of each first; among these, local
    paths before remote addresses, whose refusal tells more than a placeholder's, before `data:` URIs.

    Args:
        image (`Tag`): The `<img>`.
        sources (`Sequence[Tag]`): The `<source>`s of its `<picture>`.
        base (`str`): The page's `<base href>`, or `""`.
    """
    lazy = _values(image, _LAZY_ATTRIBUTES, _OTHER_LAZY)
    lazy_sets = _values(image, _LAZY_SETS, _OTHER_LAZY_SET)
    sets = [_text(image, "srcset"), *lazy_sets]
    for source in sources:
        own = _values(source, _LAZY_SETS, _OTHER_LAZY_SET)
        lazy_sets += own
        sets += [*own, _text(source, "srcset"), *_values(source, _LAZY_ATTRIBUTES, _OTHER_LAZY), _text(source, "src")]
    src = _text(image, "src")
    written = [*lazy, src]
    for text in sets:
        written += [address for address, _ in sorted(_srcset(text), key=lambda entry: -entry[1])]
    later = {*lazy, *(address for text in lazy_sets for address, _ in _srcset(text))}
    # Beside another address of a lazy loader, src is a placeholder, which many images share.
    placeholder = src if later and src not in later else None
    addresses = [
        Address(address, resolved(address, base), address != placeholder)
        for address in list(dict.fromkeys(filter(None, written)))[:MAX_ADDRESSES_OF_IMAGE]
    ]
    return sorted(addresses, key=lambda address: _rank(address.link)) or [Address("", "", identifies=False)]


def shown_size(image: Tag) -> tuple[float, float] | None:
    """Width and height in pixels that the attributes of an `<img>` give; `None` without both."""
    sides = [_PIXELS.fullmatch(_text(image, name)) for name in ("width", "height")]
    return (float(sides[0][1]), float(sides[1][1])) if all(sides) else None


def resolved(address: str, base: str) -> str:
    """The address after a `<base href>`."""
    # Before urlsplit, whose cache would keep the image.
    if address[:5].lower() == "data:":
        return address
    try:
        around, url = urlsplit(base), urlsplit(address)
    except ValueError:
        return address
    if around.scheme or around.netloc:
        return urljoin(base, address)
    # urljoin would drop a leading "..", and so name another file.
    if not url.path or url.scheme or url.netloc or address.startswith("/"):
        return address
    return "".join(around.path.rpartition("/")[:2]) + address


def _text(tag: Tag, name: str) -> str:
    return str(tag.get(name, "")).strip()


def _values(tag: Tag, names: Sequence[str], others: re.Pattern[str]) -> list[str]:
    further = [name for name in tag.attrs if name not in names and others.fullmatch(name)]
    return [text for name in (*names, *further) if (text := _text(tag, name))]


def _srcset(text: str) -> list[tuple[str, float]]:
    """The addresses of a `srcset` with their widths or densities."""
    entries = []
    words = text.split()[::-1]
    while words:
        address, descriptor = words.pop(), ""
        if not address.endswith(","):
            descriptor, _, rest = words.pop().partition(",") if words else ("", "", "")
            if rest:
                words.append(rest)
        try:
            size = float(descriptor[:-1])
        except ValueError:
            size = 1.0
        entries.append((address.strip(","), size))
    return entries


def _rank(address: str) -> int:
    if address[:5].lower() == "data:":
        return 2
    try:
        url = urlsplit(address)
    except ValueError:
        return 1
    return 1 if url.scheme or url.netloc else 0
