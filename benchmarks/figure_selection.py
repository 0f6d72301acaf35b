"""
Which figures belong to a section: told from its summary, by their captions and alternative texts.

    python benchmarks/figure_selection.py --data $SPECTRA_DATA/msmo_openstax --rows runs/figure_selection.jsonl \\
        --output benchmarks/results/figure_selection.json

Two tests on the validation and test sections of a dataset in the MSMO layout with `sources.tsv`, which names the book of
each figure. `separation` needs no labels: the 2 to 8 figures of a section stand among as many figures of other sections of
its book and split, drawn anew `--draws` times; the share of the section's own among the 3 best, and the area under the ROC
curve. `gold` is the precision of the 3 selected, and of the first, on the dataset's own labels: captions ranked by ROUGE
against the reference, hence in favour of whoever reads captions.

The summaries: the reference (an upper bound), the lead and the centroid extract of 150 words, and those of each file of
`--predictions` (JSON lines with id and summary). Whatever is finished stays in `--rows`: run the same command to go on,
also with more predictions.
Settings of the ranker were chosen on the validation sections.
"""

import argparse
import csv
import hashlib
import json
import random
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.figure_selection_results import (
    COUNT,
    GOAL,
    NO_SUMMARY,
    aggregate,
    area_under_curve,
    own_share,
    precision,
    render,
)
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.extraction.extract import extract
from spectra_sum.models.sources import DEFAULT_TEXT_ENCODER
from spectra_sum.models.text_encoder import TextEncoder, load_text_encoder
from spectra_sum.msmo.sources import articles_digest
from spectra_sum.own_data.loading import load_split
from spectra_sum.seeds import stable_seed
from spectra_sum.selection.after_summary import RANKER_METHODS, RANKER_SETTINGS, ImageRanker
from spectra_sum.sentences import reference_sentences, split_sentences

SPLITS = {"validation": "valid_data", "test": "test_data"}
WORDS = 150
FEWEST, MOST = 2, 8
SOURCES = ("alt", "caption", "both")
OWN_SUMMARIES = ("reference", "lead", "centroid")
RANDOM, FIRST = "random", "first"


class Figure(NamedTuple):
    """A figure's texts, empty where there are none, and its file."""

    caption: str
    alt: str
    image: Path | None = None


@dataclass(frozen=True)
class Section:
    """A section with figures: `captions` and `alts` are empty where there are none, `gold` holds indices, `images` files."""

    id: str
    book: str
    article: str
    reference: list[str]
    captions: list[str]
    alts: list[str]
    gold: list[int]
    images: Sequence[Path] = ()

    def figures(self) -> list[Figure]:
        """Its figures, in order."""
        images = self.images or [None] * len(self.captions)
        return [Figure(*figure) for figure in zip(self.captions, self.alts, images, strict=True)]


class RememberingEncoder:
    """A sentence encoder that embeds each text once: figures of a book come again and again."""

    def __init__(self, encoder: TextEncoder):
        self.encoder = encoder
        self.known: dict[str, Tensor] = {}

    def embed(self, texts: Sequence[str]) -> Tensor:
        """L2-normalised embeddings (N, d)."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known |= dict(zip(new, self.encoder.embed(new), strict=True))
        return torch.stack([self.known[text] for text in texts])


def read_sections(folder: Path, split: str) -> tuple[list[Section], str]:
    """The sections of a split that have figures, and the digest of its articles."""
    split_folder = folder / SPLITS[split]
    sources = split_folder / "sources.tsv"
    if not sources.is_file():
        raise SystemExit(
            f"{sources}: there is no such file; pass the folder of msmo_openstax, whose figures have books."
        )
    with sources.open(encoding="utf-8", newline="") as file:
        books = {row["image"]: row["book"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    records = load_split(str(folder), split)
    paths = records.with_format("arrow")["images"]
    sections = []
    for record, images in zip(records.remove_columns("images"), paths, strict=True):
        files = [Path(image["path"].as_py()) for image in images]
        names = [file.name for file in files]
        if names:
            texts = [split_folder / "alt" / f"{Path(name).stem}.alt" for name in names]
            alts = [text.read_text(encoding="utf-8").strip() if text.is_file() else "" for text in texts]
            sections.append(
                Section(
                    record["id"], books[names[0]], record["article"], record["summary"], record["captions"], alts,
                    record["gold_images"], files,
                )
            )  # fmt: skip
    return sections, articles_digest(records)


def read_summaries(path: Path, ids: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """The summaries of a file of predictions, by id: of every section of a split, or of none."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        found = {line["id"]: line["summary"] for line in lines}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path}: these are no JSON lines with id and summary: {error!r}") from None
    for split, wanted in ids.items():
        missing = [name for name in wanted if name not in found]
        if missing and len(missing) < len(list(wanted)):
            raise SystemExit(f"{path}: {len(missing)} {split} sections have no summary, {missing[0]} among them")
    return found


