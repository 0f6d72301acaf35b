"""What 4 bits cost in accuracy: a model unquantized, with its language model, and also with its new modules in NF4.

python benchmarks/quantization.py --model FOLDER --data FOLDER --output runs/quantization \\
    --result benchmarks/results/quantization.json

All three predict the same articles, greedily; every score is compared article by article with the unquantized model's, with
a 95 % bootstrap interval of the mean difference. `summary_loss` is the cross-entropy per token of the reference summary,
which shows losses that generated text is too coarse for. Finished batches and models stay in the output folder:
interrupt it and run the same command to go on. A Markdown table is written beside the JSON result.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import datasets
import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.evaluation.bootstrap import paired_difference
from spectra_sum.evaluation.scores import score_articles
from spectra_sum.evaluation.systems.sources import GenerationSettings, from_model, keep_to_settings, model_identity
from spectra_sum.models.loading import LoadedModel, load_model
from spectra_sum.models.quantization_choices import NEW_MODULES, QUANTIZATIONS, check_bitsandbytes
from spectra_sum.models.sources import check_model
from spectra_sum.msmo.sources import articles_digest
from spectra_sum.own_data.loading import load_split

UNQUANTIZED = "none"
LOSS = "summary_loss"
PACKAGES = ("torch", "transformers", "bitsandbytes", "datasets")


def weight_bytes(model: torch.nn.Module) -> int:
    """Bytes of all parameters; those in 4 bits with their scales."""
    total = 0
    for parameter in model.parameters():
        total += parameter.nbytes
        state = getattr(parameter, "quant_state", None)
        for part in (state, getattr(state, "state2", None)):
            total += part.absmax.nbytes if part is not None else 0
    return total


@torch.no_grad()
def summary_losses(loaded: LoadedModel, records: datasets.Dataset, max_length: int) -> list[float]:
    """Per article the mean cross-entropy of its reference summary's tokens, given the article and its images."""
    losses = []
    for record in tqdm(records, desc="losses", unit="article", disable=None):
        inputs = loaded.processor(
            record["article"],
            title=record["title"],
            images=[record["images"]],
            summary=" ".join(record["summary"]),
            max_length=max_length,
        )
        losses.append(loaded.model(**inputs.to(loaded.model.device)).loss.item())
    return losses


def measure(
    model: str, quantize: str | None, records: datasets.Dataset, generation: GenerationSettings, folder: Path
) -> dict[str, Any]:
    """Predictions, scores by article and size of one of the three; taken from `folder` when they are there."""
    result = folder / "result.json"
    if result.is_file():
        return json.loads(result.read_text(encoding="utf-8"))
    loaded = load_model(model, quantize=quantize)
    identity = {**model_identity(model, loaded), "articles_sha256": articles_digest(records)}
    output = from_model(loaded, identity, records, folder / "batches", generation, seed=0)
    scores = score_articles(output.predictions, records)
    content = {
        "weight_bytes": weight_bytes(loaded.model),
        "summaries": [prediction["summary"] for prediction in output.predictions],
        "selected": [prediction["selected"] for prediction in output.predictions],
        "scores": {**scores.values, LOSS: summary_losses(loaded, records, output.settings["max_length"])},
        "not_computed": scores.not_computed,
        "dropped": output.dropped,
        "settings": output.settings,
    }
    write_text_atomically(result, json.dumps(content) + "\n")
    return content


