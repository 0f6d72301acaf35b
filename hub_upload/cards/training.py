"""The training of a run for its card: what was trained how, and the losses as table and curve."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from spectra_sum.report.charts import line_chart

from .run_facts import RunFacts
from .text import markdown, markdown_table, public_name

LOSSES = {
    "loss": "total",
    "loss_lm": "language modelling",
    "loss_align": "alignment",
    "loss_distill": "distillation",
    "eval_loss": "validation, total",
}
SPLITS = ("train", "validation", "test")
LOSS_ROWS = 10
# Legible without colours, too: every line has a pattern of its own.
COLOURS = ("#0072b2", "#c64a00", "#00805d", "#a8447f", "#4a4f59")
DASHES = ("none", "8 3", "2 3", "9 3 2 3", "5 2 1 2 1 2")


def training_table(facts: RunFacts, config: Mapping[str, Any]) -> str:
    """What was trained and how, as a Markdown table of two columns; empty where nothing is known."""
    rows = [(label, value) for label, value in _training_rows(facts, config) if value not in (None, "")]
    return markdown_table(["", "value"], [[label, markdown(value)] for label, value in rows], 2) if rows else ""


def loss_table(facts: RunFacts) -> str:
    """Some of the logged losses, first and last among them, as a Markdown table; empty without a log."""
    entries: dict[float, dict[str, Any]] = {}
    for entry in facts.log:
        values = {name: entry[name] for name in LOSSES if name in entry}
        if values:
            entries.setdefault(entry["step"], {}).update(values)
    if not entries:
        return ""
    steps = sorted(entries)
    last = len(steps) - 1
    shown = sorted({round(index * last / (LOSS_ROWS - 1)) for index in range(LOSS_ROWS)})
    names = [name for name in LOSSES if any(name in entry for entry in entries.values())]
    rows = [
        [
            f"{steps[index]:,}",
            *(f"{value:.4f}" if value is not None else "" for value in _row(entries, steps[index], names)),
        ]
        for index in shown
    ]
    return markdown_table(["step", *(LOSSES[name] for name in names)], rows, 0)


def training_curve(facts: RunFacts) -> str | None:
    """The training losses by step as an SVG document; `None` where nothing was logged."""
    series = {
        label: [(entry["step"], float(entry[name])) for entry in facts.log if name in entry]
        for name, label in LOSSES.items()
    }
    styles = {label: style for style, label in enumerate(series)}
    chart = line_chart("Training losses", {label: points for label, points in series.items() if points}, styles)
    if chart is None:
        return None
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    height = chart.axes.bottom + 52 + 16 * len(chart.lines)
    template = environment.get_template("training_curve.svg.j2")
    return template.render(chart=chart, height=height, colours=COLOURS, dashes=DASHES)


def _row(entries: Mapping[float, Mapping[str, Any]], step: float, names: list[str]) -> list[float | None]:
    return [entries[step].get(name) for name in names]


def _training_rows(facts: RunFacts, config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    record = facts.record
    arguments = record.get("arguments", {})
    training, model = arguments.get("training", {}), arguments.get("model", {})
    data_arguments, data = arguments.get("data", {}), record.get("data", {})
    hardware = record.get("hardware", {})
    articles = data.get("articles", {})
    name = data.get("name")
    if data.get("source") == "closed_world":
        name = f"the closed world, made by code (difficulty {data.get('difficulty')}, seed {data.get('seed')})"
    elif name:
        name = public_name(name, [name] if data.get("source") == "hub" else ())
    until = float("inf") if facts.steps is None else facts.steps
    epochs = next(
        (entry["epoch"] for entry in reversed(facts.log) if "epoch" in entry and entry["step"] <= until), None
    )
    return [
        ("data", name),
        ("articles", ", ".join(f"{articles[split]:,} {split}" for split in SPLITS if split in articles)),
        ("images", "withheld (text-only training)" if data_arguments.get("use_images") is False else None),
        ("losses", _losses(config) if arguments or facts.log else None),
        ("trained weights", _trained(training, model, facts) if training else None),
        ("optimizer steps", _steps(facts)),
        ("epochs", f"{epochs:.3g}" if epochs is not None else None),
        ("articles per step", _articles_per_step(training, record)),
        ("optimizer", training.get("optim")),
        ("learning rate", training.get("learning_rate")),
        ("learning rate, factor of the visual path", training.get("visual_path_learning_rate_factor")),
        ("learning rate, further factor of the gates", training.get("gate_learning_rate_factor")),
        (
            "learning rate, factor of the vision tower",
            None
            if training.get("train_vision_tower", "none") == "none"
            else training.get("vision_tower_learning_rate_factor"),
        ),
        ("schedule", training.get("lr_scheduler_type")),
        ("warm-up (steps, or share of them below 1)", training.get("warmup_steps")),
        ("weight decay", training.get("weight_decay")),
        ("gradient norm, at most", training.get("max_grad_norm")),
        (
            "mixed precision",
            next((name for name in ("bf16", "fp16") if training.get(name)), "none") if training else None,
        ),
        ("text tokens, at most", data_arguments.get("max_length")),
        ("seed", record.get("seed")),
        ("hardware", _hardware(hardware, record.get("processes"))),
        ("training time", _time(facts)),
        ("started", record["started"][:10] if isinstance(record.get("started"), str) else None),
        ("times resumed", len(record.get("resumed", ())) or None),
        ("software", ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())),
    ]


def _losses(config: Mapping[str, Any]) -> str | None:
    if "align_weight" not in config:
        return None
    parts = ["language modelling"]
    parts += [f"{config['align_weight']} × alignment"] if config["align_weight"] else []
    parts += [f"{config['distill_weight']} × distillation"] if config.get("distill_weight") else []
    return " + ".join(parts)


def _trained(training: Mapping[str, Any], model: Mapping[str, Any], facts: RunFacts) -> str:
    tower, trains_text = training.get("train_vision_tower", "none"), training.get("freeze_language_model") is False
    parts = ["visual path"]
    parts += [f"vision tower ({tower})"] if tower not in ("none", "lora") else []
    parts += ["language model"] if trains_text else []
    trained = " and ".join(parts)
    adapted = []
    if model.get("use_peft"):
        adapted.append(f"the frozen language model{' in 4-bit NF4' if model.get('load_in_4bit') else ''}")
    adapted += ["the frozen vision tower"] if tower == "lora" else []
    if adapted:
        lora = facts.adapter or {"r": model.get("lora_r"), "lora_alpha": model.get("lora_alpha")}
        shown = ", ".join(f"{key.removeprefix('lora_')} {lora[key]}" for key in ("r", "lora_alpha") if lora.get(key))
        return f"{trained}, and LoRA adapters on {' and '.join(adapted)} ({shown})"
    frozen = ([] if trains_text else ["language model"]) + (["vision tower"] if tower == "none" else [])
    if len(frozen) == 1:
        return f"{trained}; the {frozen[0]} is frozen"
    return f"{trained}; {' and '.join(frozen)} are frozen" if frozen else trained


def _steps(facts: RunFacts) -> str | None:
    if facts.steps is None or facts.last_step is None:
        return None if facts.steps is None else f"{facts.steps:,}"
    return f"{facts.steps:,} (the best checkpoint of a run of {facts.last_step:,} steps)"


def _articles_per_step(training: Mapping[str, Any], record: Mapping[str, Any]) -> int | None:
    batch = training.get("per_device_train_batch_size")
    if batch is None:
        return None
    return batch * training.get("gradient_accumulation_steps", 1) * record.get("processes", 1)


def _hardware(hardware: Mapping[str, Any], processes: int | None) -> str | None:
    if not hardware:
        return None
    device = hardware.get("gpu") or f"CPU {hardware.get('processor')}, {hardware.get('cores')} cores"
    return f"{device}, {processes} processes" if (processes or 1) > 1 else device


def _time(facts: RunFacts) -> str | None:
    seconds = next((entry["train_runtime"] for entry in reversed(facts.log) if "train_runtime" in entry), None)
    if seconds is None:
        return None
    shown = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds:.0f} seconds"
    return f"{shown} since it was resumed last" if facts.record.get("resumed") else shown
