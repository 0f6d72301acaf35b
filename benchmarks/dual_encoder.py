"""
The default dual encoder: which figure a text describes, and which figures belong to a section by what they show.

    python benchmarks/dual_encoder.py --data $SPECTRA_DATA/msmo_openstax --features runs/dual_encoder/features \\
        --output benchmarks/results/dual_encoder.json

Retrieval: each caption and each alternative text of the test split ranks all figures of the split. Beside the shipped heads
stand heads of the same features that were trained with little regularisation, and chance. On a book that was held out, all of
whose figures are ranked, heads are trained anew on the training figures of the other books.

Separation: the test of `figure_selection.py` with its draws, by pixels alone, by texts, and by the larger of both.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.figure_selection import (
    FEWEST,
    MOST,
    OWN_SUMMARIES,
    Figure,
    RememberingEncoder,
    Section,
    draw_foreign,
    read_sections,
    sentences_of,
)
from benchmarks.figure_selection_results import area_under_curve
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.evaluation.bootstrap import mean_interval, paired_difference
from spectra_sum.models.default_dual_encoder import FOLDER, HEADS_FILE, ImageViews
from spectra_sum.models.joint_heads import JointHeads, load_joint_heads
from spectra_sum.models.text_encoder import load_text_encoder
from spectra_sum.seeds import stable_seed
from spectra_sum.selection.after_summary import ImageRanker
from trainer.dual_encoder.features import FigureFeatures, figure_features, image_features
from trainer.dual_encoder.figures import read_figures
from trainer.dual_encoder.retrieval import CUTOFFS, ranks
from trainer.dual_encoder.train import read_recipe
from trainer.dual_encoder.training import Recipe, train_heads

# Books whose figures are ranked by heads that were trained without them.
HELD_OUT = ("microbiology", "us-history")
# Against regularisation: what the recipe has of it is turned down.
LITTLE = {"dropout": 0.1, "weight_decay": 0.01, "noise": 0.0, "label_smoothing": 0.0, "max_scale": 100.0}
GOALS = {"alternative texts": 0.58, "captions": 0.48}
SOURCES = ("pixels", "caption", "caption and pixels", "both", "both and pixels")
RANDOM = "chance"


class RememberedVision:
    """A dual encoder whose images are files, embedded before; a text is embedded once."""

    def __init__(self, images: Mapping[Path, np.ndarray], texts: RememberingEncoder, heads: JointHeads):
        self.images = images
        self.texts = texts
        self.heads = heads

    def embed_images(self, images: Sequence[Path]) -> np.ndarray:
        """Unit vectors (N, d)."""
        return np.stack([self.images[image] for image in images])

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors (N, d)."""
        return self.heads.text(self.texts.embed(texts)).numpy()


def recalls(features: FigureFeatures, embed_image: Callable, embed_text: Callable) -> dict[str, Any]:
    """R@1, 5 and 10 by alternative texts and by captions, with 95 % intervals over the texts."""
    images, texts = embed_image(features.images), embed_text(features.texts)
    result = {}
    for kind, rows in (("alternative texts", features.alts), ("captions", features.captions)):
        own = [figure for figure, row in enumerate(rows) if row is not None]
        found = ranks(texts[[rows[figure] for figure in own]], images, own)
        result[kind] = {
            "texts": len(own), **{str(cutoff): interval(found.recall(cutoff)) for cutoff in CUTOFFS}
        }  # fmt: skip
    return result


def interval(values: Sequence[float]) -> dict[str, float]:
    """The mean with its 95 % bootstrap interval."""
    low, high = mean_interval(values)
    return {"value": statistics.fmean(values), "low": low, "high": high}


def retrieval(options: argparse.Namespace, recipe: Recipe, shipped: JointHeads) -> dict[str, Any]:
    """All rows of retrieval, by system."""
    views = ImageViews(tuple(recipe.sides), tuple(recipe.blocks))
    figures = {split: read_figures(options.data, split) for split in ("train", "validation", "test")}
    features = {split: figure_features(part, views, options.features) for split, part in figures.items()}
    systems = {
        "shipped, test": (features["test"], shipped.image, shipped.text),
        "little regularisation, test": (
            features["test"], *train_heads(features["train"], replace(recipe, **LITTLE))[:2]
        ),
    }  # fmt: skip
    everything = [figure for part in figures.values() for figure in part]
    every = figure_features(everything, views, options.features)
    for book in HELD_OUT:
        others = [place for place, figure in enumerate(figures["train"]) if figure.book != book]
        own = [place for place, figure in enumerate(everything) if figure.book == book]
        heads = train_heads(features["train"].of(others), recipe)[:2]
        systems[f"without {book}, {book}"] = (every.of(own), *heads)
    rows = {}
    for name, (part, image, text) in systems.items():
        figures_ranked = len(part.images)
        rows[name] = {"figures": figures_ranked, "recall": recalls(part, image, text)}
        if name == "shipped, test":
            chance = {str(cutoff): {"value": cutoff / figures_ranked} for cutoff in CUTOFFS}
            rows[RANDOM] = {"figures": figures_ranked, "recall": {"either": chance}}
    return rows


