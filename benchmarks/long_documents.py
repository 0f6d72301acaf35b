"""
The ways in which a model reads a document that is longer than what it takes, on test sections of msmo_openstax:

    python benchmarks/long_documents.py --data FOLDER --output runs/long --result benchmarks/results/long_documents.json

`cut` reads the beginning, `select` the sentences that carry the document, `sections` summaries of its parts, which the model
writes first. ROUGE stands with 95 % bootstrap intervals, differences are paired by section. Finished batches stay in the
output folder: interrupt it, and the same command goes on.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.default_model import (
    PACKAGES,
    ROUGE,
    KeptEmbeddings,
    documents_of,
    render_systems,
    sections,
    summarize,
    system_results,
    written,
)
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.evaluation.bootstrap import paired_difference
from spectra_sum.models.loading import load_any
from spectra_sum.models.text_encoder import load_text_encoder
from spectra_sum.summaries.options import LONG_DOCUMENTS, SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All ways, and how each compares with `select`."""
    records = sections(options, "test")
    documents = documents_of(records)
    encoder = KeptEmbeddings(load_text_encoder())
    loaded = load_any(options.model)
    results, values = {}, {}
    for way in LONG_DOCUMENTS:
        summarizer = Summarizer(loaded, SummaryOptions(length=options.length, long=way), encoder)
        file = options.output / f"{way}.jsonl"
        entries = summarize(documents, written(summarizer), file, options.batch_size, encoder)[: len(documents)]
        results[way], values[way] = system_results(entries, records, encoder)
    differences = {
        f"{way} - select": {
            name: asdict(paired_difference(values[way][name], values["select"][name])) for name in ROUGE
        }
        for way in LONG_DOCUMENTS
        if way != "select"
    }
    return {"sections": len(records), "systems": results, "differences": differences}


def render(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    hardware = result["hardware"]
    shown = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n\n".join(
        [
            *render_systems(result["first"], "The first"),
            f"Model: {result['model']}, length {result['length']}; batches of {result['batch_size']}; "
            f"{hardware['processor']}, {hardware['cores']} cores; {shown}; commit {result['commit']}",
        ]
    )


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="long_documents.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", required=True, help="the folder msmo_openstax")
    parser.add_argument("--output", type=Path, required=True, help="folder of finished summaries")
    parser.add_argument("--result", type=Path, help="write the result as JSON")
    parser.add_argument("--model", default="smollm2", help="any model of spectra-sum summarize (default: smollm2)")
    parser.add_argument("--length", choices=("short", "medium", "long"), default="medium", help="default: medium")
    parser.add_argument("--batch-size", type=int, default=1, help="documents at once (default: 1)")
    parser.add_argument("--limit", type=int, help="only the first sections (default: all)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print the table, and write the result."""
    options = parse_options(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    result = {
        "first": run(options),
        "model": options.model,
        "length": options.length,
        "batch_size": options.batch_size,
        "data": {"name": "msmo_openstax", "split": "test"},
        "hardware": describe_hardware(),
        "versions": describe_versions(PACKAGES),
        "commit": describe_commit(),
    }
    print(render(result))
    if options.result:
        write_text_atomically(options.result, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
