"""`spectra-sum summarize`: multimodal summaries of the user's own documents."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..documents.folders import find_documents
from ..documents.parts import Document, DocumentError, printable
from ..documents.reading import read_document
from ..models.kinds import DEFAULT, SMOLLM2, check_any
from ..models.sources import (
    DEFAULT_DUAL_ENCODER,
    DEFAULT_TEXT_ENCODER,
    check_text_encoder,
    default_vision_is_there,
    find_minilm,
    find_smollm2,
)
from ..report import write_report
from ..summaries.options import OptionsError, SummaryOptions
from ..summaries.records import RecordsError, is_on_hub, path_hash, read_records, record_of, settings_hash, summary_of
from .arguments import (
    UsageError,
    add_model_arguments,
    add_quantize_argument,
    add_summary_arguments,
    check_quantize_argument,
    named_model,
    options_error,
    positive,
    summary_options,
)

if TYPE_CHECKING:
    from ..summaries.batches import Entry
    from ..summaries.document_summary import DocumentSummary
    from ..summaries.summarizer import Summarizer

# Writing did not pay with the small model at hand: docs/results.md.
_EXTRACTS = (
    "no --model is named: summaries are sentences of their documents. --mode write lets the small default model write, "
    "--model takes another."
)
# Tells one default model from another.
_DEFAULT_SETTINGS = Path(__file__).parents[1] / "default_model" / "settings.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the command, and adds its arguments to its parser."""
    parser.description = (
        "Summarizes Markdown (.md), HTML (.html) and text (.txt) documents and selects the images of the summary."
    )
    parser.add_argument(
        "documents", nargs="+", metavar="DOC", help="a .md, .html or .txt file, or a folder with all documents in it"
    )
    model = parser.add_mutually_exclusive_group()
    add_model_arguments(model)
    parser.add_argument("--images", nargs="+", default=[], metavar="IMG", help="images of a single .txt document")
    parser.add_argument("--output", type=Path, metavar="FILE.html", help="write an HTML report")
    parser.add_argument("--json", type=Path, metavar="FILE.jsonl", help="write one JSON line per document")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an interrupted run: documents that the --json file holds are not summarized again",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the records that the --json file holds")
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=1,
        help="documents that are written at once, those of a like length together (default: 1)",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="write the text on standard error while the model writes it, terminal or not: raw, as some of its sentences may "
        "give way to the document's own; the finished summary follows on standard output, as without it",
    )
    add_summary_arguments(parser)
    add_quantize_argument(parser)
    parser.set_defaults(run=run, mode=None)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the command. Everything that the user named is checked before the model is loaded; the documents are read as they
    are needed.

    Returns:
        0 when all documents were summarized, 1 when some were not, 2 when none was.
    """
    chosen = arguments.mode
    if chosen is None:
        arguments.mode = "write" if arguments.model or arguments.text_model else "extractive"
    options = summary_options(arguments)
    _check_contradictions(arguments, options)
    found = find_documents(arguments.documents, arguments.images)
    inputs = [*found.ids, *map(Path, (*arguments.documents, *arguments.images))]
    for option, path in (("--output", arguments.output), ("--json", arguments.json)):
        if path is not None:
            _check_writable(option, path, inputs)
    if arguments.output and arguments.json and arguments.output.resolve() == arguments.json.resolve():
        raise UsageError("--output and --json name the same file; choose two.")
    if arguments.json and not (arguments.resume or arguments.overwrite):
        _check_no_records(arguments.json)

    model = _checked_model(arguments, options)
    if chosen is None and options.mode == "extractive" and found.ids:
        print(f"spectra-sum: note: {_EXTRACTS}", file=sys.stderr)
    summarizer = _SummarizerOnDemand(arguments, options)
    records, settings = {}, ""
    if arguments.json and found.ids:
        if is_on_hub(model):
            # Only a loaded model tells which commit of its repository it is.
            summarizer.load()
        try:
            settings = settings_hash(model, {**options.to_dict(), **_encoders(arguments, options.select)})
            if arguments.resume:
                records = read_records(arguments.json, settings)
        except RecordsError as error:
            raise UsageError(str(error)) from None
    named = {path_hash(path) for path in found.ids}
    if records.keys() & named:
        print(
            f"spectra-sum: note: {len(records.keys() & named)} of {len(named)} documents are in "
            f"{printable(arguments.json)} already",
            file=sys.stderr,
        )
    unnamed = len(records.keys() - named)
    if unnamed:
        found.notes.append(f"{printable(arguments.json)}: {unnamed} of its records are of documents not named now")
    for note in found.notes:
        print(f"spectra-sum: note: {note}", file=sys.stderr)
    for failure in found.failures:
        _say_failure(failure)

    failures = list(found.failures)
    notices = {record["model"].get("notice") for record in records.values()}
    articles = []
    done = 0
    lines = None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory())) if arguments.output else None
        from ..summaries.batches import summarize_in_batches
        from ..summaries.views import report_article, terminal_text

        # disable=None: no bar where standard error is no terminal; the text stands in its place
        hidden = arguments.stream or None
        bar = stack.enter_context(tqdm(total=len(found.ids), desc="Summarizing", unit="document", disable=hidden))
        entries = _entries(found.ids, arguments.images, records)
        for entry in summarize_in_batches(entries, summarizer, arguments.batch_size):
            bar.update()
            document, summary = entry.document, entry.result
            if isinstance(summary, DocumentError):
                failures.append(str(summary))
                _say_failure(str(summary))
                continue
            if not entry.known:
                _say(terminal_text(document, summary))
                if arguments.json:
                    mode = "a" if arguments.resume else "w"
                    lines = lines or stack.enter_context(arguments.json.open(mode, encoding="utf-8"))
                    made_by = {"model": summarizer.model_record(), "options": summarizer.options_record()}
                    record = record_of(entry.path, document, summary, settings, **made_by)
                    print(json.dumps(record, ensure_ascii=False), file=lines, flush=True)
            done += 1
            if folder is not None:
                articles.append(report_article(document, summary, folder / str(done)))
        if arguments.output and articles:
            count = "1 document" if done == 1 else f"{done} documents"
            notices |= {summarizer.notice}
            notes = [*sorted(filter(None, notices)), *found.notes]
            notes += [f"Not summarized: {failure}" for failure in failures]
            write_report(arguments.output, title=f"Multimodal summary of {count}", articles=articles, notes=notes)
            _say(f"Report: {printable(arguments.output)}")
    if not failures:
        return 0
    return 1 if done else 2


class _SummarizerOnDemand:
    """Loads its model when a document needs it: of a run that goes on, all may be done already."""

    def __init__(self, arguments: argparse.Namespace, options: SummaryOptions):
        self._arguments = arguments
        self._options = options
        self._summarizer: Summarizer | None = None

    def load(self) -> "Summarizer":
        if self._summarizer is None:
            self._summarizer = _load_summarizer(self._arguments, self._options)
            if self.notice:
                print(f"spectra-sum: note: {self.notice}", file=sys.stderr)
        return self._summarizer

    @property
    def notice(self) -> str:
        """What the model says of itself; nothing before it is loaded."""
        loaded = self._summarizer.loaded if self._summarizer else None
        return loaded.notice if loaded else ""

    def summarize_batch(self, documents: list[Document]) -> "list[DocumentSummary | DocumentError]":
        summarizer = self.load()
        if summarizer.options.select != "vrp" and any(
            image.description for document in documents for image in document.images
        ):
            # Before the summaries are written, which takes long.
            check_text_encoder(self._arguments.text_encoder)
        if not self._arguments.stream:
            return summarizer.summarize_batch(documents)
        from ..summaries.watching.live_text import LiveText

        [document] = documents
        with LiveText(document, sys.stderr) as live:
            return summarizer.summarize_batch(documents, [live])

    def model_record(self) -> dict[str, str | None]:
        """The `model` of a JSON line; extracts are made by the sentence encoder."""
        summarizer = self.load()
        if summarizer.loaded is None:
            encoder = summarizer.text_encoder
            return {"name": encoder.name, "kind": "extractive", "revision": encoder.revision, "notice": ""}
        loaded = summarizer.loaded
        return {
            "name": named_model(self._arguments),
            "kind": loaded.kind,
            "revision": loaded.revision,
            "notice": loaded.notice,
        }

    def options_record(self) -> dict[str, object]:
        """The `options` of a JSON line, with the model's defaults filled in."""
        options = self.load().options
        return {**options.to_dict(), **_encoders(self._arguments, options.select)}