def separation(options: argparse.Namespace, recipe: Recipe, shipped: JointHeads) -> dict[str, Any]:
    """Area under the curve by split, summary and source, and what pixels add to texts."""
    views = ImageViews(tuple(recipe.sides), tuple(recipe.blocks))
    text_encoder = load_text_encoder()
    encoder = RememberingEncoder(text_encoder)
    result: dict[str, Any] = {}
    for split in ("validation", "test"):
        sections, _ = read_sections(options.data, split)
        files = [file for section in sections for file in section.images]
        embeds = shipped.image(image_features(files, views, options.features)).numpy()
        vision = RememberedVision(dict(zip(files, embeds, strict=True)), encoder, shipped)
        ranker = ImageRanker(encoder, vision, "relevance")
        values: dict[str, dict[str, list[float]]] = {
            name: {source: [] for source in SOURCES} for name in OWN_SUMMARIES
        }
        for section in tqdm(sections, desc=f"{split} sections", unit="section"):
            drawn = [draw_foreign(section, sections, stable_seed(0, draw)) for draw in range(options.draws)]
            if not (FEWEST <= len(section.captions) <= MOST and all(drawn)):
                continue
            for name in OWN_SUMMARIES:
                summary = sentences_of(section, name, {}, text_encoder)
                for source in SOURCES:
                    aucs = [area(ranker, summary, section, foreign, source) for foreign in drawn]
                    values[name][source].append(statistics.fmean(aucs))
        result[split] = {
            "sections": len(values["reference"]["pixels"]),
            "auc": {name: {source: interval(found) for source, found in of.items()} for name, of in values.items()},
            "pixels_added_to_captions": {
                name: asdict(paired_difference(of["caption and pixels"], of["caption"])) for name, of in values.items()
            },
        }
    return result


def area(
    ranker: ImageRanker, summary: Sequence[str], section: Section, foreign: Sequence[Figure], source: str
) -> float:
    """The area under the curve of one draw: the section's own figures against the foreign ones."""
    figures = [*section.figures(), *foreign]
    none = [""] * len(figures)
    ranking = ranker.rank(
        summary,
        [figure.image for figure in figures] if "pixels" in source else [None] * len(figures),
        [figure.caption for figure in figures] if source != "pixels" else none,
        [figure.alt for figure in figures] if source.startswith("both") else none,
    )
    count = len(section.captions)
    return area_under_curve(ranking.scores[:count], ranking.scores[count:])


def render(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    lines = ["| heads, figures | ranked | by | R@1 | R@5 | R@10 |", "| --- | ---: | --- | ---: | ---: | ---: |"]
    for name, system in result["retrieval"].items():
        for kind, recall in system["recall"].items():
            cells = [_cell(recall[str(cutoff)]) for cutoff in CUTOFFS]
            lines.append(f"| {name} | {system['figures']} | {kind} | {' | '.join(cells)} |")
    for goal in result["goals"]:
        verdict = "met" if goal["met"] else "missed"
        lines += [
            "",
            f"R@10 at least {goal['goal']:.2f} by {goal['by']}, {goal['row']}: {goal['value']:.3f}, {verdict}.",
        ]
    for split, part in result["separation"].items():
        lines += ["", f"**{split}**, {part['sections']} sections: area under the curve", ""]
        lines += [f"| figures by | {' | '.join(part['auc'])} |", "| --- " * (len(part["auc"]) + 1) + "|"]
        for source in SOURCES:
            lines.append("| " + " | ".join([source, *(_cell(of[source]) for of in part["auc"].values())]) + " |")
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    facts = f"95 % intervals over texts and over sections, {result['draws']} draws of foreign figures each; heads "
    facts += f"{result['heads']}; {result['hardware']['processor']}; {versions}; commit {result['commit']}"
    return "\n".join([*lines, "", facts])


def _cell(score: Mapping[str, float]) -> str:
    if "low" not in score:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="dual_encoder.py", description=__doc__.splitlines()[1], allow_abbrev=False)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="in the MSMO layout, with sources.tsv"
    )
    parser.add_argument("--features", type=Path, required=True, metavar="FOLDER", help="keeps the towers' features")
    parser.add_argument("--draws", type=int, default=5, help="of foreign figures (default: 5)")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write the result."""
    options = parse_options(argv)
    recipe, shipped = read_recipe(), load_joint_heads(FOLDER / HEADS_FILE)
    with torch.no_grad():
        parts = {"separation": separation(options, recipe, shipped)}
    rows = retrieval(options, recipe, shipped)
    result = {
        "retrieval": rows,
        **parts,
        "goals": [
            {"row": name, "by": kind, "goal": goal, "value": value, "met": value >= goal}
            for name, row in rows.items()
            if name not in (RANDOM, "little regularisation, test")
            for kind, goal in GOALS.items()
            for value in (row["recall"][kind]["10"]["value"],)
        ],
        "draws": options.draws,
        "heads": shipped.revision,
        "hardware": describe_hardware(),
        "commit": describe_commit(),
        "versions": describe_versions(("torch", "transformers")),
    }
    print(render(result))
    if options.output is not None:
        write_text_atomically(options.output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
