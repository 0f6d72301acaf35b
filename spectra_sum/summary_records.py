"""Summaries as JSON lines, from which an interrupted run goes on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from .document_parts import Document, DocumentError, Problem, printable
from .report.contents import SentenceEvidence

if TYPE_CHECKING:
    from .summarizer import DocumentSummary


class RecordsError(ValueError):
    """A file of JSON lines that a run cannot go on from. The message names it and the fix."""


def settings_hash(model: str, options: Mapping[str, object]) -> str:
    """
    What must be equal for a run to go on: the options, and the model.

    Args:
        model (`str`):
            A Hub id, a name or a folder; a folder counts by the names, sizes and times of its files.
        options (`Mapping[str, object]`):
            Whatever else changes a summary.
    """
    folder = Path(model)
    files = []
    if folder.is_dir():
        files = sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir())
    return _hashed(json.dumps([model if not files else "", files, dict(options)], sort_keys=True).encode())


def document_hash(document: Document) -> str:
    """What a summary was made of: title, body, and the images' pixels."""
    parts = [document.title.encode(), document.body.encode()]
    for image in document.images:
        parts += [str(image.image.size).encode(), image.image.tobytes()]
    return _hashed(*parts)


def _hashed(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def record_of(document: Document, summary: "DocumentSummary", settings: str) -> dict[str, object]:
    """
    The JSON line of a summary.

    Args:
        document (`Document`):
            What was summarized.
        summary (`DocumentSummary`):
            Its summary.
        settings (`str`):
            The [`settings_hash`] of the run.
    """
    return {
        "id": document.id,
        "title": document.title,
        "source": document.source,
        "summary": summary.summary,
        "selected": summary.selected,
        "probabilities": summary.probabilities,
        "images": [image.name for image in document.images],
        "evidence": [asdict(entry) for entry in summary.evidence],
        "problems": [asdict(problem) for problem in document.problems + summary.problems],
        "document_hash": document_hash(document),
        "settings_hash": settings,
    }


def summary_of(record: Mapping[str, object], document: Document) -> "DocumentSummary":
    """
    The summary in a JSON line.

    Raises:
        DocumentError: The document is not the one that was summarized.
    """
    from .summarizer import DocumentSummary

    if record["document_hash"] != document_hash(document):
        raise DocumentError(
            f"{document.source}: it has changed since it was summarized; run without --resume, or remove its line."
        )
    problems = [Problem(**problem) for problem in record["problems"]]
    values = {field.name: record.get(field.name) for field in fields(DocumentSummary)}
    values["evidence"] = [SentenceEvidence(**entry) for entry in record["evidence"]]
    values["problems"] = problems[len(document.problems) :]
    return DocumentSummary(**values)


def read_records(path: Path, settings: str) -> dict[str, dict[str, object]]:
    """
    Reads the JSON lines of an interrupted run and cuts off a last line that was not finished.

    Args:
        path (`Path`):
            The file; it need not exist.
        settings (`str`):
            The [`settings_hash`] of the run that goes on.

    Returns:
        `dict[str, dict[str, object]]`: The records by their `source`.

    Raises:
        RecordsError: A line is damaged, or was made by another model or with other options.
    """
    if not path.exists():
        return {}
    shown = printable(path)
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    records = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            record = json.loads(line)
            made_by, source = record["settings_hash"], record["source"]
        except (ValueError, KeyError, TypeError):
            raise RecordsError(
                f"{shown}: line {number} is no record of a summary; run without --resume or choose another file."
            ) from None
        if made_by != settings:
            raise RecordsError(
                f"{shown}: line {number} was made by another model or with other options; run with those, or without "
                "--resume."
            )
        records[source] = record
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return records
