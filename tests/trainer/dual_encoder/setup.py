"""A small dataset in the MSMO layout, and a recipe whose towers are stood in for."""

from pathlib import Path

import yaml
from PIL import Image

from trainer.dual_encoder.train import RECIPE

COLOURS = ("red", "green", "blue", "yellow", "black", "white", "purple", "orange")


def write_split(data: Path, split: str, articles: int = 4, *, texts: bool = True, books: bool = True) -> None:
    """Articles of two figures of one colour each; the second figure of every other article has no caption."""
    folder = data / f"{split}_data"
    for name in ("article", "img", "caption", "alt"):
        (folder / name).mkdir(parents=True)
    lines = ["image\tbook"]
    for number in range(articles):
        article = f"{split}{number:04x}"
        body = f"All about it, number {number}. It is old."
        (folder / "article" / f"{article}.txt").write_text(
            f"@title\n\nT\n\n@body\n\n{body}\n\n@summary\n\nAbout it.\n"
        )
        for place in range(2):
            colour = COLOURS[(2 * number + place) % len(COLOURS)]
            Image.new("RGB", (40, 30), colour).save(folder / "img" / f"{article}_{place}.jpg")
            lines.append(f"{article}_{place}.jpg\tbook{number % 2}")
            if texts:
                (folder / "alt" / f"{article}_{place}.alt").write_text(f"It shows {colour}.")
                if not (place and number % 2):
                    (folder / "caption" / f"{article}_{place}.caption").write_text(f"A {colour} figure.")
    (folder / "image_annotation.txt").write_text("None\n" * articles)
    if books:
        (folder / "sources.tsv").write_text("\n".join(lines) + "\n")


def write_recipe(file: Path, **fields: object) -> Path:
    """The recipe that is shipped, with small heads and few epochs, and these fields."""
    small = {"image_components": 3, "image_hidden": 16, "text_hidden": 16, "joint": 8, "epochs": 2, "batch_size": 8}
    file.write_text(yaml.safe_dump({**yaml.safe_load(RECIPE.read_text()), **small, **fields}))
    return file