def _entries(ids: Mapping[Path, str], images: Sequence[str], records: Mapping[str, dict]) -> "Iterator[Entry]":
    """The documents, those that were summarized already with their summaries."""
    from ..summaries.batches import Entry

    for path, unique_id in ids.items():
        document = None
        try:
            document = read_document(path, images)
            document.id = unique_id
            record = records.get(path_hash(path))
            yield Entry(path, document, record and summary_of(record, document), known=record is not None)
        except DocumentError as error:
            yield Entry(path, document, error)


def _check_contradictions(arguments: argparse.Namespace, options: SummaryOptions) -> None:
    if arguments.images and (len(arguments.documents) > 1 or Path(arguments.documents[0]).is_dir()):
        raise UsageError("--images belongs to one .txt document; summarize the others in runs of their own.")
    if arguments.resume and not arguments.json:
        raise UsageError("--resume goes on with the file that --json names; name it.")
    if arguments.overwrite and not arguments.json:
        raise UsageError("--overwrite replaces the file that --json names; name it.")
    if arguments.overwrite and arguments.resume:
        raise UsageError("--resume keeps the records of the --json file, --overwrite replaces them; choose one.")
    if options.mode == "extractive":
        for option, value in (
            ("--model", arguments.model),
            ("--text-model", arguments.text_model),
            ("--quantize", arguments.quantize),
        ):
            if value is not None:
                raise UsageError(f"{option} is for summaries that are written; pass --mode write, or leave it out.")
    if arguments.stream and options.mode == "extractive":
        raise UsageError("--stream shows how a model writes; name a --model, pass --mode write, or leave it out.")
    for option, value in (("--batch-size", arguments.batch_size), ("--num-beams", options.num_beams)):
        if arguments.stream and value not in (None, 1):
            raise UsageError(f"--stream shows one text after another; leave {option} ({value}) at 1, or --stream out.")
    if options.select == "vrp" and arguments.vision:
        raise UsageError(
            "--vision ranks images by the finished summary, --select vrp by the model; leave one of them out."
        )


