"""The addresses that an `<img>` of an HTML page gives for its image."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from bs4 import Tag

_LAZY_ATTRIBUTES = ("data-src", "data-original", "data-lazy-src")


def image_addresses(image: Tag, sources: Sequence[str]) -> list[str]:
    """All addresses that an `<img>` and the `<source>`s beside it give for its image."""
    addresses = [str(image.get(name, "")).strip() for name in (*_LAZY_ATTRIBUTES, "src")]
    for text in (str(image.get("srcset", "")), str(image.get("data-srcset", "")), *sources):
        addresses += [address for address, _ in sorted(_srcset(text), key=lambda entry: -entry[1])]
    return list(dict.fromkeys(address for address in addresses if address))


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


def address_rank(address: str) -> int:
    """Local paths before remote addresses, whose refusal tells more than a placeholder's, before `data:` URIs."""
    if address[:5].lower() == "data:":
        return 2
    try:
        url = urlsplit(address)
    except ValueError:
        return 1
    return 1 if url.scheme or url.netloc else 0
