"""`spectra-sum evaluate`: scores of a model, of another system's predictions, or of a baseline, on one split."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation.choices import (
    AFTER_SUMMARY,
    BASELINES,
    DIFFICULTIES,
    EXTRACTS,
    NEED_SIMILARITY,
    NO_SELECTION,
    OWN_SELECTION,
    ROUGE_TOKENIZERS,
    SELECTIONS,
    WORD_BASELINES,
)
from ..models.kinds import DEFAULT, SPECTRA_SUM, check_any
from ..models.sources import DEFAULT_DUAL_ENCODER, DEFAULT_TEXT_ENCODER, check_text_encoder, find_default_dual_encoder
from ..own_data.columns import parse_columns
from ..own_data.formats import check_task, find_source
from ..summaries.options import OptionsError, SummaryOptions
from ..tasks.task import TASKS, Task
from .arguments import (
    UsageError,
    add_model_arguments,
    add_own_data_arguments,
    add_quantize_argument,
    add_summary_arguments,
    add_task_argument,
    add_verify_argument,
    check_quantize_argument,
    named_model,
    natural,
    options_error,
    positive,
    summary_options,
)

if TYPE_CHECKING:
    from datasets import Dataset

# Of a trained SPeCTrA-Sum.
TRAINED_NEW_TOKENS = 256
BASELINE_WORDS = 150


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the command, and adds its arguments to its parser."""
    parser.description = (
        "Writes predictions.jsonl, scores.jsonl, metrics.json and report.html. A killed run goes on where it "
        "was. Several processes: accelerate launch --multi_gpu --num_processes 2 -m spectra_sum.cli evaluate …"
    )
    source = parser.add_mutually_exclusive_group()
    add_model_arguments(source, "the default where no other system is named")
    source.add_argument("--predictions", type=Path, metavar="FILE.jsonl", help="another system's predictions")
    source.add_argument(
        "--baseline",
        choices=BASELINES,
        help="first sentences (lead-3) or words (lead), sentences that carry the article (centroid, lexrank), or those nearest "
        "to the reference (oracle)",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        required=True,
        help="closed_world, a .jsonl, .json, .csv or .parquet file, a folder (of such files, in the MSMO layout, of "
        "save_to_disk, or an imagefolder), or a Hub dataset's id",
    )
    add_own_data_arguments(data)
    add_task_argument(data)
    data.add_argument("--split", choices=("train", "validation", "test"), default="test", help="default: test")
    data.add_argument("--limit", type=positive, help="only the first articles (default: all)")
    data.add_argument("--closed-world-seed", type=natural, default=0, help="default: 0")
    data.add_argument("--closed-world-articles", type=positive, default=200, help="default: 200")
    data.add_argument("--closed-world-difficulty", choices=DIFFICULTIES, default="standard", help="default: standard")
    add_verify_argument(data)
    data.add_argument("--data-name", help="what the results call the data (default: the folder's name)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--name", help="the system's name in tables (default: from model, file or baseline)")
    parser.add_argument(
        "--baseline-words", type=positive, help="most words of lead, centroid and lexrank (default: 150)"
    )
    generation = parser.add_argument_group("generation (models)")
    generation.add_argument("--text-only", action="store_true", help="withhold the images from the summarizer")
    generation.add_argument("--batch-size", type=positive, default=8, help="articles per batch (default: 8)")
    generation.add_argument(
        "--max-length", type=positive, help="most text tokens that a trained SPeCTrA-Sum reads (default: 2048)"
    )
    add_quantize_argument(generation)
    add_summary_arguments(parser, trained_tokens=TRAINED_NEW_TOKENS)
    selection = parser.add_argument_group("image selection")
    selection.add_argument(
        "--selection",
        choices=SELECTIONS,
        help="default: a trained model's predictor (vrp), for other models by the finished summary and the images' texts "
        "(after-summary, as --select says), what the predictions hold (given), gold for oracle, random for other baselines",
    )
    selection.add_argument("--selection-count", type=positive, help="most images (default: the model's number, or 3)")
    selection.add_argument(
        "--selection-text",
        choices=("generated", "reference"),
        default="generated",
        help="summary that teacher, dpp-map, mmr and clip compare images to (default: generated)",
    )
    selection.add_argument("--beta", type=float, default=20.0, help="DPP: weight of relevance (default: 20)")
    selection.add_argument("--sigma", type=float, default=0.8, help="DPP: width of the similarity (default: 0.8)")
    selection.add_argument("--kappa", type=float, default=3.0, help="DPP: expected size of the set (default: 3)")
    selection.add_argument("--mmr-trade-off", type=float, default=0.5, help="MMR: share of relevance (default: 0.5)")
    scores = parser.add_argument_group("scores")
    scores.add_argument(
        "--similarity-model",
        metavar="FOLDER_OR_ID",
        help="SigLIP or CLIP for MaxSim, CLIPScore, distances and MMAE, or default, a small one for textbooks (default: none, "
        "and they are not computed)",
    )
    scores.add_argument("--relevance-threshold", type=float, default=0.2, help="of filtered distances (default: 0.2)")
    scores.add_argument("--bertscore-model", metavar="FOLDER_OR_ID", help="for BERTScore (default: not computed)")
    scores.add_argument("--bertscore-layers", type=positive, help="layer of its embeddings (default: the library's)")
    scores.add_argument(
        "--rouge-tokenizer",
        choices=ROUGE_TOKENIZERS,
        default="default",
        help="words that ROUGE sees: of a to z and digits (default), or of all scripts (unicode)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """
    Runs the command. Everything that can be checked is checked before a model is loaded.

    Returns:
        0; bad input is raised.
    """
    kind, source = _source(arguments)
    task = TASKS[arguments.task]
    if task.has_instructions:
        _check_task(arguments, kind, source, task)
    pretrained = kind == "model" and _is_pretrained(arguments, source)
    own = OWN_SELECTION["pretrained" if pretrained else source if kind == "baseline" else kind]
    if task.has_instructions:
        own = NO_SELECTION
    selection = arguments.selection or own
    # With instructions every model writes as a trained one does.
    summarizes = pretrained and not task.has_instructions
    _check(arguments, kind, summarizes, selection)
    # Of the scores; sampling has the option of its own.
    seed = arguments.seed or 0
    if not arguments.do_sample:
        arguments.seed = None
    options = summary_options(arguments) if summarizes else SummaryOptions(select=arguments.select)
    # These imports take seconds: a wrong argument is told at once.
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    from ..evaluation.run import EvaluationOptions, evaluate_system
    from ..evaluation.systems.sources import GenerationSettings
    from ..evaluation.systems.summarizing import SummarySettings
    from ..selection.methods import SelectionSettings

    # Unless told, accelerate joins no processes on CPUs: each would take itself for the only one.
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())
    try:
        with state.main_process_first():
            records = _records(arguments)
        evaluation = EvaluationOptions(
            kind=kind,
            source=source,
            output=arguments.output,
            name=arguments.name or _name(kind, source, selection, own, arguments),
            selection=selection,
            generation=GenerationSettings(
                arguments.batch_size,
                arguments.max_length or 2048,
                arguments.max_new_tokens or TRAINED_NEW_TOKENS,
                arguments.num_beams or 1,
                arguments.text_only,
                arguments.quantize,
            ),
            pretrained=pretrained,
            summary=SummarySettings(options, arguments.text_encoder, arguments.vision),
            baseline_words=arguments.baseline_words or BASELINE_WORDS,
            selection_settings=SelectionSettings(
                arguments.beta, arguments.sigma, arguments.kappa, mmr_trade_off=arguments.mmr_trade_off
            ),
            selection_text=arguments.selection_text,
            selection_count=arguments.selection_count,
            similarity_model=arguments.similarity_model,
            relevance_threshold=arguments.relevance_threshold,
            bertscore=_bertscore(arguments),
            rouge_tokenizer=arguments.rouge_tokenizer,
            seed=seed,
            verify=arguments.verify,
            task=task,
        )
        arguments.output.mkdir(parents=True, exist_ok=True)
        data = {"name": arguments.data_name or find_source(arguments.data).title, "split": arguments.split}
        metrics = evaluate_system(evaluation, records, data)
    except OptionsError as error:
        raise options_error(error) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    if metrics is not None:
        print(shown(metrics))
        print(f"results: {arguments.output}")
    return 0


def shown(metrics: dict[str, Any]) -> str:
    """The scores of `metrics.json` as text."""
    data = metrics["data"]
    lines = [f"{metrics['system']} on {data['name']} ({data['split']}, {data['articles']} articles)"]
    for name, score in metrics["scores"].items():
        interval = f"[{score['low']:.4f}, {score['high']:.4f}]"
        lines.append(f"  {name:<24} {score['value']:8.4f}  {interval}  {score['articles']:>6} articles")
    for name, figure in metrics.get("text_statistics", {}).items():
        interval = f"[{figure['low']:.4f}, {figure['high']:.4f}]"
        lines.append(f"  {name:<24} {figure['value']:8.4f}  {interval}  {figure['articles']:>6} articles")
    lines += [f"  not computed: {name} ({reason})" for name, reason in metrics["not_computed"].items()]
    lines += [f"  counted: {count} {name}" for name, count in metrics["dropped"].items()]
    lines += [f"  found when the folder was read: {count} {kind}" for kind, count in data.get("damage", {}).items()]
    for image in metrics["broken_images"]:
        lines.append(
            f"  broken image: article {image['article']}, {image['file']}, image {image['image'] + 1}: {image['damage']}"
        )
    lines += [f"  note: {note}" for note in metrics["notes"]]
    if metrics["broken_images"]:
        lines.append(
            "  Replace or remove the broken images, and evaluate again into another folder, to score them all."
        )
    return "\n".join(lines)


def _source(arguments: argparse.Namespace) -> tuple[str, str]:
    """The kind of system, and its name."""
    if arguments.baseline:
        return "baseline", arguments.baseline
    if arguments.predictions:
        return "predictions", str(arguments.predictions)
    return "model", named_model(arguments)


def _check_task(arguments: argparse.Namespace, kind: str, source: str, task: Task) -> None:
    """An answer selects no image, and is no part of its instruction."""
    if kind == "baseline":
        raise UsageError(
            f"--baseline takes sentences of an article, and {task.name} has none; pass --model or --predictions."
        )
    if kind == "model" and source == DEFAULT:
        raise UsageError(f"--task {task.name}: the default model writes summaries; pass --model or --predictions.")
    for name in ("selection", "selection_count", "similarity_model", "select", "vision"):
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} is about selected images, and answers of {task.name} select none; leave it out."
            )


def _is_pretrained(arguments: argparse.Namespace, model: str) -> bool:
    """Whether a model is no trained SPeCTrA-Sum; of a Hub id the configuration is fetched."""
    check_quantize_argument(arguments.quantize, arguments.model)
    check_any(model)
    from ..models.loading import find_kind

    return find_kind(model).kind != SPECTRA_SUM


def _check_summary_options(arguments: argparse.Namespace, kind: str, pretrained: bool, selection: str) -> None:
    """Every option that would do nothing is refused."""
    words, after = arguments.baseline in WORD_BASELINES, selection == AFTER_SUMMARY
    trained = kind == "model" and not pretrained
    encodes = pretrained or after or arguments.baseline in EXTRACTS
    allowed = {
        "baseline_words": words,
        "max_length": trained,
        "max_new_tokens": kind == "model",
        "num_beams": kind == "model",
        "select": after,
        "vision": after,
        "text_encoder": encodes,
        "mode": False,
    }
    defaults = {"mode": "write", "text_encoder": DEFAULT_TEXT_ENCODER, "do_sample": False}
    names = ("length", "do_sample", "temperature", "top_p", "repetition_penalty", "no_repeat_ngram_size", "long")
    for name in (*names, "captions", "threshold", *allowed):
        if getattr(arguments, name) != defaults.get(name) and not allowed.get(name, pretrained):
            option = f"--{name.replace('_', '-')}"
            advice = {
                "mode": "extracts are --baseline centroid here",
                "select": f"it says how --selection {AFTER_SUMMARY} selects; pass that, or leave it out",
                "vision": f"it belongs to --selection {AFTER_SUMMARY}; --similarity-model is what the others compare by",
                "max_length": "it is for a trained SPeCTrA-Sum; other models read what they have room for",
                "baseline_words": "it belongs to --baseline lead, centroid and lexrank",
            }.get(name, "it is for pretrained models, which are no trained SPeCTrA-Sum; leave it out here")
            raise UsageError(f"{option} does nothing for this system: {advice}.")
    if encodes and arguments.text_encoder != DEFAULT_TEXT_ENCODER or arguments.baseline in EXTRACTS:
        check_text_encoder(arguments.text_encoder)
    if arguments.vision:
        from ..models.dual_encoder import check_dual_encoder

        check_dual_encoder(arguments.vision)


def _check(arguments: argparse.Namespace, kind: str, pretrained: bool, selection: str) -> None:
    if kind != "model":
        check_quantize_argument(arguments.quantize, None)
    _check_summary_options(arguments, kind, pretrained, selection)
    check_task(find_source(arguments.data), TASKS[arguments.task])
    parse_columns(arguments.columns, TASKS[arguments.task])
    if kind == "predictions" and not arguments.predictions.is_file():
        raise UsageError(f"{arguments.predictions}: there is no such file; pass a .jsonl file of predictions.")
    if arguments.text_only and kind != "model":
        raise UsageError("--text-only withholds images from a model; leave it out here.")
    if selection == "vrp" and kind != "model":
        raise UsageError("--selection vrp is a model's own predictor; choose another --selection or pass --model.")
    if selection == "vrp" and (arguments.text_only or pretrained):
        raise UsageError("this model sees no images or has no trained predictor; choose --selection clip or random.")
    if selection == AFTER_SUMMARY and arguments.text_only:
        raise UsageError("--text-only withholds the images and their texts; choose --selection clip or random.")
    if selection == "given" and kind != "predictions":
        raise UsageError("--selection given takes what a file of predictions holds; pass --predictions.")
    if selection == "gold" and arguments.selection_count:
        raise UsageError("--selection gold takes all gold images; leave --selection-count out.")
    if arguments.similarity_model == DEFAULT_DUAL_ENCODER:
        find_default_dual_encoder()
    if selection in NEED_SIMILARITY and not arguments.similarity_model:
        raise UsageError(f"--selection {selection} compares images with text; pass --similarity-model, too.")
    if not -1 <= arguments.relevance_threshold <= 1:
        raise UsageError(f"--relevance-threshold {arguments.relevance_threshold}: it is a cosine in [-1, 1].")
    if arguments.bertscore_layers and not arguments.bertscore_model:
        raise UsageError("--bertscore-layers belongs to --bertscore-model; pass it, too.")
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UsageError(f"--output {arguments.output}: this is a file; name a folder.")


def _records(arguments: argparse.Namespace) -> "Dataset":
    from accelerate import PartialState

    from ..own_data.loading import load_split

    records = load_split(
        arguments.data,
        arguments.split,
        columns=arguments.columns,
        config=arguments.data_config,
        closed_world_seed=arguments.closed_world_seed,
        closed_world_articles=arguments.closed_world_articles,
        closed_world_difficulty=arguments.closed_world_difficulty,
        report=partial(print, file=sys.stderr) if PartialState().is_main_process else None,
        task=TASKS[arguments.task],
    )
    return records.select(range(min(arguments.limit or len(records), len(records))))


def _bertscore(arguments: argparse.Namespace) -> dict[str, Any] | None:
    if not arguments.bertscore_model:
        return None
    layers = {"num_layers": arguments.bertscore_layers} if arguments.bertscore_layers else {}
    return {"model": arguments.bertscore_model, **layers}


def _name(kind: str, source: str, selection: str, own: str, arguments: argparse.Namespace) -> str:
    name = Path(source).stem if kind == "predictions" else source
    if arguments.text_only:
        name += " text-only"
    if source in WORD_BASELINES:
        name += f"-{arguments.baseline_words or BASELINE_WORDS}w"
    if arguments.quantize:
        name += f" 4-bit {arguments.quantize}"
    return name if selection == own and kind != "baseline" else f"{name} + {selection} images"
