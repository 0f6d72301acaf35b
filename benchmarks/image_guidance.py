"""
Does guidance between images help where the shared object must be found across them? Pairs of the closed world: two pictures
share one object, each has another one as a distractor, and the model says which is shared:

    python benchmarks/image_guidance.py --output runs/image_guidance --result benchmarks/results/image_guidance.json

Each run is `trainer/configs/linked_pairs.yaml` with a guidance and its layers: none, or at the first or the last layer of the
Q-Former with mean weights, with adaptive ones, and with a linear layer in the place of the W-former (SAM's table 3). The
language model is the closed world's own small one and is trained, too. Counted is how often the shared object is named,
its shape, and a distractor: on new pairs of the objects that were trained on, and on objects that were not. What is finished
stays in the output folder: interrupt it, and the same command goes on; several processes may train different seeds.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import PreTrainedModel

from modeling_spectra import SpectraSumProcessor
from modeling_spectra.summarization import generate_summaries
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.evaluation.bootstrap import paired_difference
from spectra_sum.linked_pairs.counts import Counts
from spectra_sum.linked_pairs.descriptions import named
from spectra_sum.linked_pairs.drawn_objects import drawn_backgrounds, drawn_groups
from spectra_sum.linked_pairs.making import make_pairs
from spectra_sum.linked_pairs.pairs import Settings
from spectra_sum.linked_pairs.scenes import PictureScene
from spectra_sum.linked_pairs.writing import read_pairs
from spectra_sum.models.loading import load_model
from spectra_sum.msmo.closed_world import closed_world_dataset
from trainer.closed_world.backbones import train_text_model, train_tokenizer
from trainer.train import main as train

CONFIG = Path(__file__).resolve().parents[1] / "trainer" / "configs" / "linked_pairs.yaml"
# Arguments of a training, by what they are called in the table.
GUIDANCE = {
    "none": ("--image_guidance", "none"),
    "mean": ("--guidance_weights", "mean"),
    "adaptive": (),
    "linear": ("--guidance_former", "linear"),
}
LAYERS = ("early", "late")
SETS = ("known objects", "new objects")
# What an answer may name: the shared object, its shape whatever the colour, a distractor.
COUNTED = ("right", "shape", "distractor")
COMPARED = ("right", "shape")
ANSWERS = "answers.json"
# An answer has some ten tokens.
MAX_NEW_TOKENS = 24
# Articles that the closed world's language model is trained on.
TEXT_ARTICLES = 2000


class Variant(NamedTuple):
    """A run: its guidance, its layers (`""` without guidance), and its seed."""

    guidance: str
    layers: str
    seed: int

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return "-".join(filter(None, (self.guidance, self.layers, str(self.seed))))


def variants(seeds: Sequence[int]) -> list[Variant]:
    """All runs, by seed: none, and each other guidance early and late."""
    return [
        Variant(guidance, layers, seed)
        for seed in seeds
        for guidance in GUIDANCE
        for layers in (("",) if guidance == "none" else LAYERS)
    ]


def write_pairs(folder: Path, count: int, size: int, seed: int) -> Path:
    """The closed world's linked pairs, of all splits."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scenes = [PictureScene(picture) for picture in drawn_backgrounds()]
        make_pairs(drawn_groups(), scenes, folder, count, Settings(size=size, seed=seed), Counts(), {})
    return folder


