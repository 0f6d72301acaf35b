"""A summary in the terminal while it is written."""

from types import TracebackType
from typing import TextIO

from ...documents.parts import Document, printable
from .watcher import Watcher


class LiveText(Watcher):
    """
    Writes a document's name and, as it comes, the raw text of its summary; a context that ends the line.

    Args:
        document (`Document`): The document.
        file (`TextIO`): Where to, such as standard error. A character that its encoding lacks becomes a question mark.
    """

    def __init__(self, document: Document, file: TextIO):
        self._document = document
        self._file = file

    def __enter__(self) -> "LiveText":
        self._write(f"{self._document.source}:\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._write("\n\n")

    def text(self, piece: str) -> None:
        """Writes it; control characters do not reach the terminal."""
        self._write("\n".join(map(printable, piece.split("\n"))))

    def _write(self, text: str) -> None:
        encoding = self._file.encoding or "utf-8"
        self._file.write(text.encode(encoding, "replace").decode(encoding))
        self._file.flush()
