"""The controlled experiment in full: every variant of the method, over seeds and difficulties of the closed world.

python benchmarks/closed_world.py --output runs/closed_world --result benchmarks/results/closed_world.json

Two jobs of one thread run at a time. Whatever is finished stays in the output folder: interrupt it and run the same
command to go on. Each seed gets its own world, backbones and training seed; the variants of a world share all three. The
settings are those of trainer/configs/closed_world.yaml, chosen on the test articles of seed 0 in the standard world:
seed 0 is therefore not among the default seeds, and nothing is tuned per world (the SigLIP alone gets twice the steps
in the worlds "thin" and "counts", whose images it does not see otherwise). `--variants` and `--hard-variants` also take the
field's other fusions, which get the same budget of steps and are tuned no more. `--time-of RESULT` gives every variant the
steps that it makes in the time of the sampler's, by the seconds in an earlier result file.
"""

import argparse
import hashlib
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from datasets import Dataset, load_from_disk

from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.evaluation.bootstrap import paired_difference
from spectra_sum.evaluation.scores import coverage_by_article, score_articles
from spectra_sum.models.loading import load_model
from spectra_sum.msmo.closed_world import chance
from spectra_sum.msmo.closed_world_difficulty import DIFFICULTIES
from trainer.closed_world.backbones import SIGLIP_STEPS
from trainer.closed_world.experiment import (
    CONFIG,
    FIELD_VARIANTS,
    LM_ONLY,
    PAPER_VARIANTS,
    VARIANTS,
    Experiment,
    arguments_of,
    check_same_settings,
    make_siglip,
    make_text_model,
    make_tokenizer,
    prepare_articles,
    score_selections,
    select_images,
    variant_job,
)
from trainer.closed_world.jobs import Job, run_jobs
from trainer.train import write_json

HARD_VARIANTS = ("mm-dvp", "dvp", "sampler")
# Seconds that a job takes in the default size: they say how far the whole is, and nothing else.
COSTS = {"mm-dvp": 137, "dvp": 133, "dvp-no-pooled": 133, "mm-sampler": 112, "sampler": 104}
COSTS |= {"sampler-no-pooled": 104, "mm-concat": 112, "concat": 104, "text-only": 68}
COSTS |= dict.fromkeys(FIELD_VARIANTS, 104)
COSTS |= {"articles": 4, "tokenizer": 2, "siglip": 25, "text": 34, "selection": 12}
COMPARED_VARIANTS = (
    ("dvp", "sampler"),
    ("mm-dvp", "dvp"),
    ("mm-dvp", "sampler"),
    ("mm-dvp", "mm-sampler"),
    ("mm-sampler", "sampler"),
    ("mm-concat", "concat"),
    ("sampler", "concat"),
    ("sampler", "text-only"),
    ("sampler", "sampler-no-pooled"),
    ("dvp", "dvp-no-pooled"),
    *((name, other) for name in FIELD_VARIANTS for other in ("sampler", "dvp", "sampler-no-pooled")),
)
COMPARED_SELECTIONS = (
    ("vrp_joint", "vrp_article_set"),
    ("teacher", "vrp_joint"),
    ("vrp_article_set", "vrp_article"),
    ("vrp_article_set", "vrp_none"),
    ("vrp_article", "vrp_none"),
    ("teacher", "vrp_article_set"),
    ("teacher", "relevance"),
    ("teacher", "dpp_map"),
    ("teacher", "mmr"),
    ("vrp_none", "random"),
)
NOTES = (
    "Compare within a world only: the others have fewer training articles than the standard one, and thin and counts a "
    "SigLIP of twice the steps (settings). In paired, scenes are never gold, which makes selection easier.",
    "visual_facts is the share of an article's visual facts that the summary states, averaged over the articles.",
    "Variants without L_distill have an untrained relevance predictor: scores of their images are left out.",
    "over_seeds: one difference of means per seed; sd is the sample's (n - 1). over_articles: paired bootstrap over the "
    "test articles of all seeds together, with the trained models as they are: it does not see how training varies, and "
    "its p-values are not corrected for their number. An effect is claimed only where all seeds agree.",
    "In `selections`, vrp_none, vrp_article and vrp_article_set are trained alike on cached embeddings; vrp_joint is mm-dvp's "
    "own predictor (article_set). teacher, dpp_map, mmr and relevance read the reference summary; the predictors do not.",
    "Seconds are those of the machine as it was, beside other work; of an interrupted training those of its last part.",
)
_IMAGE_SCORES = ("image_precision", "hit_at_1", "recall", "coverage")


