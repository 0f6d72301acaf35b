"""Trains the heads of the default dual encoder, and writes them with their settings:

python -m trainer.dual_encoder.train --data PATH_TO_MSMO_OPENSTAX --output runs/dual_encoder --export

`--recipe` names another recipe than `recipe.yaml`. Features are computed once, and kept in the output folder: an interrupted
run goes on with them. `--export` puts the heads into `spectra_sum/default_model/`, with their part of its card.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.errors import SpectraSumError
from spectra_sum.models.default_dual_encoder import FOLDER, HEADS_FILE, SETTINGS_FILE, ImageViews
from spectra_sum.models.joint_heads import load_joint_heads, save_joint_heads
from spectra_sum.models.sources import find_default_dual_encoder
from spectra_sum.models.text_encoder import MINILM_SHA256
from trainer.dual_encoder.card import dual_encoder_section, with_section
from trainer.dual_encoder.features import figure_features
from trainer.dual_encoder.figures import read_figures
from trainer.dual_encoder.training import Recipe, train_heads

RECIPE = Path(__file__).with_name("recipe.yaml")
RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "dual_encoder.json"
CARD = "README.md"
MOST_BYTES = 4_000_000


def read_recipe(file: Path = RECIPE) -> Recipe:
    """
    A recipe from its YAML file.

    Raises:
        SpectraSumError: The file cannot be read, lacks a field, or has one that is unknown.
    """
    try:
        [recipe] = HfArgumentParser(Recipe, allow_abbrev=False).parse_yaml_file(str(file))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise SpectraSumError(
            f"{file}: this is no recipe of the dual encoder: {' '.join(str(error).split())}"
        ) from None
    return recipe


def train(data: Path, output: Path, recipe: Recipe) -> dict[str, Any]:
    """
    Trains the heads, and writes `dual_encoder.safetensors` and `dual_encoder.json` into the output folder.

    Args:
        data (`Path`): Folder in the MSMO layout, whose training split is read.
        output (`Path`): Also keeps the features.
        recipe (`Recipe`): How.

    Returns:
        `dict`: The content of `dual_encoder.json`.

    Raises:
        SpectraSumError: A package or the data are missing, or the heads are too large to be shipped.
    """
    vision, _ = find_default_dual_encoder()
    views = ImageViews(tuple(recipe.sides), tuple(recipe.blocks))
    figures = [figure for figure in read_figures(data, "train") if figure.caption or figure.alt]
    features = figure_features(figures, views, output / "features")
    image, text, losses = train_heads(features, recipe)
    save_joint_heads(output / HEADS_FILE, image, text)
    size = (output / HEADS_FILE).stat().st_size
    if size > MOST_BYTES:
        raise SpectraSumError(f"the heads have {size / 1e6:.1f} MB; lower their widths to ship them.")
    settings = {
        "views": views._asdict(),
        "recipe": asdict(recipe),
        "data": data.absolute().name,
        "figures": len(figures),
        "losses": [round(loss, 4) for loss in losses],
        "vision_sha256": hashlib.sha256(vision.read_bytes()).hexdigest(),
        "text_sha256": MINILM_SHA256["model.safetensors"],
        "revision": load_joint_heads(output / HEADS_FILE).revision,
    }
    write_text_atomically(output / SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")
    return settings


def export(output: Path, folder: Path) -> list[Path]:
    """
    Puts finished heads into the default model's folder, with their section of its card.

    Args:
        output (`Path`): Of [`train`].
        folder (`Path`): The default model's.
    """
    for name in (HEADS_FILE, SETTINGS_FILE):
        shutil.copyfile(output / name, folder / name)
    settings = json.loads((output / SETTINGS_FILE).read_text(encoding="utf-8"))
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else None
    card = folder / CARD
    earlier = card.read_text(encoding="utf-8") if card.is_file() else ""
    write_text_atomically(card, with_section(earlier, dual_encoder_section(settings, results)))
    return [folder / name for name in (HEADS_FILE, SETTINGS_FILE, CARD)]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.dual_encoder.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="in the MSMO layout")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="heads, settings and features")
    parser.add_argument("--recipe", type=Path, default=RECIPE, metavar="FILE.yaml", help="default: recipe.yaml")
    parser.add_argument("--export", action="store_true", help="ship the heads in spectra_sum/default_model/")
    arguments = parser.parse_args(argv)
    try:
        recipe = read_recipe(arguments.recipe)
        settings = train(arguments.data, arguments.output, recipe)
        print(f"{settings['figures']:,} figures, loss {settings['losses'][-1]:.3f}, heads {settings['revision']}")
        files = export(arguments.output, FOLDER) if arguments.export else [arguments.output / HEADS_FILE]
    except SpectraSumError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for file in files:
        print(f"{file.stat().st_size / 1e6:8.2f} MB  {file.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
