"""
The default model on the test sections of msmo_openstax, beside what it must beat:

    python benchmarks/default_model.py --data FOLDER --output runs/default_model --result benchmarks/results/default_model.json

Systems: `default` (what `summarize` does without a model: the centroid's sentences, 150 words), `lead` (the section's first
words, as many), and on the first sections alone, since writing takes long: `untrained` (SmolLM2 writes from an extract),
`trained` (the default model, as it writes), and `trained, with support` (its sentences without support replaced by the
extract's: `--mode write`). All models read the same extract, greedily, with the same penalties on repetition. ROUGE stands
with 95 % bootstrap intervals, differences are paired by section. Seconds are those of summarizing the first sections,
selection of images included where a model writes; then sentences that were embedded before are not embedded again. Finished
batches stay in the output folder: interrupt it, and the same command goes on.

With `--captions none` the models read no captions: the ablation. `--beside FOLDER` names the output folder of a run with
captions, with whose summaries these are compared. With `--tune` the least support of a written sentence is chosen, on
validation sections: the one of the greatest ROUGE-1.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import datasets
import torch
from PIL import Image
from tqdm.auto import tqdm

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.documents.parts import Document, DocumentError, DocumentImage
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.evaluation.bootstrap import mean_interval, paired_difference
from spectra_sum.evaluation.repetition_and_novelty import text_statistics
from spectra_sum.evaluation.scores import score_articles
from spectra_sum.extraction.extract import extract
from spectra_sum.extraction.support import support
from spectra_sum.models.loading import load_any
from spectra_sum.models.text_encoder import TextEncoder, load_text_encoder
from spectra_sum.own_data.loading import load_split
from spectra_sum.sentences import split_sentences
from spectra_sum.summaries.grounding import grounded
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer

LEAD, DEFAULT, UNTRAINED, TRAINED, SUPPORTED = "lead", "default", "untrained", "trained", "trained, with support"
EXTRACTION_WORDS = 150
OPTIONS = SummaryOptions(length="long")
ROUGE = ("rouge1", "rouge2", "rougeL")
THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
PACKAGES = ("torch", "transformers", "peft")
# Sections whose seconds count.
TIMED = 16


class KeptEmbeddings:
    """
    A sentence encoder that embeds a text once, unless it is `timed`.

    Args:
        encoder (`TextEncoder`): Embeds what is new.
    """

    def __init__(self, encoder: TextEncoder):
        self.encoder = encoder
        self.timed = False
        self._kept: dict[str, torch.Tensor] = {}

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """As [`TextEncoder.embed`]."""
        new = [text for text in dict.fromkeys(texts) if self.timed or text not in self._kept]
        self._kept.update(zip(new, self.encoder.embed(new), strict=True))
        return torch.stack([self._kept[text] for text in texts]) if texts else self.encoder.embed(texts)


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


def writer(name: str, captions: str, encoder: KeptEmbeddings) -> Summarizer:
    """A system that writes: what it writes stands as it is."""
    default = load_any("default")
    loaded = default if name == TRAINED else load_any("smollm2")
    # The same extract for both.
    loaded = loaded._replace(support_threshold=None, extract_words=default.extract_words)
    return Summarizer(loaded, replace(OPTIONS, captions=captions), encoder)


Run = Callable[[Sequence[Document]], list[dict[str, Any]]]


def summarize(
    documents: Sequence[Document], run: Run, file: Path, batch: int, encoder: KeptEmbeddings
) -> list[dict[str, Any]]:
    """Summaries of all documents, each as `id`, `summary`, `extracted` (its share of sentences) and `seconds`.

    Args:
        documents: What is summarized, in this order.
        run: Makes the entries of a batch, without `seconds`.
        file (`Path`): JSON lines, of which finished ones are not made again.
        batch (`int`): Documents at once.
        encoder (`KeptEmbeddings`): What `run` embeds with.
    """
    done = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    with file.open("a", encoding="utf-8") as lines:
        for start in tqdm(range(len(done), len(documents), batch), desc=file.stem, unit="batch", disable=None):
            encoder.timed = start < TIMED
            begun = time.perf_counter()
            entries = run(documents[start : start + batch])
            seconds = (time.perf_counter() - begun) / len(entries) if encoder.timed else None
            for entry in entries:
                done.append({**entry, "seconds": seconds})
                print(json.dumps(done[-1], ensure_ascii=False), file=lines, flush=True)
    encoder.timed = False
    return done


def written(summarizer: Summarizer) -> Run:
    """Entries of a [`Summarizer`]."""

    def run(documents: Sequence[Document]) -> list[dict[str, Any]]:
        entries = []
        for document, result in zip(documents, summarizer.summarize_batch(documents), strict=True):
            if isinstance(result, DocumentError):
                raise result
            entries.append({"id": document.id, "summary": result.summary, "extracted": 0.0})
        return entries

    return run


def extraction(encoder: KeptEmbeddings) -> Run:
    """Entries of the extractor alone."""

    def run(documents: Sequence[Document]) -> list[dict[str, Any]]:
        texts = [" ".join(extract(one.body, encoder, EXTRACTION_WORDS, word_count).sentences) for one in documents]
        return [{"id": one.id, "summary": text, "extracted": 1.0} for one, text in zip(documents, texts, strict=True)]

    return run


def with_support(
    entries: Sequence[Mapping[str, Any]],
    documents: Sequence[Document],
    encoder: KeptEmbeddings,
    words: int,
    threshold: float,
) -> list[dict[str, Any]]:
    """What the default makes of what its model wrote."""
    own_words = replace(OPTIONS).filled(trained=False, ranks=False).extract_words
    made = []
    for entry, document in zip(entries, documents, strict=True):
        text = entry["summary"]
        source = extract(document.body, encoder, words, word_count, repetition=True).sentences
        sentences, _ = grounded(
            text,
            split_sentences(text),
            source,
            lambda body=document.body: extract(body, encoder, own_words, word_count, headings=False).sentences,
            encoder,
            threshold,
        )
        share = mean([float(sentence.origin == "extracted") for sentence in sentences] or [0.0])
        made.append({**entry, "summary": " ".join(sentence.text for sentence in sentences), "extracted": share})
    return made


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
    statistics = text_statistics(summaries, bodies).means()
    timed = [entry["seconds"] for entry in entries if entry["seconds"] is not None]
    return {
        "scores": {
            name: dict(zip(("value", "low", "high"), (mean(of), *mean_interval(of)), strict=True))
            for name, of in values.items()
        },
        "words": statistics["words"],
        "repeating": statistics["repeats_itself"],
        "novelty": statistics["novelty"],
        "support": mean(supports),
        "extracted": mean([entry["extracted"] for entry in entries]),
        "seconds": mean(timed) if timed else None,
    }, values


def mean(values: Sequence[float]) -> float:
    """Of at least one value."""
    return sum(values) / len(values)


def run_systems(options: argparse.Namespace) -> dict[str, Any]:
    """All systems, and how the default compares with the others."""
    records = sections(options, "test")
    documents = documents_of(records)
    encoder = KeptEmbeddings(load_text_encoder())
    systems: dict[str, list[dict[str, Any]]] = {}

    def file(name: str) -> Path:
        return options.output / f"{name}.jsonl"

    systems[DEFAULT] = summarize(documents, extraction(encoder), file(DEFAULT), options.batch_size, encoder)
    systems[LEAD] = [
        {**entry, "summary": " ".join(one.body.split()[: word_count(entry["summary"])]), "seconds": None}
        for one, entry in zip(documents, systems[DEFAULT], strict=True)
    ]
    first = documents[: options.written]
    settings = load_any("default")
    for name in (TRAINED, UNTRAINED):
        run = written(writer(name, options.captions, encoder))
        systems[name] = summarize(first, run, file(name), options.batch_size, encoder)[: len(first)]
    systems[SUPPORTED] = with_support(
        systems[TRAINED], first, encoder, settings.extract_words, settings.support_threshold
    )
    every = compared(records, {name: systems[name] for name in (LEAD, DEFAULT)}, encoder)
    some = records.select(range(len(first)))
    order = (LEAD, DEFAULT, UNTRAINED, TRAINED, SUPPORTED)
    of_first = compared(some, {name: systems[name][: len(first)] for name in order}, encoder)
    result = {"data": {"name": "msmo_openstax", "split": "test"}, "all": every, "first": of_first}
    if options.beside is not None:
        result["captions_read"] = {
            name: captions_read(options.beside, name, systems[name], some) for name in (TRAINED, UNTRAINED)
        }
    return result


def captions_read(
    folder: Path, name: str, without: Sequence[Mapping[str, Any]], records: datasets.Dataset
) -> dict[str, Any]:
    """The paired differences of a system that reads captions to the same one without."""
    entries = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    scores, others = (
        score_articles([{**entry, "selected": []} for entry in part[: len(records)]], records)
        for part in (entries, without)
    )
    return {key: asdict(paired_difference(scores.defined(key), others.defined(key))) for key in ROUGE}


def compared(
    records: datasets.Dataset, systems: Mapping[str, Sequence[Mapping[str, Any]]], encoder: KeptEmbeddings
) -> dict[str, Any]:
    """The figures of systems on the same sections, and the paired differences of the default to the others."""
    results, values = {}, {}
    for name, entries in systems.items():
        results[name], values[name] = system_results(entries, records, encoder)
    own = values[DEFAULT]
    differences = {
        f"{DEFAULT} - {other}": {name: asdict(paired_difference(own[name], scores[name])) for name in ROUGE}
        for other, scores in values.items()
        if other != DEFAULT
    }
    return {"sections": len(records), "systems": results, "differences": differences}


def tune(options: argparse.Namespace) -> dict[str, Any]:
    """ROUGE-1 on validation sections by the least support of a written sentence."""
    records = sections(options, "validation")
    documents = documents_of(records)
    encoder = KeptEmbeddings(load_text_encoder())
    summarizer = writer(TRAINED, options.captions, encoder)
    file = options.output / "tune.jsonl"
    entries = summarize(documents, written(summarizer), file, options.batch_size, encoder)
    words = summarizer.loaded.extract_words
    extracts = extraction(encoder)(documents)
    rows = [{"threshold": None, "extracted": 1.0, **rouge_means(extracts, records)}]
    for threshold in THRESHOLDS:
        made = with_support(entries, documents, encoder, words, threshold)
        share = mean([entry["extracted"] for entry in made])
        rows.append({"threshold": threshold, "extracted": share, **rouge_means(made, records)})
    for row in rows:
        shown = "extraction" if row["threshold"] is None else f"{row['threshold']:.2f}"
        print(shown, *(f"{row[name]:.4f}" for name in ("extracted", *ROUGE)))
    best = max(rows[1:], key=lambda row: row["rouge1"])
    return {"thresholds": rows, "best": best["threshold"], "data": {"name": "msmo_openstax", "articles": len(records)}}


def rouge_means(entries: Sequence[Mapping[str, Any]], records: datasets.Dataset) -> dict[str, float]:
    """The mean ROUGE of summaries."""
    means = score_articles([{**entry, "selected": []} for entry in entries], records).means()
    return {name: means[name] for name in ROUGE}


def sections(options: argparse.Namespace, split: str) -> datasets.Dataset:
    """The first sections of a split, all by default."""
    records = load_split(options.data, split)
    return records.select(range(min(options.limit or len(records), len(records))))


def render(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    hardware = result["hardware"]
    shown = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n\n".join(
        [
            *render_systems(result["all"], "All"),
            *render_systems(result["first"], "The first"),
            *_rendered_captions(result),
            f"Captions: {result['captions']}; batches of {result['batch_size']}; {hardware['processor']}, "
            f"{hardware['cores']} cores; {shown}; commit {result['commit']}",
        ]
    )


def _rendered_captions(result: Mapping[str, Any]) -> list[str]:
    found = {f"{name}, captions - none": scores for name, scores in result.get("captions_read", {}).items()}
    return [_differences(found)] if found else []


def render_systems(part: Mapping[str, Any], which: str) -> list[str]:
    """The systems on some sections, and their differences, as Markdown."""
    head = ["system", "ROUGE-1", "ROUGE-2", "ROUGE-L", "words", "a 4-gram three times", "new 4-grams", "support"]
    head += ["extracted", "s a section"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---", *["---:"] * (len(head) - 1)]) + " |"]
    for name, system in part["systems"].items():
        scores = [
            f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
            for score in (system["scores"][key] for key in ROUGE)
        ]
        cells = [name, *scores, f"{system['words']:.0f}"]
        cells += [f"{system[key]:.2f}" for key in ("repeating", "novelty", "support", "extracted")]
        seconds = "" if system["seconds"] is None else f"{system['seconds']:.1f}"
        lines.append("| " + " | ".join([*cells, seconds]) + " |")
    return [f"{which} {part['sections']} test sections:", "\n".join(lines), _differences(part["differences"])]


def _differences(differences: Mapping[str, Mapping[str, Any]]) -> str:
    table = ["| paired difference | ROUGE-1 | ROUGE-2 | ROUGE-L |", "| --- | ---: | ---: | ---: |"]
    for name, scores in differences.items():
        cells = [
            f"{one['mean']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}], p {one['p_value']:.3f}"
            for one in (scores[key] for key in ROUGE)
        ]
        table.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(table)


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's own options."""
    parser = argparse.ArgumentParser(prog="default_model.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", required=True, help="the folder msmo_openstax")
    parser.add_argument("--output", type=Path, required=True, help="folder of finished summaries")
    parser.add_argument("--result", type=Path, help="write the result as JSON")
    parser.add_argument("--captions", choices=("prompt", "none"), default="prompt", help="default: prompt")
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="output of a run with captions, to compare with")
    parser.add_argument("--batch-size", type=int, default=8, help="documents at once (default: 8)")
    parser.add_argument("--limit", type=int, help="only the first sections (default: all)")
    parser.add_argument("--written", type=int, default=24, help="sections that models write of (default: 24)")
    parser.add_argument("--tune", action="store_true", help="choose the least support on validation sections")
    options = parser.parse_args(argv)
    if options.beside is not None and (options.tune or options.captions != "none"):
        parser.error("--beside compares a run without captions: add --captions none, and leave --tune out")
    return options


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
