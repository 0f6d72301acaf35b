"""`spectra-sum summarize`: multimodal summaries of the user's own documents."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..documents.folders import find_documents
from ..documents.parts import Document, DocumentError, printable
from ..documents.reading import read_document
from ..models.sources import check_model, find_smollm2
from ..report import ReportArticle, ReportImage, write_report
from ..summaries.records import RecordsError, is_on_hub, path_hash, read_records, record_of, settings_hash, summary_of
from .arguments import UsageError, add_quantize_argument, check_quantize_argument, positive, share

if TYPE_CHECKING:
    from ..summaries.summarizer import DocumentSummary, Summarizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the command, and adds its arguments to its parser."""
    parser.description = (
        "Summarizes Markdown (.md), HTML (.html) and text (.txt) documents and selects the images of the summary."
    )
    parser.add_argument(
        "documents", nargs="+", metavar="DOC", help="a .md, .html or .txt file, or a folder with all documents in it"
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", metavar="FOLDER_OR_ID", help="folder or Hub id of a trained SPeCTrA-Sum model")
    model.add_argument(
        "--text-model",
        choices=["smollm2"],
        help="a pretrained language model without trained images: SmolLM2-135M-Instruct (extra [smollm2])",
    )
    parser.add_argument("--images", nargs="+", default=[], metavar="IMG", help="images of a single .txt document")
    parser.add_argument("--output", type=Path, metavar="FILE.html", help="write an HTML report")
    parser.add_argument("--json", type=Path, metavar="FILE.jsonl", help="write one JSON line per document")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with an interrupted run: documents that the --json file holds are not summarized again",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the records that the --json file holds")
    parser.add_argument("--max-new-tokens", type=positive, default=128, help="most tokens of a summary (default: 128)")
    parser.add_argument("--num-beams", type=positive, default=1, help="beams of the search (default: 1, greedy)")
    parser.add_argument("--threshold", type=share, help="least probability of a selected image (default: none)")
    add_quantize_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the command. Everything that the user named is checked before the model is loaded; the documents are read one
    at a time.

    Returns:
        0 when all documents were summarized, 1 when some were not, 2 when none was.
    """
    if arguments.images and (len(arguments.documents) > 1 or Path(arguments.documents[0]).is_dir()):
        raise UsageError("--images belongs to one .txt document; summarize the others in runs of their own.")
    if arguments.resume and not arguments.json:
        raise UsageError("--resume goes on with the file that --json names; name it.")
    if arguments.overwrite and not arguments.json:
        raise UsageError("--overwrite replaces the file that --json names; name it.")
    if arguments.overwrite and arguments.resume:
        raise UsageError("--resume keeps the records of the --json file, --overwrite replaces them; choose one.")
    check_quantize_argument(arguments.quantize, arguments.model)
    found = find_documents(arguments.documents, arguments.images)
    inputs = [*found.ids, *map(Path, (*arguments.documents, *arguments.images))]
    for option, path in (("--output", arguments.output), ("--json", arguments.json)):
        if path is not None:
            _check_writable(option, path, inputs)
    if arguments.output and arguments.json and arguments.output.resolve() == arguments.json.resolve():
        raise UsageError("--output and --json name the same file; choose two.")
    if arguments.json and not (arguments.resume or arguments.overwrite):
        _check_no_records(arguments.json)

    model = arguments.model or find_smollm2()
    summarizer = None
    if arguments.model:
        check_model(arguments.model)
        if arguments.json and found.ids and is_on_hub(arguments.model):
            # Only a loaded model tells which commit of its repository it is.
            summarizer = _load_summarizer(arguments)
    records, settings = {}, ""
    if arguments.json and found.ids:
        options = {name: getattr(arguments, name) for name in ("max_new_tokens", "num_beams", "threshold")}
        if arguments.quantize is not None:
            options["quantize"] = arguments.quantize
        try:
            settings = settings_hash(model, options)
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
    articles = []
    untrained_ranking = arguments.text_model is not None
    done = 0
    lines = None
    with ExitStack() as stack:
        # The images wait for the report in files: those of thousands of documents do not fit into memory.
        folder = Path(stack.enter_context(TemporaryDirectory())) if arguments.output else None
        # disable=None: no bar where standard error is no terminal
        for path, unique_id in tqdm(found.ids.items(), desc="Summarizing", unit="document", disable=None):
            try:
                document = read_document(path, arguments.images)
                document.id = unique_id
                if (record := records.get(path_hash(path))) is not None:
                    summary = summary_of(record, document)
                else:
                    if summarizer is None:
                        summarizer = _load_summarizer(arguments)
                    if arguments.json and lines is None:
                        mode = "a" if arguments.resume else "w"
                        lines = stack.enter_context(arguments.json.open(mode, encoding="utf-8"))
                    summary = summarizer.summarize(document)
                    _say(_shown(document, summary))
                    if lines is not None:
                        record = record_of(path, document, summary, settings)
                        print(json.dumps(record, ensure_ascii=False), file=lines, flush=True)
            except DocumentError as error:
                failures.append(str(error))
                _say_failure(str(error))
                continue
            done += 1
            untrained_ranking |= any(problem.kind == "untrained_ranking" for problem in summary.problems)
            if folder is not None:
                articles.append(_report_article(document, summary, folder / str(done)))
        if arguments.output and articles:
            count = "1 document" if done == 1 else f"{done} documents"
            notes = [*found.notes, *(f"Not summarized: {failure}" for failure in failures)]
            if untrained_ranking:
                notes.append(
                    "This model's image ranking is untrained: the marks and probabilities of images mean nothing."
                )
            write_report(arguments.output, title=f"Multimodal summary of {count}", articles=articles, notes=notes)
            _say(f"Report: {printable(arguments.output)}")
    if not failures:
        return 0
    return 1 if done else 2


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


def _load_summarizer(arguments: argparse.Namespace) -> "Summarizer":
    # Torch and transformers take seconds to import, which --help and a wrong path need not cost.
    from transformers.utils import logging

    from ..models.loading import load_model, load_smollm2
    from ..summaries.options import SummaryOptions
    from ..summaries.summarizer import Summarizer

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    loaded = load_model(arguments.model, quantize=arguments.quantize) if arguments.model else load_smollm2()
    options = SummaryOptions(
        max_new_tokens=arguments.max_new_tokens, num_beams=arguments.num_beams, threshold=arguments.threshold
    )
    return Summarizer(loaded, options)


def _report_article(document: Document, summary: "DocumentSummary", folder: Path) -> ReportArticle:
    images = []
    for index, (image, probability) in enumerate(zip(document.images, summary.probabilities, strict=True)):
        folder.mkdir(exist_ok=True)
        path = folder / f"{index}.png"
        image.image.save(path, compress_level=1)
        images.append(
            ReportImage(
                path, image.alt, probability, index in summary.selected, name=image.name, caption=image.caption
            )
        )
    return ReportArticle(
        id=document.source,
        title=document.title,
        body=document.body,
        images=images,
        summary=summary.summary,
        reference=document.reference,
        evidence=summary.evidence,
        remarks=[str(problem) for problem in summary.problems],
        notes=[str(problem) for problem in document.problems],
    )


def _shown(document: Document, summary: "DocumentSummary") -> str:
    lines = [document.title, "=" * min(len(document.title), 80)]
    lines += [f"  {printable(line)}" for line in summary.summary.splitlines()] or ["  (the model generated nothing)"]
    if document.images:
        lines.append("Images (* selected, with probability):")
    for index, (image, probability) in enumerate(zip(document.images, summary.probabilities, strict=True)):
        mark = "*" if index in summary.selected else " "
        score = "not scored" if probability is None else f"{probability:.3f}"
        lines.append(f"  {mark} {score}  {image.name}" + (f" ({image.description})" if image.description else ""))
    problems = document.problems + summary.problems
    if problems:
        lines.append("Left out, and other remarks:")
        lines += [f"  - {problem}" for problem in problems]
    return "\n".join([*lines, ""])


def _say(text: str) -> None:
    # Where the terminal's encoding lacks a character, the rest of the summary still counts.
    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "replace").decode(encoding), file=sys.stdout)


def _say_failure(text: str) -> None:
    tqdm.write(f"spectra-sum: error: {text}", file=sys.stderr)