def draw_foreign(section: Section, sections: Sequence[Section], seed: int) -> list[Figure]:
    """As many figures of other sections of the book as the section has; empty where there are not that many."""
    pool = [
        figure
        for other in sections
        if other.book == section.book and other.id != section.id
        for figure in other.figures()
    ]
    count = len(section.captions)
    return random.Random(stable_seed(seed, section.id)).sample(pool, count) if len(pool) >= count else []


def ranker_inputs(figures: Sequence[Figure], source: str) -> dict[str, list[Any]]:
    """What [`ImageRanker.rank`] is given of figures: captions, alternative texts, or both; never the image."""
    none = [""] * len(figures)
    return {
        "images": [None] * len(figures),
        "captions": none if source == "alt" else [figure.caption for figure in figures],
        "alts": none if source == "caption" else [figure.alt for figure in figures],
    }


def measure(
    section: Section,
    sections: Sequence[Section],
    summary: Sequence[str] | None,
    encoder: RememberingEncoder,
    options: argparse.Namespace,
) -> dict[str, dict[str, Any]]:
    """
    Both tests on one section, by system; a test that the section is not fit for is empty.

    Args:
        section (`Section`): Whose figures are to be told.
        sections (`Sequence[Section]`): Those of its split, from which foreign figures are drawn.
        summary (`Sequence[str]`, *optional*): Sentences; `None` measures the systems that read none.
        encoder (`RememberingEncoder`): Embeds texts and sentences.
        options (`argparse.Namespace`): With seed and draws.
    """
    count, figures = len(section.captions), section.figures()
    drawn = [draw_foreign(section, sections, stable_seed(options.seed, draw)) for draw in range(options.draws)]
    separable, labelled = FEWEST <= count <= MOST and all(drawn), count >= FEWEST and bool(section.gold)
    scores: dict[str, list[list[float | None]]]
    orders: dict[str, list[list[int]]]
    if summary is None:
        generator = random.Random(stable_seed(options.seed, section.id, RANDOM))
        scores = {RANDOM: [[generator.random() for _ in range(2 * count)] for _ in drawn]}
        orders = {RANDOM: [generator.sample(range(count), count) for _ in drawn], FIRST: [list(range(count))]}
    else:
        rankers = {name: ImageRanker(encoder, method=name, count=COUNT) for name in RANKER_METHODS}
        scores = {
            source: [
                rankers["relevance"].rank(summary, **ranker_inputs([*figures, *foreign], source)).scores
                for foreign in drawn
            ]
            for source in SOURCES
        }
        systems = [("relevance", source) for source in SOURCES]
        systems += [(method, "both") for method in RANKER_METHODS if method != "relevance"]
        orders = {
            f"{source}, {method}": [rankers[method].rank(summary, **ranker_inputs(figures, source)).selected]
            for method, source in systems
        }
    return {
        "separation": {name: _separation(found, count) for name, found in scores.items()} if separable else {},
        "gold": {name: _gold(found, section.gold) for name, found in orders.items()} if labelled else {},
    }


def _separation(scores: Sequence[Sequence[float | None]], own: int) -> dict[str, float]:
    """The mean over draws, whose first scores are those of the own figures."""
    return {
        "own_share": statistics.fmean(own_share(drawn[:own], drawn[own:], COUNT) for drawn in scores),
        "auc": statistics.fmean(area_under_curve(drawn[:own], drawn[own:]) for drawn in scores),
    }


