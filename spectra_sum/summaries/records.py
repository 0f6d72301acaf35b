"""Summaries as JSON lines, from which an interrupted run goes on."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import UnionType

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from ..documents.parts import Document, DocumentError, Problem, printable
from ..models.sources import find_adapter_base
from ..report.contents import SentenceEvidence
from .document_summary import DocumentSummary
from .summary_sentences import EXTRACTED, WRITTEN, SummarySentence

ADAPTER_CONFIG = "adapter_config.json"
_TEXTS = ("summary", "path_hash", "document_hash", "settings_hash")
_IMAGE_FIELDS = {"name", "alt", "caption", "score", "selected", "sentence"}
# What the records of this version have, and those of earlier ones had not.
_NEW_FIELDS = ("sentences", "remarks", "model", "options")


class RecordsError(ValueError):
    """A file of JSON lines that a run cannot go on from. The message names it and the fix."""


def settings_hash(model: str | Path, options: Mapping[str, object]) -> str:
    """
    What must be equal for a run to go on: the options, and the model.

    Args:
        model (`str` or `Path`):
            A folder or file, which counts by the names, sizes and times of its files, or a Hub id, which counts by the
            commit in the local cache and so is to be loaded first. An adapter counts with its base.
        options (`Mapping[str, object]`):
            Whatever else changes a summary.

    Raises:
        RecordsError: The model is not in the cache.
    """
    return _hashed(json.dumps([_identity(str(model)), dict(options)], sort_keys=True).encode())


def is_on_hub(model: str) -> bool:
    """Whether the model, or the base of the adapter that it is, comes from the Hub: loading tells its commit."""
    path = Path(model)
    return not path.exists() or ((path / ADAPTER_CONFIG).is_file() and find_adapter_base(path) is None)


def _identity(model: str, revision: str | None = None) -> list[object]:
    path = Path(model)
    if not path.exists():
        return _hub_identity(model, revision)
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    identity: list[object] = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    adapter = path / ADAPTER_CONFIG
    if adapter.is_file():
        base = find_adapter_base(path)
        identity.append(_identity(str(base)) if base else _base_identity(adapter))
    return identity


def _hub_identity(model: str, revision: str | None) -> list[object]:
    for name in ("config.json", ADAPTER_CONFIG):
        try:
            file = try_to_load_from_cache(model, name, revision=revision)
        except HFValidationError:
            break
        if isinstance(file, str):
            base = _base_identity(Path(file)) if name == ADAPTER_CONFIG else []
            return [model, Path(file).parent.name, base]
    raise RecordsError(f"{model}: it is not in the local cache, so its version is unknown; pass the model's folder.")


def _base_identity(adapter: Path) -> list[object]:
    settings = json.loads(adapter.read_text("utf-8"))
    return _identity(settings["base_model_name_or_path"], settings.get("revision"))


def document_hash(document: Document) -> str:
    """What a summary was made of: title, body, and the images' pixels."""
    parts = [document.title.encode(), document.body.encode()]
    for image in document.images:
        parts += [str(image.image.size).encode(), image.image.tobytes()]
    return _hashed(*parts)


def path_hash(path: Path) -> str:
    """Which file a summary is of, whatever path names it."""
    return _hashed(os.fsencode(os.path.realpath(path)))


