"""The demo: trains the method and its ablations on the closed world and writes a report (`python -m trainer.demo`)."""

import argparse
import json
import multiprocessing
import os
import queue
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict, load_from_disk
from tqdm.auto import tqdm
from transformers import TrainerCallback

from spectra_sum.environment import describe_hardware, describe_versions
from spectra_sum.metrics import load_metric
from spectra_sum.msmo.closed_world import chance
from spectra_sum.pretrained import LoadedModel, load_model
from spectra_sum.scores import coverage, score_predictions
from trainer.closed_world_backbones import (
    SiglipSettings,
    TextModelSettings,
    TokenizerSettings,
    train_siglip,
    train_text_model,
    train_tokenizer,
)
from trainer.data import load_records
from trainer.demo_report import results_table, write_demo_report, write_example
from trainer.image_selection import embed_articles, select_by_each, train_predictor
from trainer.train import build_teacher, build_trainer, checkpoint_to_resume, parse_arguments, write_json

CONFIG = Path(__file__).parent / "configs" / "closed_world.yaml"
LM_ONLY = ("--align_weight", "0", "--distill_weight", "0")
# One start, one budget; what each variant changes in closed_world.yaml. The longest come first.
VARIANTS = {
    "mm-dvp": (),
    "dvp": LM_ONLY,
    "sampler": ("--fusion", "sampler", *LM_ONLY),
    "concat": ("--fusion", "concat", *LM_ONLY),
    "text-only": ("--use_images", "false", "--fusion", "sampler", *LM_ONLY),
}
TABLE_ORDER = ("text-only", "concat", "sampler", "dvp", "mm-dvp")
SELECTION_COUNT = 2
REPORTED_ARTICLES = 8


class ReportSteps(TrainerCallback):
    """Sends the number of finished steps of a variant to the parent process."""

    def __init__(self, name: str, messages: "multiprocessing.Queue"):
        self.name = name
        self.messages = messages

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.messages.put((self.name, state.global_step))


def arguments_of(name: str, output: Path, options: argparse.Namespace) -> tuple:
    """The training arguments of a variant, as `trainer/train.py` would parse them."""
    folder = output / "variants" / name
    argv = ["--config", str(CONFIG), "--output_dir", str(folder), *VARIANTS[name]]
    argv += ["--vision_backbone", str(output / "backbones" / "siglip"), "--use_cpu", "true", "--disable_tqdm", "true"]
    argv += ["--text_backbone", str(output / "backbones" / "text")]
    argv += ["--closed_world_articles", str(options.articles), "--seed", str(options.seed)]
    argv += ["--closed_world_eval_articles", str(options.eval_articles), "--closed_world_seed", str(options.seed)]
    if options.steps:
        argv += ["--max_steps", str(options.steps)]
    if folder.is_dir() and any(folder.glob("checkpoint-*")):
        argv += ["--resume_from_checkpoint", "latest"]
    return parse_arguments(argv)


def run_variant(name: str, output: Path, options: argparse.Namespace, messages: "multiprocessing.Queue") -> None:
    """Train and evaluate one variant; its model, log, predictions and scores end up in `variants/NAME`."""
    torch.set_num_threads(1)
    records = load_from_disk(output / "articles")
    data_args, architecture, args, model_args = arguments_of(name, output, options)
    trainer = build_trainer(data_args, architecture, args, model_args, records, [ReportSteps(name, messages)])
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=checkpoint_to_resume(args))
    seconds = time.perf_counter() - started
    folder = Path(args.output_dir)
    trainer.save_model(str(folder / "model"))
    predictions = trainer.predict_records(records["test"])
    scores = score_predictions(predictions, records["test"])
    model = trainer.base_model
    counted = model if data_args.use_images else model.language_model
    result = {
        "scores": scores,
        "seconds": seconds,
        "parameters": counted.num_parameters(),
        "log_history": trainer.state.log_history,
        "predictions": predictions,
    }
    write_json(folder / "result.json", result)
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def run_logged(log: Path, work: Callable[..., None], *arguments: Any) -> None:
    """Run `work` in this process with its output in a log file: the parent alone owns the terminal."""
    with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        work(*arguments)


def make_backbones(output: Path, records: DatasetDict, options: argparse.Namespace) -> None:
    """The small SigLIP, in a process of its own, beside the small text model."""
    folder, context = output / "backbones", multiprocessing.get_context("fork")
    tokenizer = train_tokenizer(folder / "tokenizer", TokenizerSettings(seed=options.seed))
    steps = {"steps": options.backbone_steps} if options.backbone_steps else {}
    siglip_settings = SiglipSettings(seed=options.seed, **steps)
    text_settings = TextModelSettings(seed=options.seed, **steps)
    log = output / "logs" / "siglip.log"
    siglip = context.Process(
        target=run_logged, args=(log, train_siglip, folder / "siglip", tokenizer, siglip_settings)
    )
    siglip.start()
    train_text_model(folder / "text", tokenizer, records["train"], text_settings)
    siglip.join()
    if siglip.exitcode:
        raise RuntimeError(f"training the small SigLIP failed; see {log}")