def _gold(orders: Sequence[Sequence[int]], gold: Sequence[int]) -> dict[str, float]:
    """The mean over orders, best first."""
    return {
        f"precision_at_{count}": statistics.fmean(precision(order[:count], gold) for order in orders)
        for count in (1, COUNT)
    }


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's own options."""
    parser = argparse.ArgumentParser(
        prog="figure_selection.py", description=__doc__.splitlines()[1], allow_abbrev=False
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="in the MSMO layout, with sources.tsv"
    )
    parser.add_argument("--predictions", type=Path, nargs="+", default=[], metavar="FILE.jsonl", help="id and summary")
    parser.add_argument("--text-encoder", default=DEFAULT_TEXT_ENCODER, help=f"default: {DEFAULT_TEXT_ENCODER}")
    parser.add_argument("--draws", type=int, default=5, help="of foreign figures (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--rows", type=Path, required=True, metavar="FILE.jsonl", help="finished sections, to go on from"
    )
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    options = parser.parse_args(argv)
    if options.draws < 1:
        parser.error(f"--draws {options.draws}: at least 1 is needed")
    names = [path.stem for path in options.predictions]
    if len({*names, *OWN_SUMMARIES, NO_SUMMARY}) != len(names) + len(OWN_SUMMARIES) + 1:
        parser.error("--predictions: the files' names are those of the summaries; give each another one")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet, print the table, and write the result."""
    options = parse_options(argv)
    loaded = {split: read_sections(options.data, split) for split in SPLITS}
    ids = {split: [section.id for section in sections] for split, (sections, _) in loaded.items()}
    predicted = {path.stem: read_summaries(path, ids) for path in options.predictions}
    text_encoder = load_text_encoder(options.text_encoder)
    settings = {
        "text_encoder": {"name": text_encoder.name, "revision": text_encoder.revision},
        "ranker": asdict(RANKER_SETTINGS),
        "words": WORDS,
        "count": COUNT,
        "draws": options.draws,
        "seed": options.seed,
        "articles_sha256": {split: digest for split, (_, digest) in loaded.items()},
    }
    done = read_rows(options.rows, settings)
    encoder = RememberingEncoder(text_encoder)
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    todo = [(split, section) for split, (sections, _) in loaded.items() for section in sections]
    with options.rows.open("a", encoding="utf-8") as file:
        for split, section in tqdm(todo, unit="section"):
            given = {name: found[section.id] for name, found in predicted.items() if section.id in found}
            for name in (NO_SUMMARY, *OWN_SUMMARIES, *given):
                key = row_key(section.id, name, given.get(name, ""))
                if key not in done:
                    summary = sentences_of(section, name, given, text_encoder)
                    measured = measure(section, loaded[split][0], summary, encoder, options)
                    done[key] = {"key": key, "id": section.id, "summary": name, **measured}
                    file.write(json.dumps(done[key]) + "\n")
                    file.flush()
                rows[split].append(done[key])
    settings["predictions_sha256"] = {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in options.predictions
    }
    result = {
        "splits": {split: aggregate(measured) for split, measured in rows.items()},
        "settings": settings,
        "hardware": describe_hardware(),
        "commit": describe_commit(),
        "versions": describe_versions(("torch", "transformers")),
    }
    test = result["splits"]["test"]["separation"]["scores"]
    aucs = {name: test[name]["caption"]["auc"]["value"] for name in predicted if name in test}
    result["goals"] = [{"summary": name, "auc": auc, "met": auc >= GOAL} for name, auc in aucs.items()]
    print(render(result))
    if options.output is not None:
        write_text_atomically(options.output, json.dumps(result, indent=2) + "\n")


def row_key(section: str, name: str, summary: str) -> str:
    """What a row is of: a section, and a summary by its name and, where a file gives it, its text."""
    return hashlib.sha256("\0".join((section, name, summary)).encode()).hexdigest()[:16]


def sentences_of(section: Section, name: str, given: Mapping[str, str], encoder: TextEncoder) -> Sequence[str] | None:
    """The sentences of one summary of a section."""
    if name == NO_SUMMARY:
        return None
    if name == "reference":
        return reference_sentences(section.reference)
    if name == "lead":
        return split_sentences(" ".join(section.article.split()[:WORDS]))
    if name == "centroid":
        return extract(section.article, encoder, WORDS, lambda text: len(text.split()), headings=False).sentences
    return split_sentences(given[name])


def read_rows(path: Path, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The finished rows by their keys; the file is begun, with the settings in its first line, where it is not there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        return {}
    text = path.read_text(encoding="utf-8")
    # A killed run may have left half a line.
    whole = text[: text.rfind("\n") + 1]
    path.write_text(whole, encoding="utf-8")
    first, *lines = map(json.loads, whole.splitlines())
    if first != settings:
        raise SystemExit(f"{path}: it was made with other settings or data; choose another --rows, or delete it")
    return {row["key"]: row for row in lines}


if __name__ == "__main__":
    main()
