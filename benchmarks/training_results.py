"""What becomes of the training benchmark's measurements: medians, paired ratios, the bar, and tables."""

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.training_models import CACHES, LOSSES, feature_bytes
from spectra_sum.atomic_write import write_text_atomically

VARIANTS = tuple(itertools.product(CACHES, LOSSES))
BAR = ("three losses / LM loss alone, both from the cache of embeddings", 1.10)
# Fewer say too little of a median.
LEAST_TURNS = 5
NOTES = (
    "step: forward and backward pass and optimizer step of one article, median; ratios are medians of the ratios of steps "
    "on the same article in the same turn.",
    "Not the paper's training: neither LoRA nor 4 bits, no autocast and no activation checkpointing. Features are on the "
    "device already: reading them and decoding images are the work of other processes.",
    "With embeddings the vision tower still runs on the images that the summarizer sees; with patches no tower runs.",
    "profile: share of one step's time. Ranges lie in the forward pass, but for backward and optimizer; the language model "
    "contains the gates, and the teacher its text tower. On a GPU each range waits for it at its beginning and end, so that "
    "the shares are those of a step without overlap.",
    "memory: on a CPU of a process per variant while it makes one step, less what the libraries took before the model was "
    "built. On a GPU torch.cuda.max_memory_allocated, without the teacher's weights where no teacher is needed.",
)


def name_of(variant: tuple[str, str]) -> str:
    """A variant's name in the result."""
    cache, losses = variant
    return f"{'no cache' if cache == 'none' else cache}, {'L_lm' if losses == 'LM' else 'three losses'}"


class Bar(NamedTuple):
    """A ratio, those of the single turns, and its limit; `met` is None where the run cannot decide it, and `reason` says why."""

    name: str
    value: float
    values: list[float]
    limit: float
    met: bool | None
    reason: str | None


def evaluate_bar(rows: Mapping[str, Any], settings: Mapping[str, Any]) -> Bar:
    """What the losses cost beside the LM loss, from the default cache."""
    row, reason = rows[name_of(("embeddings", "three"))], None
    if settings["size"] == "test":
        reason = "size test is for tests"
    elif settings["turns"] < LEAST_TURNS:
        reason = f"measured with turns {settings['turns']} (not at least {LEAST_TURNS})"
    value = row["to_lm_alone"]
    return Bar(BAR[0], value, row["ratios_to_lm_alone"], BAR[1], None if reason else value <= BAR[1], reason)


def summarize(steps: Mapping[tuple[str, str], list[dict[str, float]]], batch: Mapping[str, Any]) -> dict[str, Any]:
    """Medians per variant, and the median of the paired ratios to two others."""
    rows = {}
    for variant, entries in steps.items():
        seconds = [entry["seconds"] for entry in entries]

        def ratios(other: tuple[str, str], seconds: Sequence[float] = tuple(seconds)) -> list[float]:
            pairs = zip(seconds, (entry["seconds"] for entry in steps[other]), strict=True)
            return [mine / theirs for mine, theirs in pairs]

        rows[name_of(variant)] = {
            "seconds": {"median": statistics.median(seconds), "values": seconds},
            "steps_per_second": 1 / statistics.median(seconds),
            "to_no_cache": statistics.median(ratios(("none", variant[1]))),
            "to_lm_alone": statistics.median(ratios((variant[0], "LM"))),
            "ratios_to_lm_alone": ratios((variant[0], "LM")),
            "losses": [entry["loss"] for entry in entries],
            "cached_bytes_per_article": feature_bytes(batch[variant[0]]) if variant[0] != "none" else 0,
            "memory": {"peak": max(entry["memory"] for entry in entries)} if "memory" in entries[0] else None,
        }
    return rows


def describe_bar(bar: Mapping[str, Any]) -> str:
    """The bar in a sentence, with the range of the turns."""
    verdict = f"not decided, {bar['reason']}" if bar["met"] is None else "met" if bar["met"] else "not met"
    low, high = min(bar["values"]), max(bar["values"])
    return f"Bar: {bar['name']}: {bar['value']:.3f} ({low:.3f} to {high:.3f}), at most {bar['limit']:.2f}: {verdict}."


def render_summary(content: Mapping[str, Any]) -> str:
    """What a step costs, how much of it is the teacher's, and the bar."""
    lines = [
        "| variant | ms a step | to no cache | to L_lm alone | teacher and its text tower |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in content["rows"].items():
        cells = [f"{1e3 * row['seconds']['median']:,.0f}", f"{row['to_no_cache']:.2f}", f"{row['to_lm_alone']:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {content['profile'][name]['teacher']['share']:.1%} |")
    return "\n".join([*lines, "", _describe(content), "", describe_bar(content["bar"])]) + "\n"


def _describe(content: Mapping[str, Any]) -> str:
    settings, hardware = content["settings"], content["hardware"]
    machine = hardware["gpu"] or f"{hardware['processor']}, {hardware['threads']} threads"
    return (
        f"Size {settings['size']} ({settings['size_note']}) on {machine}; {settings['dtype']}, batch size 1, "
        f"{settings['images']} images per article ({settings['max_images']} for the summarizer), {settings['text_tokens']} "
        f"text tokens with a summary of {settings['summary_tokens']}, frozen language model, Adafactor; {settings['turns']} "
        f"turns after {settings['warmups']} warm-ups. torch {content['versions']['torch']}, transformers "
        f"{content['versions']['transformers']}."
    )


def render_markdown(content: Mapping[str, Any]) -> str:
    """The result file as tables."""
    lines = [
        "# Training with and without the feature cache",
        "",
        _describe(content),
        "",
        "| variant | ms a step | steps/s | to no cache | to L_lm alone | memory MB | cache per article MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in content["rows"].items():
        memory = row["memory"] and (row["memory"]["peak"] - row["memory"].get("before", 0)) / 1e6
        lines.append(
            f"| {name} | {1e3 * row['seconds']['median']:,.1f} | {row['steps_per_second']:.3f} | {row['to_no_cache']:.3f} | "
            f"{row['to_lm_alone']:.3f} | {'–' if memory is None else format(memory, ',.0f')} | "
            f"{row['cached_bytes_per_article'] / 1e6:.3f} |"
        )
    parts = list(next(iter(content["profile"].values()), {}))
    if parts:
        lines += ["", "Share of one step:", "", f"| variant | {' | '.join(parts)} |", "|---|" + "---:|" * len(parts)]
    for name, shares in content["profile"].items():
        lines.append(f"| {name} | {' | '.join(format(shares[part]['share'], '.1%') for part in parts)} |")
    lines += ["", describe_bar(content["bar"]), ""]
    return "\n".join([*lines, *(f"- {note}" for note in content["notes"])]) + "\n"


def write_results(output: Path, content: Mapping[str, Any]) -> None:
    """The JSON file and its table."""
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(output, json.dumps(content, indent=2) + "\n")
    write_text_atomically(output.with_suffix(".md"), render_markdown(content))