@dataclass(frozen=True)
class World:
    """A seed and a difficulty, and the variants trained there."""

    difficulty: str
    variants: tuple[str, ...]
    experiment: Experiment

    @property
    def selections(self) -> Path:
        return self.experiment.output / "selections.json"


def make_worlds(options: argparse.Namespace) -> list[World]:
    """All worlds, seed by seed: an interrupted run has the first seeds complete."""
    return [
        World(
            difficulty,
            tuple(name for name in VARIANTS if name in (options.variants if standard else options.hard_variants)),
            Experiment(
                output=options.output / f"{difficulty}-{seed}",
                seed=seed,
                difficulty=difficulty,
                articles=options.articles if standard else options.hard_articles,
                eval_articles=options.eval_articles,
                steps=options.steps,
                backbone_steps=options.backbone_steps,
                predictor_articles=options.predictor_articles,
                predictor_steps=options.predictor_steps,
                variant_steps=options.variant_steps.get(difficulty, {}),
            ),
        )
        for seed in options.seeds
        for difficulty in options.difficulties
        for standard in [difficulty == "standard"]
    ]


def jobs_of(world: World) -> list[Job]:
    """Everything there is to do in a world."""
    experiment, name = world.experiment, world.experiment.output.name
    backbones = experiment.backbones

    def job(part: str, result: Path, work: Callable[[Experiment], Any], *needs: Path) -> Job:
        log = experiment.output / "logs" / f"{part}.log"
        return Job(f"{name}/{part}", lambda report: work(experiment), result, log, COSTS[part], needs)

    jobs = [
        job("articles", experiment.output / "articles", prepare_articles),
        job("tokenizer", backbones / "tokenizer", make_tokenizer),
        job("text", backbones / "text", make_text_model, backbones / "tokenizer", experiment.output / "articles"),
        job("siglip", backbones / "siglip", make_siglip, backbones / "tokenizer"),
    ]
    jobs += [variant_job(part, experiment, cost=COSTS[part], prefix=f"{name}/") for part in world.variants]
    if "mm-dvp" in world.variants:
        jobs.append(job("selection", world.selections, make_selections, experiment.result("mm-dvp")))
    return jobs


