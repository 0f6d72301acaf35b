"""
Do the gates carry real pictures? Nats a token of the alternative texts of test figures, with the right picture, with
another figure of the same book, and with none, by fusion and seed:

    python benchmarks/real_pictures.py --data $SPECTRA_DATA/msmo_openstax --output runs/pictures \\
        --result benchmarks/results/real_pictures.json

Each run is `trainer/configs/openstax_pictures.yaml` with its fusion and seed: the language model is frozen and stands
without its chat template, and what is trained reads pixels alone. Of a run that is not finished the newest checkpoint
goes on, so that a benchmark that was interrupted is continued by the same command; runs that were not asked for yet are
added to the result by a later one.
"""

import argparse
import json
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from modeling_spectra.backbones import load_language_model
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.evaluation.bootstrap import paired_difference
from spectra_sum.models.loading import load_model
from spectra_sum.models.sources import find_smollm2
from spectra_sum.seeds import stable_seed
from trainer.dual_encoder.figures import Figure, read_figures
from trainer.train import main as train

CONFIG = Path(__file__).resolve().parents[1] / "trainer" / "configs" / "openstax_pictures.yaml"
PAPER_FUSIONS = ("sampler", "dvp", "concat")
# What each fusion changes in the config.
FUSIONS = {name: ("--fusion", name) for name in PAPER_FUSIONS} | {
    "adapter": ("--fusion", "adapter"),
    "adapter-patches": ("--fusion", "adapter", "--adapter_reads", "patches"),
    "modulation": ("--fusion", "modulation"),
    "parameter-free": ("--fusion", "sampler", "--cross_attention", "parameter_free", "--keep_share", "0.5"),
    "kmeans": ("--fusion", "sampler", "--sampler_type", "kmeans"),
}
SPLITS = ("train", "validation", "test")
# All that a prompt says: nothing of the figure.
ARTICLE = "A figure of a textbook."
# Of an alternative text, whose beginning says what is seen.
WORDS = 24
PICTURES = ("right", "other", "none")
NATS = "nats.json"
GOAL = 0.10


def write_figures(data: Path, folder: Path) -> None:
    """The figures with an alternative text as a dataset of JSON lines, one record per figure, its files beside it."""
    for split in SPLITS:
        file = folder / f"{split}.jsonl"
        if file.is_file():
            continue
        (folder / "images").mkdir(parents=True, exist_ok=True)
        lines = []
        for figure in described(data, split):
            shutil.copy2(figure.image, folder / "images" / figure.image.name)
            record = {
                "id": f"{split}-{figure.image.stem}",
                "article": ARTICLE,
                "summary": beginning(figure.alt),
                "images": [f"images/{figure.image.name}"],
            }
            lines.append(json.dumps(record))
        write_text_atomically(file, "\n".join(lines) + "\n")


def described(data: Path, split: str) -> list[Figure]:
    """The figures of a split that have an alternative text."""
    return [figure for figure in read_figures(data, split) if figure.alt.strip()]


def beginning(text: str) -> str:
    """The first words of an alternative text, as many as are read."""
    return " ".join(text.split()[:WORDS])


def with_others(figures: Sequence[Figure], count: int, seed: int = 0) -> list[tuple[Figure, Figure]]:
    """Figures drawn from all, each with another one of its book that has another text."""
    books = defaultdict(list)
    for figure in figures:
        books[figure.book].append(figure)
    random = Random(stable_seed(seed, "figures"))
    drawn = random.sample(list(figures), min(count, len(figures)))
    pairs = []
    for figure in drawn:
        others = [other for other in books[figure.book] if beginning(other.alt) != beginning(figure.alt)]
        if others:
            pairs.append((figure, random.choice(others)))
    return pairs


def save_plain_text_model(text: str, folder: Path) -> Path:
    """The language model without its chat template, whose system message would be most of what is read."""
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        model, tokenizer = load_language_model(str(find_smollm2()) if text == "smollm2" else text, dtype=torch.float32)
        model.save_pretrained(partial)
        tokenizer.chat_template = None
        tokenizer.save_pretrained(partial)
        partial.rename(folder)
    return folder


def train_run(options: argparse.Namespace, fusion: str, seed: int) -> Path:
    """A finished training; one that was interrupted goes on."""
    run = options.output / f"{fusion}-{seed}"
    if not (run / "model.safetensors").is_file():
        argv = ["--config", str(options.config), "--dataset", str(options.output / "figures")]
        argv += [*FUSIONS[fusion], "--seed", str(seed), "--output_dir", str(run)]
        argv += ["--text_backbone", str(save_plain_text_model(options.text_backbone, options.output / "text"))]
        argv += ["--cache", "patches", "--cache_dir", str(options.output / "cache")]
        if options.max_steps:
            argv += ["--max_steps", str(options.max_steps)]
        if any(run.glob("checkpoint-*")):
            argv += ["--resume_from_checkpoint", "latest"]
        train(argv)
    return run


