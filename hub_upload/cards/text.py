"""Text of a card: nothing in it is markup by accident, and nothing names the machine that it comes from."""

import getpass
import re
import socket
from collections.abc import Collection

from spectra_sum.documents.parts import printable
from spectra_sum.tables.markdown import escape_markdown

_PATH = re.compile(r"(?:(?<![\w/:.~])(?:~|\.{1,2})?/|\b[A-Za-z]:[\\/])[^\s'\",;]+")
_TOKEN = re.compile(r"\bhf_\w+")
HIDDEN = "(withheld)"


def public_name(name: str, hub_ids: Collection[str] = ()) -> str:
    """
    A name for others' eyes, without the names of the user and the host: of a path its last part, since a relative path
    cannot be told from a Hub id by its looks.

    Args:
        name (`str`): Name of a model, data set or system, as the user gave it.
        hub_ids (`Collection[str]`, *optional*, defaults to `()`): Names that are known to be Hub ids; they stay whole.
    """
    if name in hub_ids:
        return name
    shown = public_text(re.split(r"[\\/]", printable(name).rstrip("\\/"))[-1])
    for private in (socket.gethostname(), _user()):
        if private:
            shown = re.sub(rf"(?<!\w){re.escape(private)}(?!\w)", HIDDEN, shown)
    return shown or HIDDEN


def public_text(text: object) -> str:
    """A text on one line without tokens, and with the last part only of absolute paths, unless it is the user's name."""
    shown = _TOKEN.sub(HIDDEN, printable(str(text)))
    return _PATH.sub(_last_part, shown)


def markdown(text: object) -> str:
    """[`public_text`] as Markdown without any markup."""
    return escape_markdown(public_text(text))


def markdown_table(columns: list[str], rows: list[list[str]], text_columns: int = 1) -> str:
    """A table of cells that are Markdown already; columns after the first `text_columns` are aligned to the right."""
    rule = ["---" if index < text_columns else "---:" for index in range(len(columns))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))


def _last_part(path: re.Match[str]) -> str:
    name = re.split(r"[\\/]", path[0].rstrip("\\/"))[-1]
    return HIDDEN if name == _user() else name


def _user() -> str:
    try:
        return getpass.getuser()
    except OSError:
        # A container's user may have no name.
        return ""