def make_selections(experiment: Experiment) -> None:
    """Every way to select images with the model of mm-dvp, into `selections.json`."""
    loaded = load_model(str(experiment.result("mm-dvp").parent / "model"))
    records = load_from_disk(experiment.output / "articles")
    selections = select_images(loaded, experiment, records)
    content = {"selections": selections, "scores": score_selections(selections, records["test"])}
    write_json(experiment.output / "selections.json", content)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (n - 1; None for one value), extremes and the values themselves."""
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
        "values": list(values),
    }


def visual_facts_by_article(predictions: list[dict[str, Any]], test: Dataset, kinds: Iterable[str]) -> list[float]:
    """Per article the share of its visual facts that the summary states."""
    values = score_articles(predictions, test).values
    return [
        statistics.fmean(shares) for shares in zip(*(values[f"visual_facts_{kind}"] for kind in kinds), strict=True)
    ]


def differences(
    pairs: Iterable[tuple[str, str]], score: str, articles: dict[str, dict[int, list[float]]]
) -> list[dict[str, Any]]:
    """Paired differences over the seeds and over the articles, for the pairs of which both have a result.

    Args:
        pairs: Names (a, b); the difference is a - b.
        score (`str`): What is compared.
        articles: By name and seed the score of each test article.
    """
    rows = []
    for a, b in pairs:
        seeds = [seed for seed in articles.get(a, {}) if seed in articles.get(b, {})]
        if not seeds:
            continue
        flat = [list(itertools.chain.from_iterable(articles[name][seed] for seed in seeds)) for name in (a, b)]
        by_seed = [statistics.fmean(articles[a][seed]) - statistics.fmean(articles[b][seed]) for seed in seeds]
        over_articles = asdict(paired_difference(*flat))
        rows.append(
            {
                "a": a,
                "b": b,
                "score": score,
                "seeds": seeds,
                "over_seeds": spread(by_seed),
                "over_articles": over_articles,
            }
        )
    return rows


def summarize(difficulty: str, worlds: Sequence[World]) -> dict[str, Any]:
    """The results of one difficulty over its seeds, from what is finished."""
    kinds = chance(difficulty)
    runs: list[dict[str, Any]] = []
    facts: dict[str, dict[int, list[float]]] = {}
    chosen: dict[str, dict[int, list[float]]] = {}
    selection_runs: list[dict[str, Any]] = []
    for world in worlds:
        seed, folder = world.experiment.seed, world.experiment.output / "articles"
        done = [name for name in world.variants if world.experiment.result(name).is_file()]
        if not done:
            continue
        test = load_from_disk(folder)["test"]
        for name in done:
            result = json.loads(world.experiment.result(name).read_text())
            by_article = visual_facts_by_article(result["predictions"], test, kinds)
            facts.setdefault(name, {})[seed] = by_article
            scores = {**result["scores"], "visual_facts": statistics.fmean(by_article)}
            if set(LM_ONLY) <= set(VARIANTS[name]):
                scores = {score: value for score, value in scores.items() if score not in _IMAGE_SCORES}
            row = {key: result[key] for key in ("seconds", "parameters")}
            row["steps"] = arguments_of(name, world.experiment)[2].max_steps
            runs.append({"variant": name, "seed": seed, "scores": scores, **row})
        if world.selections.is_file():
            content = json.loads(world.selections.read_text())
            gold, captions = test["gold_images"], test["captions"]
            for name, selected in content["selections"].items():
                chosen.setdefault(name, {})[seed] = coverage_by_article(selected, captions, gold)
                selection_runs.append({"selection": name, "seed": seed, "scores": content["scores"][name]})
    return {
        "chance": kinds,
        "variants": over_seeds(runs, "variant"),
        "differences": differences(COMPARED_VARIANTS, "visual_facts", facts),
        "selections": over_seeds(selection_runs, "selection"),
        "selection_differences": differences(COMPARED_SELECTIONS, "coverage", chosen),
        "runs": runs,
    }


def over_seeds(runs: list[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    """By name and score the spread over the seeds."""
    names = dict.fromkeys(run[key] for run in runs)
    return {
        name: {
            score: spread([run["scores"][score] for run in own])
            for score in dict.fromkeys(score for run in own for score in run["scores"])
        }
        for name in names
        for own in [[run for run in runs if run[key] == name]]
    }


def collect(worlds: Sequence[World], options: argparse.Namespace, wall_seconds: float) -> dict[str, Any]:
    """The result file's content: what is finished, and the names of what is not."""
    results = {
        difficulty: summarize(difficulty, [world for world in worlds if world.difficulty == difficulty])
        for difficulty in options.difficulties
    }
    return {
        "results": results,
        "missing": [job.name for world in worlds for job in jobs_of(world) if not job.result.exists()],
        "notes": list(NOTES),
        "settings": {
            **settings_of(options),
            "seeds": options.seeds,
            "steps": arguments_of("mm-dvp", worlds[0].experiment)[2].max_steps,
            "siglip_steps": {name: options.backbone_steps or SIGLIP_STEPS[name] for name in options.difficulties},
        },
        "seconds": {
            "wall": wall_seconds,
            "training": sum(run["seconds"] for result in results.values() for run in result["runs"]),
        },
        "hardware": {**describe_hardware(), "processes": options.processes},
        "commit": describe_commit(),
        "versions": describe_versions(("torch", "transformers", "datasets", "evaluate", "scipy")),
    }


