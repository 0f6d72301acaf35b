"""What a saved LoRA adapter needs beside what PEFT writes."""

import json
from pathlib import Path

from peft import PeftModel

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.models.quantization_choices import BASE_QUANTIZATION_FILE
from trainer.checkpoints.adapter_card import CARD, AdapterRun, adapter_card, is_users_card


def finish_adapter(model: PeftModel, folder: Path, target: Path, run: AdapterRun) -> None:
    """Complete an adapter that was just saved: how its base is imported, how that was quantized, and its card.

    Args:
        model (`PeftModel`): The adapter in its base.
        folder (`Path`): Where it was saved.
        target (`Path`): Where its files are moved to; a card of the user's own there stays as it is.
        run (`AdapterRun`): The training, for the card.
    """
    settings = folder / "adapter_config.json"
    # PEFT names our own module, which AutoPeftModel refuses to import; AutoModel finds the base's remote code.
    content = json.loads(settings.read_text(encoding="utf-8"))
    content["auto_mapping"] = {"base_model_class": "AutoModel", "parent_library": "transformers"}
    write_text_atomically(settings, json.dumps(content, indent=2, sort_keys=True))
    if getattr(model.get_base_model(), "is_loaded_in_4bit", False):
        # Of bitsandbytes, an optional dependency.
        from spectra_sum.models.quantization import quantization_of

        quantization = quantization_of(model)
        write_text_atomically(folder / BASE_QUANTIZATION_FILE, json.dumps(quantization, indent=2) + "\n")
    if is_users_card(target / CARD):
        (folder / CARD).unlink(missing_ok=True)
    else:
        write_text_atomically(folder / CARD, adapter_card(content, run))
