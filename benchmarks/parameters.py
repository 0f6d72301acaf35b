"""Parameters of each module on LLaVA-OneVision 7B and 0.5B, for the three fusions of the paper and, all new modules
together, for those of the field, from models on the meta device.

    python benchmarks/parameters.py --output benchmarks/results

No weight is read or made up: the models are built from the published dimensions, without storage. Language model: Qwen2-7B
and Qwen2-0.5B (config.json of Qwen/Qwen2-7B-Instruct and Qwen2-0.5B-Instruct) with the vocabulary that transformers'
conversion of LLaVA-OneVision leaves: two tokens more, filled up to a multiple of 64 (151936 → 152000, 152064 → 152128).
Towers: SigLIP so400m (google/siglip-so400m-patch14-384), 26 of its 27 layers without pooling head for the patches, and
the whole of it for the image embeddings. New modules: K = 24, G = {8, 16, 24}, M = 64, feed-forward 4, depth 2.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmarks.overhead_models import FIELD_MATRIX, SIZES, make_config, make_rows
from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.environment import describe_versions

MODELS = {"7b": "LLaVA-OneVision 7B", "0.5b": "LLaVA-OneVision 0.5B"}
VARIANTS = ("OneVision", "Vision Sampler", "DVP")
SETTINGS = (
    "num_latents",
    "sampler_depth",
    "sampler_feed_forward_multiplier",
    "dvp_num_layers",
    "dvp_feed_forward_multiplier",
    "gate_layers",
)
# Rows of the table, and the sums below them.
MODULES = {
    "vision_tower": "Vision tower (26 layers, no head)",
    "embedding_tower": "Embedding tower (27 layers and head)",
    "language_model": "Language model",
    "projector": "Projector",
    "sampler": "Vision Sampler",
    "deep_visual_processor": "Deep Visual Processor",
    "cross_attentions": "Gated cross-attentions",
    "gates": "Gates (α)",
    "relevance_predictor": "Visual Relevance Predictor",
    "alignment_head": "Alignment head",
}
# Of these all new modules alone are counted.
FIELD = (
    *("Adapters", "Adapters, patches", "Modulation", "Parameter-free"),
    *("Tower states", "Deep query", "K-means"),
)
SUMS = {"new": "All new modules", "total": "All", "total_with_one_tower": "All, where one tower suffices"}


def count_modules(config: SpectraSumConfig) -> dict[str, int]:
    """Parameters by module of [`MODULES`], and their [`SUMS`]; tied ones count once.

    One tower suffices where the layers that LLaVA-OneVision keeps are SigLIP's own: then the whole SigLIP is held alone.
    """
    model = _model(config)
    counts = dict.fromkeys(MODULES, 0)
    for name, parameter in model.named_parameters():
        module, _, rest = name.partition(".")
        if module == "visual_path":
            module = "gates" if rest.endswith(".alpha") else rest.partition(".")[0]
        counts[module] += parameter.numel()
    new = _new_parameters(model)
    total = sum(counts.values())
    return counts | {"new": new, "total": total, "total_with_one_tower": total - counts["vision_tower"]}


def _model(config: SpectraSumConfig) -> SpectraSumForConditionalGeneration:
    with torch.device("meta"):
        return SpectraSumForConditionalGeneration(config)


def _new_parameters(model: SpectraSumForConditionalGeneration) -> int:
    return sum(parameter.numel() for parameter in model.visual_path.parameters())


def count_all() -> dict[str, Any]:
    """The result file: for each size its dimensions and the counts of each variant."""
    sizes = {}
    for key, name in MODELS.items():
        size = SIZES[key]
        rows = {row.name: row for row in make_rows(size) if row.name in VARIANTS}
        configs = {variant: make_config(rows[variant], size) for variant in VARIANTS}
        settings = {setting: getattr(configs["DVP"], setting) for setting in SETTINGS}
        sizes[key] = {
            "model": name,
            "language_model": dict(size.text),
            "vision_tower": dict(size.tower) | {"num_hidden_layers": size.tower_layers},
            "settings": settings,
            "parameters": {variant: count_modules(config) for variant, config in configs.items()},
            "field": {
                row.name: _new_parameters(_model(make_config(row, size)))
                for row in make_rows(size, matrix=FIELD_MATRIX)
                if row.name in FIELD
            },
        }
    return {"sizes": sizes, "versions": describe_versions(("torch", "transformers"))}


def render(result: dict[str, Any]) -> str:
    """The counts as Markdown: a table of one column per size and variant, and the new modules of the field's fusions."""
    columns = [(key, variant) for key in result["sizes"] for variant in VARIANTS]
    heads = [f"{variant}, {result['sizes'][key]['model'].rpartition(' ')[2]}" for key, variant in columns]
    lines = [f"| Parameters | {' | '.join(heads)} |", "|---|" + "---:|" * len(columns)]
    for module, label in (MODULES | SUMS).items():
        cells = [result["sizes"][key]["parameters"][variant][module] for key, variant in columns]
        lines.append(f"| {label} | {' | '.join(f'{cell:,}' if cell else '–' for cell in cells)} |")
    sizes = [result["sizes"][key] for key in result["sizes"]]
    lines += ["", f"| All new modules | {' | '.join(size['model'].rpartition(' ')[2] for size in sizes)} |"]
    lines += ["|---|" + "---:|" * len(sizes)]
    for name in FIELD:
        cells = [f"{size['field'][name]:,}" for size in sizes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, help="write parameters.json and parameters.md into this folder")
    arguments = parser.parse_args()
    if arguments.output is not None and not arguments.output.is_dir():
        parser.error(f"--output {arguments.output} is no folder")
    result = count_all()
    table = render(result)
    print(table, end="")
    if arguments.output is not None:
        write_text_atomically(arguments.output / "parameters.json", json.dumps(result, indent=2) + "\n")
        write_text_atomically(arguments.output / "parameters.md", table)


if __name__ == "__main__":
    main()