def _hashed(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def record_of(
    path: Path,
    document: Document,
    summary: DocumentSummary,
    settings: str,
    *,
    model: Mapping[str, str | None],
    options: Mapping[str, object],
) -> dict[str, object]:
    """
    The JSON line of a summary.

    Args:
        path (`Path`):
            The document's file.
        document (`Document`):
            What was summarized.
        summary (`DocumentSummary`):
            Its summary.
        settings (`str`):
            The [`settings_hash`] of the run.
        model (`Mapping[str, str | None]`):
            Name, kind and revision of the model.
        options (`Mapping[str, object]`):
            What it was asked for.
    """
    images = [
        {
            "name": image.name,
            "alt": image.alt,
            "caption": image.caption,
            "score": summary.scores[index],
            "selected": index in summary.selected,
            "sentence": summary.image_sentences[index],
        }
        for index, image in enumerate(document.images)
    ]
    return {
        "id": document.id,
        "title": document.title,
        "source": document.source,
        "summary": summary.summary,
        "selected": summary.selected,
        "probabilities": summary.probabilities,
        "images": images,
        "sentences": [asdict(sentence) for sentence in summary.sentences],
        "evidence": [asdict(entry) for entry in summary.evidence],
        "document_problems": [asdict(problem) for problem in document.problems],
        "summary_problems": [asdict(problem) for problem in summary.problems],
        "remarks": [str(problem) for problem in (*document.problems, *summary.problems)],
        "model": dict(model),
        "options": dict(options),
        "path_hash": path_hash(path),
        "document_hash": document_hash(document),
        "settings_hash": settings,
    }


def summary_of(record: Mapping[str, object], document: Document) -> DocumentSummary:
    """
    The summary in a JSON line.

    Raises:
        DocumentError: The document is not the one that was summarized.
    """
    if record["document_hash"] != document_hash(document):
        raise DocumentError(
            f"{document.source}: it has changed since it was summarized; run with --overwrite, or remove its line."
        )
    if {len(record["probabilities"]), len(record["images"])} != {len(document.images)}:
        raise DocumentError(f"{document.source}: its line has not one entry per image; remove the line.")
    return DocumentSummary(
        summary=record["summary"],
        selected=record["selected"],
        probabilities=record["probabilities"],
        evidence=[SentenceEvidence(**entry) for entry in record["evidence"]],
        problems=[Problem(**problem) for problem in record["summary_problems"]],
        sentences=[SummarySentence(**sentence) for sentence in record["sentences"]],
        scores=[image["score"] for image in record["images"]],
        image_sentences=[image["sentence"] for image in record["images"]],
    )


def read_records(path: Path, settings: str) -> dict[str, dict[str, object]]:
    """
    Reads the JSON lines of an interrupted run and cuts off a last line that was not finished.

    Args:
        path (`Path`):
            The file; it need not exist.
        settings (`str`):
            The [`settings_hash`] of the run that goes on.

    Returns:
        `dict[str, dict[str, object]]`: The records by their `path_hash`.

    Raises:
        RecordsError: A line is damaged, or was made by another model, with other options or by an earlier version.
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
        except ValueError:
            record = None
        if _is_earlier(record):
            raise RecordsError(
                f"{shown}: line {number} was written by an earlier version, whose lines have other fields; choose another "
                "file, or replace this one with --overwrite in place of --resume."
            )
        if not _is_record(record):
            raise RecordsError(
                f"{shown}: line {number} is no record of a summary; choose another file, or replace this one with "
                "--overwrite in place of --resume."
            )
        if record["settings_hash"] != settings:
            raise RecordsError(
                f"{shown}: line {number} was made by another model or with other options; run with those, or replace "
                "the file with --overwrite in place of --resume."
            )
        records[record["path_hash"]] = record
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return records


def _is_earlier(record: object) -> bool:
    """Whether the record is one from before images were objects."""
    return (
        isinstance(record, dict)
        and not any(name in record for name in _NEW_FIELDS)
        and all(isinstance(record.get(name), str) for name in _TEXTS)
        and _is_list(record.get("images"), str)
    )


def _is_record(record: object) -> bool:
    """Whether the record has all that a summary is made of, of the right kind."""
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(name), str) for name in _TEXTS)
        and _is_list(record.get("selected"), int)
        and _is_list(record.get("probabilities"), float | int | None)
        and _is_list(record.get("evidence"), dict)
        and _is_list(record.get("summary_problems"), dict)
        and _is_list(record.get("images"), dict)
        and _is_list(record.get("sentences"), dict)
        and all(
            set(entry) == _IMAGE_FIELDS
            and isinstance(entry["score"], float | int | None)
            and isinstance(entry["sentence"], int | None)
            for entry in record["images"]
        )
        and all(
            set(entry) == {"text", "origin", "images"}
            and isinstance(entry["text"], str)
            and entry["origin"] in (WRITTEN, EXTRACTED)
            and _is_list(entry["images"], int)
            for entry in record["sentences"]
        )
        and all(
            set(entry) == {"sentence", "image_weights"}
            and isinstance(entry["sentence"], str)
            and _is_list(entry["image_weights"], float | int | None)
            for entry in record["evidence"]
        )
        and all(
            set(entry) == {"kind", "detail"} and all(isinstance(value, str) for value in entry.values())
            for entry in record["summary_problems"]
        )
    )


def _is_list(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, list) and all(isinstance(entry, kind) for entry in value)
