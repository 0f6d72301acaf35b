"""Formulas (MathML) as one line of text: fractions with a slash, exponents as superscript digits where Unicode has them."""

from xml.etree.ElementTree import Element

from spectra_sum.openstax.cnxml.xml_reading import local_name

_SUPERSCRIPTS = dict(zip("0123456789+-−–()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁽⁾ⁿⁱ", strict=True))
# They have no width: an applied function, a product, a separator, a sum.
_INVISIBLE = dict.fromkeys(range(0x2061, 0x2065))
_SPACED = set("=<>≤≥≈≅≡≠∝→⟶←⟷⇌↔+−-±×·÷∼~")
_LEFT_OUT = {"annotation", "annotation-xml", "mphantom", "none", "mprescripts"}


def superscript(text: str) -> str | None:
    """The text in superscript characters, or `None` where Unicode lacks one of them."""
    characters = [_SUPERSCRIPTS.get(character) for character in text.strip()]
    return None if not characters or None in characters else "".join(characters)


def linear(element: Element) -> str:
    """A formula's text, with single spaces."""
    return " ".join(_text(element).split())


def _text(element: Element) -> str:
    name = local_name(element)
    if name in _LEFT_OUT:
        return ""
    if name in ("mi", "mn", "mtext", "ms"):
        return "".join(element.itertext())
    if name == "mo":
        operator = "".join(element.itertext()).strip().translate(_INVISIBLE)
        return f" {operator} " if operator in _SPACED else operator + (" " if operator in (",", ";") else "")
    if name == "mspace":
        return " "
    parts = [_text(child) for child in element]
    if name == "mfrac" and len(parts) == 2:
        return "/".join(_grouped(part) for part in parts)
    if name in ("msup", "mover") and len(parts) == 2:
        return parts[0] + (_power(parts[1]) if name == "msup" else "")
    if name == "munder" and parts:
        return parts[0]
    if name == "msubsup" and len(parts) == 3:
        return parts[0] + parts[1] + _power(parts[2])
    if name in ("munderover", "mmultiscripts") and parts:
        return parts[0]
    if name == "msqrt":
        return "√" + _grouped("".join(parts))
    if name == "mroot" and len(parts) == 2:
        return (superscript(parts[1]) or f"{parts[1]}-") + "√" + _grouped(parts[0])
    if name == "mfenced":
        return element.get("open", "(") + ", ".join(parts) + element.get("close", ")")
    if name == "mtr":
        return ", ".join(parts) + "; "
    return "".join(parts).removesuffix("; " if name == "mtable" else "")


def _power(text: str) -> str:
    text = "".join(text.split())
    return superscript(text) or f"^{_grouped(text)}"


def _grouped(text: str) -> str:
    text = text.strip()
    return text if len(text.split()) < 2 and "/" not in text else f"({text})"
