"""
What do pictures add to a summary? ROUGE of test sections with the right picture, another one and none:

    python benchmarks/picture_summaries.py --data $SPECTRA_DATA/msmo_openstax --gates runs/pictures/sampler-0 \\
        --output runs/picture_summaries --result benchmarks/results/picture_summaries.json

Each training is `trainer/configs/openstax_pictures_summaries.yaml` from gates that `real_pictures.py` has trained, or, with
`--towers none last-2` in the place of `--gates`, `trainer/configs/adapter_openstax.yaml` with the vision tower frozen and
trained: an extract of the section and its first figure are read, by pixels alone. The other picture is the first figure of
another section of the same book. ROUGE stands with 95 % bootstrap intervals, differences are paired by section. What is
finished stays in the output folder: interrupt it, and the same command goes on.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import datasets
import yaml
from PIL import Image

from benchmarks.default_model import (
    PACKAGES,
    ROUGE,
    KeptEmbeddings,
    render_systems,
    sections,
    summarize,
    system_results,
    written,
)
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.documents.parts import Document, DocumentImage
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.evaluation.bootstrap import paired_difference
from spectra_sum.models.loading import load_model
from spectra_sum.models.text_encoder import load_text_encoder
from spectra_sum.seeds import stable_seed
from spectra_sum.summaries.options import NO_REPEAT_NGRAM_SIZE, REPETITION_PENALTY, SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from trainer.dual_encoder.figures import Figure, read_figures
from trainer.train import main as train

CONFIGS = Path(__file__).resolve().parents[1] / "trainer" / "configs"
GATES_CONFIG, TOWERS_CONFIG = CONFIGS / "openstax_pictures_summaries.yaml", CONFIGS / "adapter_openstax.yaml"
RIGHT, OTHER, NONE = "right picture", "another picture", "no picture"
# As a model that was not trained to its end: with penalties on repetition.
OPTIONS = SummaryOptions(
    length="medium",
    long="select",
    repetition_penalty=REPETITION_PENALTY,
    no_repeat_ngram_size=NO_REPEAT_NGRAM_SIZE,
)


def with_pictures(records: datasets.Dataset, figures: Sequence[Figure], seed: int = 0) -> dict[str, list[Document]]:
    """The sections that have a picture, where another section of their book has one, too, with each kind of picture."""
    random = Random(stable_seed(seed, "pictures"))
    # Of each section its first figure, as those that come later are put in first.
    first = {figure.section: figure for figure in reversed(figures)}
    found: dict[str, list[Document]] = {RIGHT: [], OTHER: [], NONE: []}
    for row in records.remove_columns("images"):
        if (own := first.get(row["id"])) is None:
            continue
        others = sorted(name for name, one in first.items() if one.book == own.book and name != own.section)
        if not others:
            continue
        bare = Document(id=row["id"], source=row["id"], title=row["title"], body=row["article"], images=[])
        for kind, figure in ((RIGHT, own), (OTHER, first[random.choice(others)])):
            picture = Image.open(figure.image).convert("RGB")
            found[kind].append(replace(bare, images=[DocumentImage("figure", "", picture)]))
        found[NONE].append(bare)
    return found


def trainings(options: argparse.Namespace) -> dict[str, list[str]]:
    """{name of a run: what it changes in the config}."""
    if options.gates:
        return {gates.name: ["--model_name_or_path", str(gates)] for gates in options.gates}
    # Of the text of captions the documents that are measured have none; what is evaluated here need not be there.
    changes = ["--captions", "none", "--eval_strategy", "no", "--final_evaluation", "none"]
    changes += ["--save_strategy", "steps", "--save_steps", "5"]
    return {f"tower {mode}": ["--train_vision_tower", mode, *changes] for mode in options.towers}


def train_run(name: str, changes: Sequence[str], options: argparse.Namespace) -> Path:
    """A finished training; one that was interrupted goes on."""
    run = options.output / name.replace(" ", "-")
    if not (run / "model.safetensors").is_file():
        argv = ["--config", str(options.config), "--dataset", options.data, "--output_dir", str(run), *changes]
        if options.max_steps:
            argv += ["--max_steps", str(options.max_steps)]
        if options.max_train_articles:
            argv += ["--max_train_articles", str(options.max_train_articles)]
        if any(run.glob("checkpoint-*")):
            argv += ["--resume_from_checkpoint", "latest"]
        train(argv)
    return run


def measure(
    run: Path,
    words: int,
    documents: Mapping[str, Sequence[Document]],
    records: datasets.Dataset,
    encoder: KeptEmbeddings,
    batch: int,
) -> dict[str, Any]:
    """A trained model with each kind of picture, and what the right one adds; `words` is how long extracts are."""
    # As it was trained: by itself a model reads as much as fits.
    summarizer = Summarizer(load_model(str(run))._replace(extract_words=words), OPTIONS, encoder)
    results, values = {}, {}
    for kind, articles in documents.items():
        file = run / f"{kind.replace(' ', '_')}.jsonl"
        entries = summarize(articles, written(summarizer), file, batch, encoder)[: len(articles)]
        results[kind], values[kind] = system_results(entries, records, encoder)
    differences = {
        f"{RIGHT} - {kind}": {
            name: asdict(paired_difference(values[RIGHT][name], values[kind][name])) for name in ROUGE
        }
        for kind in (OTHER, NONE)
    }
    steps = json.loads((run / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    return {"sections": len(records), "steps": steps, "systems": results, "differences": differences}


def render(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    hardware = result["hardware"]
    shown = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    parts = []
    for name, run in result["runs"].items():
        head, *tables = render_systems(run, "The first")
        of_tower = name.startswith("tower ")
        begins = (
            f"Vision {name}, {run['steps']} steps." if of_tower else f"Gates of {name}, {run['steps']} steps more."
        )
        parts += [f"{begins} {head}", *tables]
    parts.append(f"{hardware['processor']}, {hardware['cores']} cores; {shown}; commit {result['commit']}")
    return "\n\n".join(parts)


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="picture_summaries.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", required=True, help="the folder msmo_openstax")
    trained = parser.add_mutually_exclusive_group(required=True)
    trained.add_argument("--gates", type=Path, nargs="+", metavar="RUN", help="finished runs of real_pictures.py")
    trained.add_argument(
        "--towers", nargs="+", metavar="MODE", help="adapters with these train_vision_tower: none last-2"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of runs and finished summaries")
    parser.add_argument("--config", type=Path, help="of the trainings (default: of gates or of adapters)")
    parser.add_argument("--max-steps", type=int, help="of a training (default: the config's)")
    parser.add_argument("--max-train-articles", type=int, help="of a training (default: the config's)")
    parser.add_argument("--batch-size", type=int, default=8, help="documents at once (default: 8)")
    parser.add_argument("--limit", type=int, help="only the first sections (default: all)")
    parser.add_argument("--result", type=Path, help="write the result as JSON")
    options = parser.parse_args(argv)
    options.config = options.config or (GATES_CONFIG if options.gates else TOWERS_CONFIG)
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, print the tables, and write the result."""
    options = parse_options(argv)
    records = sections(options, "test")
    documents = with_pictures(records, read_figures(Path(options.data), "test"))
    kept = {document.id for document in documents[RIGHT]}
    records = records.select([place for place, name in enumerate(records["id"]) if name in kept])
    encoder = KeptEmbeddings(load_text_encoder())
    words = yaml.safe_load(options.config.read_text(encoding="utf-8"))["extract_words"]
    runs = {
        name: measure(train_run(name, changes, options), words, documents, records, encoder, options.batch_size)
        for name, changes in trainings(options).items()
    }
    result = {
        "runs": runs,
        "batch_size": options.batch_size,
        "data": {"name": Path(options.data).name, "split": "test"},
        "hardware": describe_hardware(),
        "versions": describe_versions(PACKAGES),
        "commit": describe_commit(),
    }
    print(render(result))
    if options.result:
        write_text_atomically(options.result, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
