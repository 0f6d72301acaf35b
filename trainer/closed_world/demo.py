"""`make experiment`: trains the method and its ablations on the closed world, and writes a report."""

import argparse
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict

from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.models.loading import load_model
from spectra_sum.msmo.closed_world import chance
from spectra_sum.msmo.closed_world_difficulty import DIFFICULTIES
from trainer.closed_world.experiment import (
    Experiment,
    arguments_of,
    check_same_settings,
    make_backbones,
    prepare_articles,
    score_selections,
    select_images,
    variant_job,
)
from trainer.closed_world.jobs import run_jobs
from trainer.closed_world.report import results_table, write_demo_report, write_example
from trainer.train import write_json

VARIANTS = ("mm-dvp", "dvp", "sampler", "concat", "text-only")
TABLE_ORDER = ("text-only", "concat", "sampler", "dvp", "mm-dvp")
REPORTED_ARTICLES = 8


def variant_row(result: dict[str, Any]) -> dict[str, Any]:
    """The row of `metrics.json` for the result of a variant."""
    scores = result["scores"]
    prefix = "visual_facts_"
    return {
        **{name: scores[name] for name in ("rouge1", "rouge2", "rougeL", "text_facts")},
        "visual_facts": {
            name.removeprefix(prefix): value for name, value in scores.items() if name.startswith(prefix)
        },
        "seconds": result["seconds"],
        "parameters": result["parameters"],
    }


def collect(experiment: Experiment, records: DatasetDict, *, processes: int) -> dict[str, Any]:
    """Put the results together: `metrics.json`, `summaries.jsonl`, `model/`, `example/` and `report.html`."""
    output = experiment.output
    names = [name for name in TABLE_ORDER if experiment.result(name).is_file()]
    results = {name: json.loads(experiment.result(name).read_text()) for name in names}
    if not (output / "model").is_dir():
        shutil.copytree(output / "variants" / "mm-dvp" / "model", output / "model.partial", dirs_exist_ok=True)
        (output / "model.partial" / "training_args.bin").unlink()
        (output / "model.partial").rename(output / "model")
    loaded = load_model(str(output / "model"))
    metrics = {
        "variants": {name: variant_row(result) for name, result in results.items()},
        "selection": score_selections(select_images(loaded, experiment, records), records["test"]),
        "chance": chance(experiment.difficulty),
        "seed": experiment.seed,
        "commit": describe_commit(),
        "versions": describe_versions(("torch", "transformers", "datasets", "evaluate")),
        "hardware": {**describe_hardware(), "processes": processes},
        "settings": {
            "difficulty": experiment.difficulty,
            "articles": experiment.articles,
            "eval_articles": experiment.eval_articles,
            "steps": arguments_of("mm-dvp", experiment)[2].max_steps,
        },
    }
    write_json(output / "metrics.json", metrics)
    with (output / "summaries.jsonl").open("w", encoding="utf-8") as file:
        for index, record in enumerate(records["test"].remove_columns("images")):
            line = {
                **results["mm-dvp"]["predictions"][index],
                "reference": " ".join(record["summary"]),
                "gold_images": record["gold_images"],
                "variants": {name: result["predictions"][index]["summary"] for name, result in results.items()},
            }
            print(json.dumps(line, ensure_ascii=False), file=file)
    shown = [records["test"][index] for index in range(min(REPORTED_ARTICLES, len(records["test"])))]
    write_example(output / "example", shown[0])
    logs = {name: result["log_history"] for name, result in results.items()}
    probabilities = [prediction["probabilities"] for prediction in results["mm-dvp"]["predictions"]]
    gold = records["test"]["gold_images"]
    write_demo_report(output / "report.html", loaded, shown, metrics, logs, probabilities, gold)
    return metrics


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The demo's own options."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.closed_world.demo", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of all results; run again to resume")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--difficulty", choices=DIFFICULTIES, default="standard", help="of the closed world")
    parser.add_argument("--steps", type=int, help="training steps of each variant (default: those of the config)")
    parser.add_argument("--backbone-steps", type=int, help="training steps of each backbone (default: their own)")
    parser.add_argument("--articles", type=int, default=6000, help="training articles")
    parser.add_argument("--eval-articles", type=int, default=200, help="test articles")
    parser.add_argument(
        "--predictor-articles", type=int, default=1500, help="articles that train the other predictors"
    )
    parser.add_argument("--predictor-steps", type=int, default=400, help="steps that train the other predictors")
    parser.add_argument("--processes", type=int, default=2, help="variants trained at a time, one thread each")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing of the demo, then print its tables."""
    options = parse_options(argv)
    if "mm-dvp" not in options.variants:
        raise SystemExit("--variants must name mm-dvp: the report shows its summaries.")
    output = options.output
    # All its variants have the same steps.
    names = [field.name for field in dataclasses.fields(Experiment) if field.name != "variant_steps"]
    experiment = Experiment(**{name: getattr(options, name) for name in names})
    output.mkdir(parents=True, exist_ok=True)
    check_same_settings(output, {name: getattr(options, name) for name in names if name != "output"})
    # The demo compares variants on the CPU; with a GPU in sight, autograd starts threads that no fork survives.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    started = time.perf_counter()
    try:
        records = prepare_articles(experiment)
        make_backbones(experiment)
        jobs = [variant_job(name, experiment, cost=1) for name in VARIANTS if name in options.variants]
        run_jobs(jobs, processes=options.processes, description="variants")
        metrics = collect(experiment, records, processes=options.processes)
    except KeyboardInterrupt:
        raise SystemExit(f"\ninterrupted; the same command goes on from what is in {output}") from None
    print(results_table(metrics))
    print(f"\n{time.perf_counter() - started:.0f} seconds; open {output / 'report.html'}")


if __name__ == "__main__":
    main()
