"""Writing a file so that a reader sees the old one or the whole new one."""

import os
from pathlib import Path


def write_text_atomically(path: str | Path, text: str) -> None:
    """Writes UTF-8 text beside `path` and renames it into place; on failure nothing is left behind."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
