"""Which licence a checkout is under. Only CC BY is read: newer versions of several books are CC BY-NC-SA."""

import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import Element

from spectra_sum.openstax.checkout import Checkout, OpenStaxError
from spectra_sum.openstax.cnxml.xml_reading import MDML

LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md")
_CODES = {"noncommercial": "nc", "sharealike": "sa", "noderivatives": "nd", "noderivs": "nd"}
_NAME = re.compile(
    r"(?P<prefix>Creative Commons\s+)?\bAttribution(?P<terms>(?:[\s-]+(?:" + "|".join(_CODES) + r"))*)\b"
    r"(?:\s+Licen[sc]e)?(?:\s+v?(?P<version>\d\.\d))?",
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"creativecommons\.org/licenses/(?P<terms>[a-z]+(?:-[a-z]+)*)/(?P<version>\d\.\d)", re.IGNORECASE
)


def named_licences(text: str) -> set[tuple[str, str]]:
    """
    The Creative Commons licences that a text names, by name or address.

    Returns:
        `set[tuple[str, str]]`: Terms and version, such as `("by-nc-sa", "4.0")`; the version is `""` where none stands.
    """
    found = set()
    for match in _NAME.finditer(text):
        # Without either, it is only the word.
        if match["prefix"] or match["version"]:
            terms = [_CODES[term.lower()] for term in re.split(r"[\s-]+", match["terms"]) if term]
            found.add(("-".join(["by", *terms]), match["version"] or ""))
    found |= {(match["terms"].lower(), match["version"]) for match in _ADDRESS.finditer(text)}
    return found


def check_licence(checkout: Checkout, collections: Iterable[tuple[Path, Element]]) -> str:
    """
    Holds a checkout to CC BY: its LICENSE file and all of its collections must say so, in one version.

    Args:
        checkout (`Checkout`): The checkout.
        collections (`Iterable[tuple[Path, Element]]`): Its collections: file and root element.

    Returns:
        `str`: The licence, such as `"CC BY 4.0"`.

    Raises:
        OpenStaxError: A file names no licence or another one, or two of them disagree.
    """
    name = next((name for name in LICENCE_FILES if (checkout.folder / name).is_file()), LICENCE_FILES[0])
    file = checkout.file(name)
    texts = [(file, file.read_text(encoding="utf-8", errors="replace"))]
    texts += [(path, _declared(root)) for path, root in collections]
    version, origin = "", file
    for path, text in texts:
        found = named_licences(text)
        others = sorted(pair for pair in found if pair[0] != "by")
        if others:
            raise OpenStaxError(
                f"{checkout.shown(path)}: it names {_shown(*others[0])}; only books under CC BY are read: check out a commit "
                "at which the book was CC BY."
            )
        if not found:
            raise OpenStaxError(f"{checkout.shown(path)}: it names no licence; only books under CC BY are read.")
        for other in sorted({other for _, other in found if other}):
            if version and other != version:
                raise OpenStaxError(
                    f"{checkout.shown(path)}: it names CC BY {other}, but {checkout.shown(origin)} CC BY {version}; they "
                    "must agree."
                )
            version, origin = other, path
    return _shown("by", version)


def is_foreign(root: Element) -> bool:
    """Whether a module's own metadata put it under another licence than CC BY."""
    return any(terms != "by" for terms, _ in named_licences(_declared(root)))


def _declared(root: Element) -> str:
    return "\n".join(
        f"{element.get('url', '')}\n{''.join(element.itertext())}" for element in root.iter(f"{{{MDML}}}license")
    )


def _shown(terms: str, version: str) -> str:
    return f"CC {terms.upper()} {version}".rstrip()