def compare(measured: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Means of a model, its paired differences to the unquantized one, and how often both say the same."""
    scores, differences = {}, {}
    for name, values in measured["scores"].items():
        pairs = [
            (value, other)
            for value, other in zip(values, reference["scores"][name], strict=True)
            if value is not None and other is not None
        ]
        if pairs:
            scores[name] = sum(value for value, _ in pairs) / len(pairs)
            differences[name] = asdict(paired_difference(*zip(*pairs, strict=True)))
    return {
        "weight_bytes": measured["weight_bytes"],
        "scores": scores,
        "differences": differences,
        "same_summary": share_of_equal(measured["summaries"], reference["summaries"]),
        "same_selection": share_of_equal(measured["selected"], reference["selected"]),
        "not_computed": measured["not_computed"],
        "dropped": measured["dropped"],
    }


def share_of_equal(values: Sequence[Any], others: Sequence[Any]) -> float:
    """The share of articles in which both have the same."""
    return sum(value == other for value, other in zip(values, others, strict=True)) / len(values)


def markdown(result: dict[str, Any]) -> str:
    """The comparison as a table: the unquantized model's means, and the others' differences."""
    models = result["models"]
    quantized = [name for name in models if name != UNQUANTIZED]
    head = ["score", UNQUANTIZED, *(f"{name}: difference (95 % interval)" for name in quantized)]
    rows = [head, ["---"] * len(head)]
    for name, value in models[UNQUANTIZED]["scores"].items():
        row = [name, f"{value:.5f}"]
        for other in quantized:
            found = models[other]["differences"][name]
            row.append(f"{found['mean']:+.5f} ({found['low']:+.5f} to {found['high']:+.5f})")
        rows.append(row)
    for label, key in (("same summary", "same_summary"), ("same selection", "same_selection")):
        rows.append([label, "", *(f"{models[name][key]:.3f}" for name in quantized)])
    sizes = [f"{models[name]['weight_bytes'] / 1e6:.2f}" for name in models]
    rows.append(["weights, MB", *sizes])
    hardware, data = result["hardware"], result["data"]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    place = hardware["gpu"] or f"{hardware['processor']}, {hardware['threads']} threads"
    return "\n".join([*lines, "", f"{data['articles']} articles ({data['split']}); {place}; {versions}.", ""])


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, checked as far as that needs no model and no data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--model", required=True, help="folder or Hub id of a trained model or adapter")
    parser.add_argument("--data", required=True, help="folder in the MSMO layout or of save_to_disk")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument("--limit", type=int, help="only the first articles (default: all)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--output", type=Path, required=True, help="folder of what is finished")
    parser.add_argument("--result", type=Path, required=True, help="JSON file; the table goes beside it, as .md")
    options = parser.parse_args(argv)
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be at least 1")
    if options.result.suffix != ".json":
        parser.error(f"--result {options.result}: name a .json file")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    arguments = parse_options(argv)
    try:
        check_model(arguments.model)
        check_bitsandbytes()
        records = load_split(arguments.data, arguments.split)
    except ValueError as error:
        sys.exit(f"quantization.py: {error}")
    records = records.select(range(min(arguments.limit or len(records), len(records))))
    PartialState()
    loaded = load_model(arguments.model)
    fusion = loaded.model.config.fusion
    settings = {
        **model_identity(arguments.model, loaded),
        "articles_sha256": articles_digest(records),
        "batch_size": arguments.batch_size,
        "max_length": arguments.max_length,
        "max_new_tokens": arguments.max_new_tokens,
        "hardware": describe_hardware(),
        "commit": describe_commit(),
        "versions": describe_versions(PACKAGES),
    }
    # Two of them would have to fit into memory.
    del loaded
    try:
        keep_to_settings(arguments.output / "settings.json", settings)
    except ValueError as error:
        sys.exit(f"quantization.py: {error}")
    measured = {}
    for quantize in (None, *QUANTIZATIONS):
        if quantize == NEW_MODULES and fusion == "concat":
            continue
        generation = GenerationSettings(
            arguments.batch_size, arguments.max_length, arguments.max_new_tokens, quantize=quantize
        )
        name = quantize or UNQUANTIZED
        print(f"{name} …", flush=True)
        measured[name] = measure(arguments.model, quantize, records, generation, arguments.output / name)
    result = {
        "models": {name: compare(content, measured[UNQUANTIZED]) for name, content in measured.items()},
        "model": Path(arguments.model).name,
        "fusion": fusion,
        "data": {
            "name": Path(arguments.data).name,
            "split": arguments.split,
            "articles": len(records),
            "articles_sha256": settings["articles_sha256"],
        },
        "settings": {name: settings[name] for name in ("batch_size", "max_length", "max_new_tokens")},
        "hardware": settings["hardware"],
        "versions": settings["versions"],
    }
    table = markdown(result)
    arguments.result.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(arguments.result, json.dumps(result, indent=2) + "\n")
    write_text_atomically(arguments.result.with_suffix(".md"), table)
    print(table)


if __name__ == "__main__":
    main()