@torch.no_grad()
def nats(run: Path, pairs: Sequence[tuple[Figure, Figure]], batch_size: int) -> dict[str, list[float]]:
    """Mean nats a token of each figure's text, end token included, by the picture that stands beside it."""
    file = run / NATS
    drawn = [[figure.image.name, other.image.name] for figure, other in pairs]
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["figures"] == drawn:
            return kept["nats"]
    loaded = load_model(str(run))
    model, processor = loaded.model.eval(), loaded.processor
    found: dict[str, list[float]] = {name: [] for name in PICTURES}
    # Neighbours have texts of one length.
    order = sorted(range(len(pairs)), key=lambda place: len(pairs[place][0].alt))
    for start in tqdm(range(0, len(pairs), batch_size), desc=run.name, unit="batch"):
        batch = [pairs[place] for place in order[start : start + batch_size]]
        texts = [beginning(figure.alt) for figure, _ in batch]
        for name in PICTURES:
            files = [None if name == "none" else pair[name == "other"].image for pair in batch]
            images = [[] if path is None else [Image.open(path).convert("RGB")] for path in files]
            inputs = processor(
                text=[ARTICLE] * len(batch), title=[""] * len(batch), images=images, summary=texts, max_length=None
            )
            labels = inputs.pop("labels")[:, 1:]
            logits = model(**inputs).logits[:, :-1].float()
            losses = cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction="none")
            found[name] += (losses.sum(1) / (labels != -100).sum(1)).tolist()
    places = sorted(range(len(order)), key=order.__getitem__)
    result = {name: [values[place] for place in places] for name, values in found.items()}
    write_text_atomically(file, json.dumps({"figures": drawn, "nats": result}) + "\n")
    return result


def run_result(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Means by picture, and what the right one spares against another and against none."""
    return {
        "nats": {name: statistics.fmean(values[name]) for name in PICTURES},
        "other - right": asdict(paired_difference(values["other"], values["right"])),
        "none - right": asdict(paired_difference(values["none"], values["right"])),
        "right_is_better": statistics.fmean(
            right < other for right, other in zip(values["right"], values["other"], strict=True)
        ),
    }


def steps_of(run: Path) -> int:
    """Optimizer steps of a finished training."""
    return json.loads((run / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]


def earlier_runs(file: Path | None, measured: Mapping[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """The runs of a result file that measured the same, by fusion and seed."""
    if file is None or not file.is_file():
        return {}
    earlier = json.loads(file.read_text(encoding="utf-8"))
    if any(earlier.get(name) != value for name, value in measured.items()):
        return {}
    return {(run["fusion"], run["seed"]): run for run in earlier["runs"]}


def render(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    lines = ["| fusion | seed | steps | right | other | none | other − right | right better |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for run in result["runs"]:
        difference = run["other - right"]
        cells = [run["fusion"], str(run["seed"]), str(run["steps"])]
        cells += [f"{run['nats'][name]:.3f}" for name in PICTURES]
        cells += [f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"]
        cells += [f"{run['right_is_better']:.0%}"]
        lines.append("| " + " | ".join(cells) + " |")
    met = sum(run["other - right"]["mean"] >= result["goal"] for run in result["runs"])
    hardware = result["hardware"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines += [
        "",
        f"Nats a token on {result['figures']} test figures, 95 % intervals over figures; at least {result['goal']:.2f} between "
        f"another picture and the right one was the goal: {met} of {len(result['runs'])} runs. {hardware['processor']}, "
        f"{hardware['cores']} cores; {versions}; commit {result['commit']}",
    ]
    return "\n".join(lines)


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="real_pictures.py", description=__doc__.splitlines()[1], allow_abbrev=False)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER", help="in the MSMO layout, with sources.tsv"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="keeps figures, cache and runs")
    parser.add_argument(
        "--fusions", nargs="+", choices=FUSIONS, default=PAPER_FUSIONS, help="default: the paper's three"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="default: 0 1 2")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of the trainings (default: openstax_pictures)")
    parser.add_argument("--text-backbone", default="smollm2", help="frozen (default: smollm2)")
    parser.add_argument("--max-steps", type=int, help="of a training (default: the config's)")
    parser.add_argument("--figures", type=int, default=160, help="test figures that are measured (default: 160)")
    parser.add_argument("--batch-size", type=int, default=8, help="figures at once when measuring (default: 8)")
    parser.add_argument("--result", type=Path, help="write the result as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, print the table, and write the result."""
    options = parse_options(argv)
    write_figures(options.data, options.output / "figures")
    pairs = with_others(described(options.data, "test"), options.figures)
    measured = {"figures": len(pairs), "words": WORDS, "data": {"name": options.data.name, "split": "test"}}
    runs = earlier_runs(options.result, measured)
    for seed in options.seeds:
        for fusion in options.fusions:
            run = train_run(options, fusion, seed)
            values = nats(run, pairs, options.batch_size)
            runs[fusion, seed] = {"fusion": fusion, "seed": seed, "steps": steps_of(run), **run_result(values)}
            result = {
                "runs": sorted(runs.values(), key=lambda one: (list(FUSIONS).index(one["fusion"]), one["seed"])),
                **measured,
                "goal": GOAL,
                "hardware": describe_hardware(),
                "versions": describe_versions(("torch", "transformers")),
                "commit": describe_commit(),
            }
            if options.result is not None:
                write_text_atomically(options.result, json.dumps(result, indent=2) + "\n")
    print(render(result))


if __name__ == "__main__":
    main()
