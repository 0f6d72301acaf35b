"""How many parameters each part of the model has, in which precision, and how many of them train."""

import math
import re
from collections.abc import Mapping

from torch import nn

from trainer.trainable import GATE_PARAMETER

TRAINED = "trained"
_WRAPPERS = re.compile(r"^base_model\.model\.|modules_to_save\.default\.")


def count_parameters(model: nn.Module) -> dict[str, dict[str, int]]:
    """Parameters by part and precision.

    Args:
        model (`nn.Module`): A SPeCTrA-Sum model, with or without PEFT.

    Returns:
        {part: {precision: count, "trained": count}} in the model's order; precisions are "4-bit" and names of dtypes, without
        zeros. A 4-bit parameter counts as the many that it stands for. The copies of visual path and vision tower that
        PEFT keeps beside the trained ones are parts of their own.
    """
    counts: dict[str, dict[str, int]] = {}
    for name, parameter in model.named_parameters():
        # Only a quantized parameter of bitsandbytes has a state; its own elements are packed.
        state = getattr(parameter, "quant_state", None)
        precision = str(parameter.dtype).removeprefix("torch.") if state is None else "4-bit"
        number = parameter.numel() if state is None else math.prod(state.shape)
        part = counts.setdefault(_part(name), {TRAINED: 0})
        part[precision] = part.get(precision, 0) + number
        part[TRAINED] += number if parameter.requires_grad else 0
    return counts


def parameter_table(counts: Mapping[str, Mapping[str, int]]) -> str:
    """The counts of [`count_parameters`] as text, one line per part and one for the sum."""
    precisions = sorted({precision for part in counts.values() for precision in part} - {TRAINED})
    columns = [*precisions, TRAINED]
    total = {column: sum(part.get(column, 0) for part in counts.values()) for column in columns}
    rows = [["parameters", *columns]]
    rows += [
        [name, *(f"{part.get(column, 0):,}" for column in columns)] for name, part in [*counts.items(), ("sum", total)]
    ]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns) + 1)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def _part(name: str) -> str:
    name = _WRAPPERS.sub("", name)
    if ".lora_" in name:
        return "LoRA adapters"
    if "original_module." in name:
        return f"{name.partition('.')[0].replace('_', ' ')} before training"
    if GATE_PARAMETER.search(name):
        return "gates"
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "visual_path" else first
