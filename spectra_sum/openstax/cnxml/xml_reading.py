"""XML that nobody vouches for: without entities, without anything that is fetched, and not too deep."""

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

CNXML = "http://cnx.rice.edu/cnxml"
COLLXML = "http://cnx.rice.edu/collxml"
MDML = "http://cnx.rice.edu/mdml"
MATHML = "http://www.w3.org/1998/Math/MathML"
BOOK_CONTAINER = "https://openstax.org/namespaces/book-container"
# The longest module of the books read so far has half a megabyte, the deepest 30 levels.
MAX_BYTES = 20_000_000
MAX_DEPTH = 200


class XMLDamage(ValueError):
    """A file that is no XML which is read here. The message says what is wrong, without the file's name."""


def parse_xml(path: Path) -> Element:
    """
    The root element of a file; names are `{namespace}name`.

    Raises:
        XMLDamage: It is not well-formed, declares or uses an entity of its own, or is too large or too deep.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise XMLDamage(f"it has more than {MAX_BYTES:,} bytes")
    builder = TreeBuilder()
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise XMLDamage(f"its elements are nested more than {MAX_DEPTH} deep")
        builder.start(_braced(name), {_braced(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_braced(name))

    def declared(name: str, *_: object) -> None:
        raise XMLDamage(f"it declares the entity {name!r}; entities are not read")

    def skipped(name: str, *_: object) -> None:
        raise XMLDamage(f"it uses the entity {name!r}, which is not read")

    # Without a handler for external entities expat reads none.
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = declared
    parser.SkippedEntityHandler = skipped
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise XMLDamage(f"it is not well-formed ({error})") from None
    except (LookupError, ValueError) as error:
        if isinstance(error, XMLDamage):
            raise
        raise XMLDamage(f"its encoding cannot be read ({error})") from None
    return builder.close()


def local_name(element: Element) -> str:
    """The element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def classes(element: Element) -> list[str]:
    """The words of its `class`."""
    return element.get("class", "").split()


def _braced(name: str) -> str:
    return "{" + name if "}" in name else name