def _checked_model(arguments: argparse.Namespace, options: SummaryOptions) -> str:
    """Where what writes the summaries lies, a model or the encoder of extracts: a folder, a file or a Hub id. All that can be
    checked without loading is checked."""
    if options.mode == "extractive" or arguments.text_encoder != DEFAULT_TEXT_ENCODER:
        check_text_encoder(arguments.text_encoder)
    if arguments.vision:
        from ..models.dual_encoder import check_dual_encoder

        check_dual_encoder(arguments.vision)
    if options.mode == "extractive":
        packaged = arguments.text_encoder == DEFAULT_TEXT_ENCODER
        return str(find_minilm()) if packaged else arguments.text_encoder
    name = named_model(arguments)
    check_quantize_argument(arguments.quantize, arguments.model)
    check_any(name)
    if name == DEFAULT:
        return str(_DEFAULT_SETTINGS)
    return str(find_smollm2()) if name == SMOLLM2 else name


def _encoders(arguments: argparse.Namespace, select: str | None) -> dict[str, str]:
    names = {"text_encoder": arguments.text_encoder, "vision": arguments.vision, "quantize": arguments.quantize}
    if arguments.vision is None and select != "vrp" and default_vision_is_there():
        names["vision_without_texts"] = DEFAULT_DUAL_ENCODER
    return {name: value for name, value in names.items() if value is not None}


def _check_writable(option: str, path: Path, inputs: Sequence[Path]) -> None:
    shown = printable(path)
    if path.is_dir():
        raise UsageError(f"{option} {shown}: this is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {shown}: there is no folder {printable(path.parent)}; make it first.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{option} {shown}: the file cannot be written; check the permissions.")
    if any(path.exists() and source.exists() and path.samefile(source) for source in inputs):
        raise UsageError(f"{option} {shown}: this is one of the inputs; choose another file.")


def _check_no_records(path: Path) -> None:
    if path.exists() and path.stat().st_size:
        raise UsageError(
            f"--json {printable(path)}: the file is not empty; pass --resume to go on with its records, --overwrite to "
            "replace them, or choose another file."
        )


def _load_summarizer(arguments: argparse.Namespace, options: SummaryOptions) -> "Summarizer":
    # Torch and transformers take seconds to import, which --help and a wrong path need not cost.
    from transformers.utils import logging

    from ..models.loading import load_any
    from ..summaries.on_demand.encoder import EncoderOnDemand
    from ..summaries.on_demand.vision import choose_vision
    from ..summaries.summarizer import Summarizer

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    loaded = load_any(named_model(arguments), quantize=arguments.quantize) if options.mode == "write" else None
    vision = choose_vision(arguments.vision)
    try:
        return Summarizer(
            loaded, options, EncoderOnDemand(arguments.text_encoder), vision=vision.encoder, pixels=vision.pixels
        )
    except OptionsError as error:
        raise options_error(error) from None


def _say(text: str) -> None:
    # Where the terminal's encoding lacks a character, the rest of the summary still counts.
    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "replace").decode(encoding), file=sys.stdout)


def _say_failure(text: str) -> None:
    tqdm.write(f"spectra-sum: error: {text}", file=sys.stderr)
