"""What the tests of training share: a tiny model's settings, a folder with them and the backbones, and its arguments."""

from pathlib import Path
from typing import Any

import yaml

from tests.tiny import save_text_folder, save_vision_folder, tiny_tokenizer

SETTINGS = {
    "dataset": "closed_world",
    "max_length": 400,
    "num_latents": 3,
    "sampler_depth": 1,
    "dvp_num_layers": 3,
    "gate_layers": [1, 3],
    "vrp_hidden_size": 16,
    "vrp_dropout": 0.0,
    "vrp_context": "article_set",
    "max_images": 3,
    "max_candidate_images": 6,
    "max_selected_images": 2,
    "teacher_kappa": 2.0,
    "initializer_range": 0.1,
    "gate_init": 0.2,
    "use_cpu": True,
    "disable_tqdm": True,
    "report_to": "none",
    "logging_steps": 1,
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 2,
    "generation_max_new_tokens": 8,
    "freeze_language_model": False,
    "save_strategy": "no",
    "max_steps": 2,
    "learning_rate": 0.01,
    "final_evaluation": "test",
}


def write_settings(path: Path, **fields: Any) -> Path:
    """A config with the settings above; `fields` take the place of theirs, and None leaves one to its default."""
    settings = {name: value for name, value in (SETTINGS | fields).items() if value is not None}
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


def save_setup(folder: Path, fields: dict[str, Any] | None = None, **text_fields: int) -> Path:
    """`settings.yaml` with `fields`, and the backbones `vision` and `text`, whose configuration gets `text_fields`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(folder / "settings.yaml", **(fields or {}))
    tiny_tokenizer().save_pretrained(save_vision_folder(folder / "vision"))
    save_text_folder(folder / "text", **text_fields)
    return folder


def setup_arguments(setup: Path, output: Path, *argv: str) -> list[str]:
    """The command line of a training with that setup; what is in `argv` wins."""
    common = ["--config", str(setup / "settings.yaml"), "--output_dir", str(output)]
    return [*common, "--vision_backbone", str(setup / "vision"), "--text_backbone", str(setup / "text"), *argv]