def tables(content: dict[str, Any]) -> str:
    """The results as text: mean ± standard deviation (least to most) over the seeds."""

    def show(value: dict[str, Any]) -> str:
        deviation = "" if value["sd"] is None else f" ±{value['sd']:.3f} ({value['min']:.3f}-{value['max']:.3f})"
        return f"{value['mean']:.3f}{deviation}"

    lines = []
    for difficulty, result in content["results"].items():
        guess = ", ".join(f"{kind} {share:.3f}" for kind, share in result["chance"].items())
        lines += ["", f"== {difficulty} (chance: {guess})"]
        shown = ["visual_facts", *(f"visual_facts_{kind}" for kind in result["chance"]), "text_facts"]
        for name, scores in result["variants"].items():
            lines.append("  ".join([f"{name:18}", *(f"{score} {show(scores[score])}" for score in shown)]))
        for name, scores in result["selections"].items():
            lines.append("  ".join([f"{name:18}", *(f"{score} {show(value)}" for score, value in scores.items())]))
        for row in (*result["differences"], *result["selection_differences"]):
            tested = row["over_articles"]
            lines.append(
                f"{row['a']} - {row['b']}: {row['score']} {show(row['over_seeds'])} over {len(row['seeds'])} seeds; "
                f"95 % [{tested['low']:.3f}, {tested['high']:.3f}], p {tested['p_value']:.3f} over "
                f"{tested['articles']} articles"
            )
    if content["missing"]:
        lines += ["", f"not finished: {', '.join(content['missing'])}"]
    return "\n".join(lines)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What every run in an output folder shares; the grid may grow."""
    names = ("steps", "backbone_steps", "articles", "hard_articles", "eval_articles", "predictor_articles")
    return {
        **{name: getattr(options, name) for name in (*names, "predictor_steps")},
        "config_sha256": hashlib.sha256(CONFIG.read_bytes()).hexdigest(),
        "variant_arguments": {name: list(arguments) for name, arguments in VARIANTS.items()},
        "full_siglip_steps": dict(SIGLIP_STEPS),
        "variant_steps": options.variant_steps,
    }


def steps_in_equal_time(content: dict[str, Any]) -> dict[str, dict[str, int]]:
    """By difficulty and variant the steps that take as long as those of the sampler, by the medians of an earlier result.

    Raises:
        SystemExit: the result lacks the sampler in one of its difficulties.
    """
    steps = {}
    for difficulty, result in content["results"].items():
        seconds = {
            name: statistics.median(run["seconds"] / run["steps"] for run in result["runs"] if run["variant"] == name)
            for name in result["variants"]
        }
        if "sampler" not in seconds:
            raise SystemExit(
                f"--time-of: the result has no sampler in the world {difficulty!r}, whose time is the budget."
            )
        budget = seconds["sampler"] * content["settings"]["steps"]
        steps[difficulty] = {name: round(budget / each) for name, each in seconds.items()}
    return steps


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The benchmark's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs; run again to resume")
    parser.add_argument("--result", type=Path, required=True, help="result file (JSON)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--difficulties", nargs="+", choices=DIFFICULTIES, default=list(DIFFICULTIES))
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(PAPER_VARIANTS), help="in the standard world"
    )
    parser.add_argument("--hard-variants", nargs="+", choices=VARIANTS, default=list(HARD_VARIANTS), help="elsewhere")
    parser.add_argument("--steps", type=int, help="training steps of each variant (default: those of the config)")
    parser.add_argument("--time-of", type=Path, metavar="RESULT", help="equal time instead of steps, by this result")
    parser.add_argument("--backbone-steps", type=int, help="training steps of each backbone (default: their own)")
    parser.add_argument("--articles", type=int, default=6000, help="training articles of the standard world")
    parser.add_argument("--hard-articles", type=int, default=4000, help="training articles of the others")
    parser.add_argument("--eval-articles", type=int, default=200, help="test articles")
    parser.add_argument("--predictor-articles", type=int, default=1500, help="articles that train other predictors")
    parser.add_argument("--predictor-steps", type=int, default=400, help="steps that train other predictors")
    parser.add_argument("--processes", type=int, default=2, help="jobs at a time, one thread each")
    parser.add_argument("--collect", action="store_true", help="write the result of what is finished, and run nothing")
    options = parser.parse_args(argv)
    options.variant_steps = {}
    if options.time_of:
        options.variant_steps = steps_in_equal_time(json.loads(options.time_of.read_text(encoding="utf-8")))
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, write the result file and print its tables."""
    options = parse_options(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    options.result.parent.mkdir(parents=True, exist_ok=True)
    check_same_settings(options.output, settings_of(options))
    # The variants are compared on the CPU; with a GPU in sight, autograd starts threads that no fork survives.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    worlds = make_worlds(options)
    clock = options.output / "wall_seconds.json"
    before = json.loads(clock.read_text())["seconds"] if clock.is_file() else 0.0
    started = time.perf_counter()
    failure = ""
    try:
        jobs = [] if options.collect else [job for world in worlds for job in jobs_of(world)]
        run_jobs(jobs, processes=options.processes, description="closed world")
    except KeyboardInterrupt:
        raise SystemExit(f"\ninterrupted; the same command goes on from what is in {options.output}") from None
    except RuntimeError as error:
        failure = str(error)
    finally:
        wall_seconds = before + time.perf_counter() - started
        write_json(clock, {"seconds": wall_seconds})
    content = collect(worlds, options, wall_seconds)
    write_json(options.result, content)
    print(tables(content))
    if failure:
        raise SystemExit(failure)


if __name__ == "__main__":
    main()