def test_pairs(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """The records of the pairs that are asked, each with its `folder`: of objects that were trained on, and of others."""
    trained_on = write_pairs(options.output / "pairs", options.pairs, options.size, seed=0)
    # Other places, backgrounds and distractors.
    others = write_pairs(options.output / "other_pairs", 2 * options.test_pairs, options.size, seed=1)
    found = {}
    for name, folder, split in zip(SETS, (others, trained_on), ("train", "test"), strict=True):
        records = [record for record in read_pairs(folder) if record["split"] == split]
        found[name] = [{**record, "folder": folder} for record in records[: options.test_pairs]]
    return found


def text_backbone(folder: Path) -> Path:
    """The closed world's language model."""
    tokenizer = train_tokenizer(folder / "tokenizer")
    records = closed_world_dataset({"train": TEXT_ARTICLES}, seed=0)
    return train_text_model(folder / "text", tokenizer, records["train"])


def train_run(options: argparse.Namespace, variant: Variant) -> Path:
    """A finished training; one that was interrupted goes on."""
    run = options.output / variant.name
    if not (run / "model.safetensors").is_file():
        argv = ["--config", str(options.config), "--dataset", str(options.output / "pairs")]
        argv += ["--text_backbone", str(text_backbone(options.output / "backbones"))]
        argv += ["--freeze_language_model", "false", "--cache_dir", str(options.output / "cache")]
        argv += ["--output_dir", str(run), "--seed", str(variant.seed), "--sampler_depth", str(options.depth)]
        layer = {"early": 1, "late": options.depth}.get(variant.layers, options.depth)
        argv += ["--guidance_layers", str(layer), str(layer), *GUIDANCE[variant.guidance]]
        argv += ["--max_steps", str(options.max_steps)]
        if any(run.glob("checkpoint-*")):
            argv += ["--resume_from_checkpoint", "latest"]
        train(argv)
    return run


@torch.no_grad()
def kept_features(
    file: Path, records: Sequence[Mapping[str, Any]], model: PreTrainedModel, processor: SpectraSumProcessor
) -> dict[str, torch.Tensor]:
    """What the frozen tower, the same in every run, makes of the pairs: `patches` (pairs, 2, P, d_v) and `image_embeds`
    (pairs, 2, d_img)."""
    if not file.is_file():
        rows = []
        for record in tqdm(records, desc=file.stem, unit="pair"):
            images = [Image.open(record["folder"] / image["file"]) for image in record["images"]]
            inputs = processor(text="", images=images)
            rows.append(model.image_features(inputs["pixel_values"], inputs["image_mask"]))
        save_file({name: torch.cat([row[name] for row in rows]) for name in rows[0]}, file)
    return load_file(file)


@torch.no_grad()
def answers(
    run: Path, pairs: Mapping[str, Sequence[Mapping[str, Any]]], features: Path, batch_size: int
) -> dict[str, list[str]]:
    """What a trained model answers to each pair, greedily; the tower's features are kept in the folder `features`."""
    file = run / ANSWERS
    asked = {name: [record["id"] for record in records] for name, records in pairs.items()}
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["pairs"] == asked:
            return kept["answers"]
    loaded = load_model(str(run))
    model, processor = loaded.model.eval(), loaded.processor
    found: dict[str, list[str]] = {}
    for name, records in pairs.items():
        seen = kept_features(
            features / f"{name.replace(' ', '_')}_{len(records)}.safetensors", records, model, processor
        )
        found[name] = []
        for start in tqdm(range(0, len(records), batch_size), desc=f"{run.name}, {name}", unit="batch"):
            batch = records[start : start + batch_size]
            own = {key: values[start : start + batch_size] for key, values in seen.items()}
            # Blank images stand for the placeholders of each pair's.
            blank = [[Image.new("RGB", (1, 1))] * len(record["images"]) for record in batch]
            inputs = processor(text=[record["instruction"] for record in batch], images=blank)
            del inputs["pixel_values"]
            summaries = generate_summaries(model, processor.tokenizer, inputs | own, MAX_NEW_TOKENS)
            found[name] += [summary.text for summary in summaries]
    write_text_atomically(file, json.dumps({"pairs": asked, "answers": found}) + "\n")
    return found


def judge(answer: str, record: Mapping[str, Any]) -> dict[str, float]:
    """Whether an answer names the shared object, its shape, or a distractor, 0 or 1; one that names a distractor is not right."""
    objects = [entry for image in record["images"] for entry in image["objects"] if not entry["shared"]]
    distractor = any(named(entry["group"]) in answer for entry in objects)
    shape = record["description"].split()[-1]
    return {
        "right": float(record["description"] in answer and not distractor),
        "shape": float(shape in answer.replace(".", " ").split() and not distractor),
        "distractor": float(distractor),
    }


def run_result(
    variant: Variant,
    steps: int,
    judged: Mapping[str, Sequence[Mapping[str, float]]],
    plain: Mapping[str, Sequence[Mapping[str, float]]] | None,
) -> dict[str, Any]:
    """Shares of what is counted, and how much more often object and shape are named than without guidance, pair by pair."""
    result: dict[str, Any] = {**variant._asdict(), "steps": steps, "sets": {}}
    for name in SETS:
        values = {kind: [one[kind] for one in judged[name]] for kind in COUNTED}
        own: dict[str, Any] = {kind: statistics.fmean(values[kind]) for kind in COUNTED}
        if plain is not None:
            own["more than none"] = {
                kind: asdict(paired_difference(values[kind], [one[kind] for one in plain[name]])) for kind in COMPARED
            }
        result["sets"][name] = {**own, "pairs": len(judged[name])}
    return result


def steps_of(run: Path) -> int:
    """Optimizer steps of a finished training."""
    return json.loads((run / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]


def render(result: Mapping[str, Any]) -> str:
    """The result as Markdown: each run, and the mean over seeds of each guidance."""
    parts = []
    for name in SETS:
        lines = [
            f"{name.capitalize()}, {result['runs'][0]['sets'][name]['pairs']} pairs:",
            "",
            "| guidance | layers | seed | object | shape | a distractor | object − none | shape − none |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for run in result["runs"]:
            grouped.setdefault((run["guidance"], run["layers"]), []).append(run)
        for (guidance, layers), runs in grouped.items():
            for run in runs:
                own = run["sets"][name]
                cells = [guidance, layers, str(run["seed"]), *(f"{own[kind]:.1%}" for kind in COUNTED)]
                for kind in COMPARED:
                    more = own.get("more than none", {}).get(kind)
                    shown = more and f"{more['mean']:+.1%} [{more['low']:+.1%}, {more['high']:+.1%}]"
                    cells.append(shown or "")
                lines.append("| " + " | ".join(cells) + " |")
            if len(runs) > 1:
                cells = [guidance, layers, "mean"]
                cells += [f"{statistics.fmean(run['sets'][name][kind] for run in runs):.1%}" for kind in COUNTED]
                for kind in COMPARED:
                    more = [run["sets"][name].get("more than none", {}).get(kind) for run in runs]
                    cells.append(f"{statistics.fmean(one['mean'] for one in more):+.1%}" if all(more) else "")
                lines.append("| " + " | ".join(f"**{cell}**" if cell else "" for cell in cells) + " |")
        parts.append("\n".join(lines))
    hardware, steps = result["hardware"], sorted({run["steps"] for run in result["runs"]})
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    parts.append(
        f"{result['pairs']:,} pairs of {result['size']} pixels a side, {' or '.join(map(str, steps))} steps, a Q-Former of "
        f"{result['depth']} layers: (l, k) is (1, 1) or ({result['depth']}, {result['depth']}). 95 % intervals over pairs. "
        f"{hardware['processor']}, {hardware['cores']} cores; {versions}; commit {result['commit']}"
    )
    return "\n\n".join(parts)


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="image_guidance.py", description=__doc__.splitlines()[1], allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="keeps pairs, cache and runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="default: 0 1 2")
    parser.add_argument("--pairs", type=int, default=3600, help="of all splits (default: 3600)")
    parser.add_argument("--test-pairs", type=int, default=300, help="of each kind that are asked (default: 300)")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels (default: 128)")
    parser.add_argument("--depth", type=int, default=4, help="layers of the Q-Former (default: 4)")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of the trainings (default: linked_pairs)")
    parser.add_argument("--max-steps", type=int, default=300, help="of a training (default: 300)")
    parser.add_argument("--batch-size", type=int, default=50, help="pairs that are asked at once (default: 50)")
    parser.add_argument("--result", type=Path, help="write the result as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Make the pairs, train, ask, print the table, and write the result."""
    options = parse_options(argv)
    pairs = test_pairs(options)
    runs: list[dict[str, Any]] = []
    plain: dict[int, dict[str, list[dict[str, float]]]] = {}
    for variant in variants(options.seeds):
        run = train_run(options, variant)
        given = answers(run, pairs, options.output, options.batch_size)
        judged = {name: [judge(*pair) for pair in zip(given[name], pairs[name], strict=True)] for name in SETS}
        if variant.guidance == "none":
            plain[variant.seed] = judged
        compared = None if variant.guidance == "none" else plain[variant.seed]
        runs.append(run_result(variant, steps_of(run), judged, compared))
        result = {
            "runs": sorted(runs, key=lambda one: (list(GUIDANCE).index(one["guidance"]), one["layers"], one["seed"])),
            "pairs": options.pairs,
            "size": options.size,
            "depth": options.depth,
            "hardware": describe_hardware(),
            "versions": describe_versions(("torch", "transformers")),
            "commit": describe_commit(),
        }
        if options.result is not None:
            write_text_atomically(options.result, json.dumps(result, indent=2) + "\n")
    print(render(result))


if __name__ == "__main__":
    main()
