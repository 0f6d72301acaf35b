"""What a saved LoRA adapter needs beside what PEFT writes."""

import json
from pathlib import Path

from peft import PeftModel

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.models.quantization_choices import BASE_QUANTIZATION_FILE


def finish_adapter(model: PeftModel, folder: Path) -> None:
    """Complete the adapter that was just saved in `folder`: how its base is imported, and how it was quantized."""
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
