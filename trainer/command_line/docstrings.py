"""The arguments that a docstring describes: what `--help` says of them is written once."""

import inspect
import re
from typing import NamedTuple

# ``name, other (`int`, *optional*, defaults to `8`): What it is.``
ENTRY = re.compile(r"(?P<names>\w+(?:, \w+)*) ?\((?P<kind>.*?)\):(?: (?P<text>.*))?")
DEFAULT = re.compile(r"defaults to (.*)")
SECTIONS = ("Args:", "Parameters:")


class ArgumentHelp(NamedTuple):
    """What a docstring says of an argument: its sentences without markup, and its default, if it names one."""

    text: str
    default: str | None


def argument_help(docstring: str) -> dict[str, ArgumentHelp]:
    """
    Reads the arguments' paragraphs of a docstring in the style of transformers.

    Args:
        docstring (`str`): With a section `Args:` or `Parameters:`, which ends at the next line that is not indented.

    Returns:
        `dict[str, ArgumentHelp]`: By name; arguments that share a paragraph have the same text.
    """
    entries: dict[str, ArgumentHelp] = {}
    lines = iter(inspect.cleandoc(docstring).splitlines())
    names: list[str] = []
    default = None
    text: list[str] = []
    for line in lines:
        if line in SECTIONS:
            break
    for line in lines:
        if line and not line.startswith(" "):
            break
        entry = ENTRY.fullmatch(line[4:]) if line[:4].isspace() and line[4:5].strip() else None
        if entry:
            entries |= dict.fromkeys(names, ArgumentHelp(_plain(text), default))
            found = DEFAULT.search(entry["kind"])
            names, default = entry["names"].split(", "), found and _plain([found[1]]).strip('"')
            text = [entry["text"] or ""]
        else:
            text.append(line)
    return entries | dict.fromkeys(names, ArgumentHelp(_plain(text), default))


def _plain(lines: list[str]) -> str:
    """One line without the marks of code and of references."""
    return re.sub(r"\[`+|`+\]|`+", "", " ".join(" ".join(lines).split()))
