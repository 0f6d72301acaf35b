"""`run.json`: what a training run, or the base of its adapter, was made from. Model cards are made from it."""

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from trl import ModelConfig

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.environment import describe_hardware, describe_versions
from spectra_sum.errors import SpectraSumError
from spectra_sum.models.default_dual_encoder import default_dual_encoder_identity
from spectra_sum.models.sources import EFFICIENTNET_LITE0
from spectra_sum.own_data.formats import CLOSED_WORLD
from trainer.arguments import DataArguments

RUN_RECORD = "run.json"
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "peft", "trl")
# Said also where they are the default, since a run cannot be understood without them.
DEFINING = (
    "learning_rate",
    "optim",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "max_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "bf16",
    "fp16",
    "seed",
    "visual_path_learning_rate_factor",
    "gate_learning_rate_factor",
    "train_vision_tower",
    "vision_tower_learning_rate_factor",
    "freeze_language_model",
    "generation_max_new_tokens",
    "generation_num_beams",
)


def write_run_record(
    data_args: DataArguments,
    architecture: Any,
    args: TrainingArguments,
    model_args: ModelConfig,
    articles: Mapping[str, int],
    checkpoint: str | None,
    parameters: Mapping[str, Mapping[str, int]] | None = None,
    damage: Mapping[str, Mapping[str, int]] | None = None,
) -> None:
    """
    Writes `run.json` into the output folder, in the main process only.

    A resumed run keeps the time of its first start and the broken images that it met, and gets an entry in `resumed`;
    everything else is of this start.

    Args:
        data_args, architecture, args, model_args: As parsed. Tokens are left out.
        articles (`Mapping[str, int]`): Number of articles used, by split; of streams none is known.
        checkpoint (`str`, *optional*): The checkpoint that the run goes on from.
        parameters (`Mapping`, *optional*): As [`count_parameters`] returns them.
        damage (`Mapping`, *optional*): By split how often each kind of damage was found when a dataset folder was read.

    Raises:
        ValueError: The run is resumed, and its `run.json` is damaged.
    """
    if not args.should_save:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    path = Path(args.output_dir) / RUN_RECORD
    started, resumed, kept = now, [], {}
    if checkpoint is not None:
        earlier = _read(path)
        started, resumed = earlier.get("started"), [*earlier.get("resumed", [])]
        kept = {name: earlier[name] for name in ("broken_images", "dropped") if name in earlier}
        resumed.append({"checkpoint": Path(checkpoint).name, "time": now})
    data = {**_data(data_args), "articles": dict(articles)}
    if damage:
        data["damage"] = {name: dict(counts) for name, counts in damage.items()}
    if data["source"] == CLOSED_WORLD:
        data |= {"seed": data_args.closed_world_seed, "difficulty": data_args.closed_world_difficulty}
    training = args.to_dict()
    record = {
        **kept,
        "started": started,
        "resumed": resumed,
        "seed": args.seed,
        "processes": args.world_size,
        "data": data,
        "initial_model": _source(model_args.model_name_or_path),
        "backbones": _backbones(data_args, model_args),
        "arguments": {
            "data": dataclasses.asdict(data_args),
            "architecture": {name: value for name, value in vars(architecture).items() if value is not None},
            "training": _without_defaults(args, training),
            "model": _without_defaults(model_args, dataclasses.asdict(model_args)),
        },
        "parameters": parameters or {},
        "versions": describe_versions((*PACKAGES, "bitsandbytes") if model_args.load_in_4bit else PACKAGES),
        "hardware": describe_hardware(),
    }
    if data_args.teacher is not None:
        record["teacher"] = {"name": data_args.teacher, **default_dual_encoder_identity()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(record, indent=2, sort_keys=True) + "\n")


def write_base_record(base: Path, data_args: DataArguments, model_args: ModelConfig) -> None:
    """
    Writes the `run.json` of the base that a LoRA run saves: it says that no training made these weights, and what they
    were made from.

    Args:
        base (`Path`): The base's folder.
        data_args, model_args: As parsed.
    """
    record = {
        "adapter_base": True,
        "initial_model": _source(model_args.model_name_or_path),
        "backbones": _backbones(data_args, model_args),
    }
    write_text_atomically(base / RUN_RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")


def _without_defaults(arguments: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(arguments)}
    return {
        name: value
        for name, value in values.items()
        if not name.endswith("token") and (name in DEFINING or (value is not None and value != defaults.get(name)))
    }


def _data(data_args: DataArguments) -> dict[str, str]:
    """What the data are called, and whether they are made by code, a folder, a file or a dataset of the Hub."""
    name, path = data_args.dataset, Path(data_args.dataset).expanduser()
    if name == CLOSED_WORLD or not path.exists():
        return {"name": name, "source": CLOSED_WORLD if name == CLOSED_WORLD else "hub"}
    return {"name": path.resolve().name, "source": "file" if path.is_file() else "folder"}


def _backbones(data_args: DataArguments, model_args: ModelConfig) -> dict[str, Any]:
    if model_args.model_name_or_path:
        # A second stage stands on the backbones of the first.
        return _read(Path(model_args.model_name_or_path) / RUN_RECORD).get("backbones", {})
    own = {"name": "closed_world", "source": "closed_world"} if data_args.closed_world_backbones else None
    random = {"name": "random", "source": "random"}
    return {
        "vision": _source(data_args.instructblip or data_args.vision_backbone) or own or random,
        # A LLaVA-OneVision model is where the language model comes from, and the tower that reads the patches.
        "text": _source(data_args.instructblip or data_args.llava_onevision or data_args.text_backbone) or own,
    }


def _source(name: str | None) -> dict[str, str] | None:
    """A model as it was named, and whether that is a Hub id, a folder, a file or the package's own."""
    if not name:
        return None
    path = Path(name)
    if name == "smollm2":
        source = "wheel"
    elif name == EFFICIENTNET_LITE0:
        source = "vision_wheel"
    elif path.is_file():
        source = "file"
    elif path.is_dir():
        # The closed world's backbones are known by the file that their training leaves.
        source = "closed_world" if (path / "training_settings.json").is_file() else "folder"
    else:
        source = "hub"
    return {"name": name, "source": source}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpectraSumError(f"{path}: the record of the run is damaged ({error}); restore or delete it.") from None
    if not isinstance(content, dict):
        raise SpectraSumError(f"{path}: the record of the run is no JSON object; restore or delete it.")
    return content
