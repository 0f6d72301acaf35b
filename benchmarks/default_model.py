"""
The default model on the test sections of msmo_openstax, beside what it must beat:

    python benchmarks/default_model.py --data FOLDER --output runs/default_model --result benchmarks/results/default_model.json

Systems: `extraction` (the centroid's sentences, 150 words), `untrained` (SmolLM2 writes from the extract), `trained` (the
default's model, as it writes), `default` (its sentences without support replaced by the extract's), and `lead` (the
section's first words, as many as the default's summary has). All models read the same extract, greedily, with the same
penalties on repetition. ROUGE stands with 95 % bootstrap intervals, differences are paired by article, and seconds are those
of summarizing. Finished batches stay in the output folder: interrupt it, and the same command goes on.

With `--captions none` the default's model reads no captions: the ablation. With `--tune` the least support of a written
sentence is chosen, on validation sections: the one of the greatest ROUGE-1.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import datasets
from PIL import Image
from spectra_sum.evaluation.text_statistics import novelty, repeats_four_gram
from tqdm.auto import tqdm

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.documents.parts import Document, DocumentError, DocumentImage
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.evaluation.bootstrap import mean_interval, paired_difference
from spectra_sum.evaluation.scores import score_articles
from spectra_sum.extraction.extract import extract
from spectra_sum.extraction.support import replace_unsupported, support
from spectra_sum.models.loading import load_any
from spectra_sum.models.text_encoder import load_text_encoder
from spectra_sum.msmo.sources import load_split
from spectra_sum.sentences import split_sentences
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer

LEAD, EXTRACTION, UNTRAINED, TRAINED, DEFAULT = "lead", "extraction", "untrained", "trained", "default"
ORDER = (LEAD, EXTRACTION, UNTRAINED, TRAINED, DEFAULT)
EXTRACTION_WORDS = 150
OPTIONS = SummaryOptions(length="long")
ROUGE = ("rouge1", "rouge2", "rougeL")
THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
PACKAGES = ("torch", "transformers", "peft")


def word_count(text: str) -> int:
    """Words between white space."""
    return len(text.split())


def documents_of(records: datasets.Dataset) -> list[Document]:
    """The sections as documents, with the texts of their images; no system here sees pixels, and a blank stands for them."""
    blank = Image.new("RGB", (1, 1))
    return [
        Document(
            id=row["id"],
            source=row["id"],
            title=row["title"],
            body=row["article"],
            images=[
                DocumentImage(f"image {place}", alt, blank, caption)
                for place, (caption, alt) in enumerate(zip(row["captions"], row["alt_texts"], strict=True), start=1)
            ],
        )
        for row in records.remove_columns("images")
    ]


def writer(name: str, captions: str) -> Summarizer:
    """A system that writes."""
    loaded = load_any("smollm2" if name == UNTRAINED else "default")
    loaded.processor.captions = captions
    if name == TRAINED:
        loaded = loaded._replace(support_threshold=None)
    if name == UNTRAINED:
        # The same extract for all.
        loaded = loaded._replace(extract_words=load_any("default").extract_words)
    return Summarizer(loaded, OPTIONS, load_text_encoder())


def summarize(
    documents: Sequence[Document], run: Callable[[Sequence[Document]], list[dict[str, Any]]], file: Path, batch: int
) -> list[dict[str, Any]]:
    """Summaries of all documents, each as `id`, `summary`, `extracted` (its share of sentences) and `seconds`.

    Args:
        documents: What is summarized, in this order.
        run: Makes the entries of a batch, without `seconds`.
        file (`Path`): JSON lines, of which finished ones are not made again.
        batch (`int`): Documents at once.
    """
    done = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    with file.open("a", encoding="utf-8") as lines:
        starts = range(len(done), len(documents), batch)
        for start in tqdm(starts, desc=file.stem, unit="batch", disable=None):
            begun = time.perf_counter()
            entries = run(documents[start : start + batch])
            seconds = (time.perf_counter() - begun) / len(entries)
            for entry in entries:
                done.append({**entry, "seconds": seconds})
                print(json.dumps(done[-1], ensure_ascii=False), file=lines, flush=True)
    return done


def written(summarizer: Summarizer) -> Callable[[Sequence[Document]], list[dict[str, Any]]]:
    """Entries of a [`Summarizer`]."""

    def run(documents: Sequence[Document]) -> list[dict[str, Any]]:
        entries = []
        for document, result in zip(documents, summarizer.summarize_batch(documents), strict=True):
            if isinstance(result, DocumentError):
                raise result
            extracted = sum(sentence.origin == "extracted" for sentence in result.sentences)
            share = extracted / max(1, len(result.sentences))
            entries.append({"id": document.id, "summary": result.summary, "extracted": share})
        return entries

    return run


def extraction(words: int) -> Callable[[Sequence[Document]], list[dict[str, Any]]]:
    """Entries of the extractor alone."""
    encoder = load_text_encoder()

    def run(documents: Sequence[Document]) -> list[dict[str, Any]]:
        texts = [" ".join(extract(one.body, encoder, words, word_count).sentences) for one in documents]
        return [{"id": one.id, "summary": text, "extracted": 1.0} for one, text in zip(documents, texts, strict=True)]

    return run


def system_results(
    entries: Sequence[Mapping[str, Any]], records: datasets.Dataset, encoder: Any
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """What is reported of a system, and its ROUGE by article."""
    predictions = [{**entry, "selected": []} for entry in entries]
    scores = score_articles(predictions, records)
    values = {name: scores.defined(name) for name in ROUGE}
    summaries, bodies = [entry["summary"] for entry in entries], list(records["article"])
    supports = [
        float(support(split_sentences(summary), split_sentences(body), encoder).mean())
        for summary, body in tqdm(
            zip(summaries, bodies, strict=True), desc="support", total=len(bodies), unit="article", disable=None
        )
    ]
    novelties = [novelty(summary, body) for summary, body in zip(summaries, bodies, strict=True)]
    defined = [value for value in novelties if value is not None]
    return {
        "scores": {
            name: dict(zip(("value", "low", "high"), (mean(of), *mean_interval(of)), strict=True))
            for name, of in values.items()
        },
        "words": mean([word_count(summary) for summary in summaries]),
        "repeating": mean([float(repeats_four_gram(summary)) for summary in summaries]),
        "novelty": mean(defined),
        "support": mean(supports),
        "extracted": mean([entry["extracted"] for entry in entries]),
        "seconds": mean([entry["seconds"] for entry in entries]),
    }, values


def mean(values: Sequence[float]) -> float:
    """Of at least one value."""
    return sum(values) / len(values)


def run_systems(options: argparse.Namespace) -> dict[str, Any]:
    """All systems on the same sections, and how the default compares."""
    records = sections(options, "test")
    documents = documents_of(records)
    systems: dict[str, list[dict[str, Any]]] = {}
    systems[EXTRACTION] = summarize(
        documents, extraction(EXTRACTION_WORDS), options.output / f"{EXTRACTION}.jsonl", options.batch_size
    )
    for name in (UNTRAINED, TRAINED, DEFAULT):
        file = options.output / f"{name}.jsonl"
        systems[name] = summarize(documents, written(writer(name, options.captions)), file, options.batch_size)
    lengths = {entry["id"]: word_count(entry["summary"]) for entry in systems[DEFAULT]}
    systems[LEAD] = [
        {"id": one.id, "summary": " ".join(one.body.split()[: lengths[one.id]]), "extracted": 1.0, "seconds": 0.0}
        for one in documents
    ]
    encoder = load_text_encoder()
    results, values = {}, {}
    for name in ORDER:
        results[name], values[name] = system_results(systems[name], records, encoder)
    differences = {
        f"{DEFAULT} - {other}": {
            name: paired_difference(values[DEFAULT][name], values[other][name])._asdict() for name in ROUGE
        }
        for other in ORDER
        if other != DEFAULT
    }
    return {
        "systems": results,
        "differences": differences,
        "data": {"name": "msmo_openstax", "articles": len(records)},
    }


def tune(options: argparse.Namespace) -> dict[str, Any]:
    """ROUGE-1 on validation sections by the least support of a written sentence."""
    records = sections(options, "validation")
    summarizer = writer(TRAINED, options.captions)
    entries = summarize(documents_of(records), written(summarizer), options.output / "tune.jsonl", options.batch_size)
    encoder = load_text_encoder()
    words = summarizer.loaded.extract_words
    extracts = [
        extract(body, encoder, words, word_count).sentences for body in tqdm(records["article"], desc="extracts")
    ]
    rows = []
    for threshold in THRESHOLDS:
        predictions, extracted = [], []
        for entry, source in zip(entries, extracts, strict=True):
            supported = replace_unsupported(split_sentences(entry["summary"]), source, encoder, threshold)
            predictions.append({**entry, "summary": " ".join(one.text for one in supported), "selected": []})
            extracted.append(mean([float(one.origin == "extracted") for one in supported] or [0.0]))
        means = score_articles(predictions, records).means()
        rows.append({"threshold": threshold, "extracted": mean(extracted), **{name: means[name] for name in ROUGE}})
        print({key: round(value, 4) for key, value in rows[-1].items()})
    best = max(rows, key=lambda row: row["rouge1"])
    return {"thresholds": rows, "best": best["threshold"], "data": {"name": "msmo_openstax", "articles": len(records)}}


def sections(options: argparse.Namespace, split: str) -> datasets.Dataset:
    """The first sections of a split, all by default."""
    records = load_split(options.data, split)
    return records.select(range(min(options.limit or len(records), len(records))))


def render(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    head = ["system", "ROUGE-1", "ROUGE-2", "ROUGE-L", "words", "4-gram three times", "new 4-grams", "support"]
    head += ["extracted", "s a document"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---", *["---:"] * (len(head) - 1)]) + " |"]
    for name, system in result["systems"].items():
        scores = [
            f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
            for score in (system["scores"][key] for key in ROUGE)
        ]
        cells = [name, *scores, f"{system['words']:.0f}"]
        cells += [f"{system[key]:.2f}" for key in ("repeating", "novelty", "support", "extracted")]
        lines.append("| " + " | ".join([*cells, f"{system['seconds']:.1f}"]) + " |")
    lines += ["", "| ROUGE-1, paired | difference | 95 % interval | p |", "| --- | ---: | ---: | ---: |"]
    for name, scores in result["differences"].items():
        one = scores["rouge1"]
        lines.append(
            f"| {name} | {one['difference']:+.3f} | [{one['low']:+.3f}, {one['high']:+.3f}] | {one['p_value']:.3f} |"
        )
    hardware, versions = result["hardware"], result["versions"]
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    return "\n".join(
        [
            *lines,
            "",
            f"{result['data']['articles']} test sections, captions: {result['captions']}, batches of {result['batch_size']}; "
            f"{hardware['processor']}, {hardware['cores']} cores; {shown}; commit {result['commit']}",
        ]
    )


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's own options."""
    parser = argparse.ArgumentParser(prog="default_model.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", required=True, help="the folder msmo_openstax")
    parser.add_argument("--output", type=Path, required=True, help="folder of finished summaries")
    parser.add_argument("--result", type=Path, help="write the result as JSON")
    parser.add_argument("--captions", choices=("prompt", "none"), default="prompt", help="default: prompt")
    parser.add_argument("--batch-size", type=int, default=8, help="documents at once (default: 8)")
    parser.add_argument("--limit", type=int, help="only the first sections (default: all)")
    parser.add_argument("--tune", action="store_true", help="choose the least support on validation sections")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print the table, and write the result."""
    options = parse_options(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    result = tune(options) if options.tune else run_systems(options)
    result |= {
        "captions": options.captions,
        "batch_size": options.batch_size,
        "options": OPTIONS.to_dict(),
        "hardware": describe_hardware(),
        "versions": describe_versions(PACKAGES),
        "commit": describe_commit(),
    }
    if options.tune:
        print(f"least support: {result['best']}")
    else:
        print(render(result))
    if options.result:
        write_text_atomically(options.result, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