def run_variants(names: Sequence[str], output: Path, options: argparse.Namespace) -> None:
    """Train the variants that have no result yet, two single-thread processes at a time."""
    context = multiprocessing.get_context("fork")
    waiting = [name for name in names if not (output / "variants" / name / "result.json").is_file()]
    running: dict[str, Any] = {}
    messages = context.Queue()
    steps = dict.fromkeys(waiting, 0)
    bar = tqdm(total=len(waiting) * arguments_of("dvp", output, options)[2].max_steps, desc="variants", unit="step")
    try:
        while waiting or running:
            while waiting and len(running) < options.processes:
                name = waiting.pop(0)
                log = output / "logs" / f"{name}.log"
                running[name] = context.Process(
                    target=run_logged, args=(log, run_variant, name, output, options, messages)
                )
                running[name].start()
            try:
                name, step = messages.get(timeout=0.5)
                bar.update(step - steps[name])
                steps[name] = step
            except queue.Empty:
                pass
            bar.set_postfix_str(" ".join(f"{name}:{steps[name]}" for name in running))
            for name in [name for name, process in running.items() if not process.is_alive()]:
                if running.pop(name).exitcode:
                    raise RuntimeError(f"training {name} failed; see {output / 'logs' / f'{name}.log'}")
    finally:
        for process in running.values():
            process.terminate()
            process.join()
        bar.close()


def compare_selections(
    loaded: LoadedModel, output: Path, records: DatasetDict, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Image precision and coverage of every way to select images, on the test articles."""
    model, processor = loaded.model, loaded.processor
    teacher = build_teacher(str(output / "backbones" / "siglip"), model.config, model.device)
    max_length = arguments_of("mm-dvp", output, options)[0].max_length
    test = embed_articles(model, processor, teacher, records["test"], max_length=max_length)
    train = records["train"].select(range(min(options.predictor_articles, len(records["train"]))))
    embedded = embed_articles(model, processor, teacher, train, max_length=max_length)
    predictors = {}
    for vrp_context in ("none", "article"):
        config = type(model.config).from_dict({**model.config.to_dict(), "vrp_context": vrp_context})
        predictors[f"vrp_{vrp_context}"] = train_predictor(
            config, embedded, steps=options.predictor_steps, seed=options.seed
        )
    predictors[f"vrp_{model.config.vrp_context}"] = model.visual_path.relevance_predictor
    selections = select_by_each(predictors, test, count=SELECTION_COUNT, seed=options.seed)
    gold, captions = records["test"]["gold_images"], records["test"]["captions"]
    metric = load_metric("image_precision")
    return {
        name: {
            "image_precision": metric.compute(predictions=selected, references=gold)["image_precision"],
            "coverage": coverage(selected, captions, gold),
        }
        for name, selected in selections.items()
    }


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


def collect(output: Path, records: DatasetDict, options: argparse.Namespace) -> dict[str, Any]:
    """Put the results together: `metrics.json`, `summaries.jsonl`, `model/`, `example/` and `report.html`."""
    names = [name for name in TABLE_ORDER if (output / "variants" / name / "result.json").is_file()]
    results = {name: json.loads((output / "variants" / name / "result.json").read_text()) for name in names}
    if not (output / "model").is_dir():
        shutil.copytree(output / "variants" / "mm-dvp" / "model", output / "model.partial", dirs_exist_ok=True)
        (output / "model.partial" / "training_args.bin").unlink()
        (output / "model.partial").rename(output / "model")
    loaded = load_model(str(output / "model"))
    metrics = {
        "variants": {name: variant_row(result) for name, result in results.items()},
        "selection": compare_selections(loaded, output, records, options),
        "chance": chance(),
        "seed": options.seed,
        "versions": describe_versions(("torch", "transformers", "datasets", "evaluate")),
        "hardware": {**describe_hardware(), "processes": options.processes},
        "settings": {
            "articles": options.articles,
            "eval_articles": options.eval_articles,
            "steps": arguments_of("mm-dvp", output, options)[2].max_steps,
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
    write_demo_report(output / "report.html", loaded, shown, metrics, logs)
    return metrics


def prepare_articles(output: Path, options: argparse.Namespace) -> DatasetDict:
    """The closed world's articles, made once; every process reads them from disk."""
    folder = output / "articles"
    if not folder.is_dir():
        partial = output / "articles.partial"
        shutil.rmtree(partial, ignore_errors=True)
        load_records(arguments_of("dvp", output, options)[0]).save_to_disk(partial)
        partial.rename(folder)
    return load_from_disk(folder)


def check_same_settings(output: Path, options: argparse.Namespace) -> None:
    """Keep a folder to one set of settings: what is there was made with the ones written beside it.

    Raises:
        SystemExit: naming the settings, when the folder was made with others.
    """
    settings = {
        name: value for name, value in vars(options).items() if name not in ("output", "variants", "processes")
    }
    file = output / "settings.json"
    if file.is_file() and json.loads(file.read_text()) != settings:
        raise SystemExit(
            f"{output} was made with other settings ({file.read_text().strip()}); choose another --output."
        )
    write_json(file, settings)


def parse_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The demo's own options."""
    parser = argparse.ArgumentParser(prog="python -m trainer.demo", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of all results; run again to resume")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="default: all")
    parser.add_argument("--seed", type=int, default=0)
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
    (output / "logs").mkdir(parents=True, exist_ok=True)
    check_same_settings(output, options)
    # The demo compares variants on the CPU; with a GPU in sight, autograd starts threads that no fork survives.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)
    started = time.perf_counter()
    try:
        records = prepare_articles(output, options)
        make_backbones(output, records, options)
        run_variants([name for name in VARIANTS if name in options.variants], output, options)
        metrics = collect(output, records, options)
    except KeyboardInterrupt:
        raise SystemExit(f"\ninterrupted; the same command goes on from what is in {output}") from None
    print(results_table(metrics))
    print(f"\n{time.perf_counter() - started:.0f} seconds; open {output / 'report.html'}")


if __name__ == "__main__":
    main()
