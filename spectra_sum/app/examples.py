"""The examples of the demo: articles that suit the model, with images drawn by code."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from .drawings import DRAWINGS

NUM_CLOSED_WORLD_EXAMPLES = 3
# Of the articles that every training run leaves out, with the seed of the demo.
_CLOSED_WORLD = {"seed": 0, "split": "test"}

# Each image with its alternative text; the last of each article does not belong to it.
NEWS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "Harbour tram opens two years late",
        """\
The first trams of the new harbour line left the central station on Monday morning, two years later than planned.
The line is eleven kilometres long and joins the old town with the ferry terminal and the shipyards, where some nine
thousand people work.

Digging had stopped twice, first when workers came upon the wall of a medieval quay, and again when the price of
steel doubled. The transport authority says that the line cost 412 million euros, a third more than the council had
approved.

Some 38,000 people rode the trams on the first day, far more than the 25,000 that had been expected. "We will need
longer trains by the autumn," said the head of the authority. Shopkeepers along the quay, who had complained about
the building site for years, handed out coffee to the passengers.

A second branch to the university is to follow. The council will vote on it in spring.""",
        {
            "tram": "A tram on the quay",
            "line_map": "Map of the harbour line and its stops",
            "passengers": "Passengers per day in the first week",
            "apples": "An apple tree with ripe fruit",
        },
    ),
    (
        "Late frost costs orchards half of their apples",
        """\
Three nights of frost at the end of April have destroyed about half of this year's apple blossom in the valley, the
growers' association said on Thursday. At four degrees below zero the open flowers die within an hour.

Growers had lit candles between the rows and sprayed the trees with water, whose ice keeps a flower just warm
enough. "It saved the lower trees, but on the slope there was no water left," said one of them, whose family has
grown apples there for eighty years.

The trees had opened their flowers two weeks earlier than usual after the warmest March since measurements began.
Researchers at the state's institute warn that early blossom makes such losses more likely, although frosts
themselves have become rarer.

Prices are expected to rise from September. The state has promised loans without interest to farms that lost more
than a third.""",
        {
            "apples": "An apple tree with ripe fruit",
            "temperature": "The temperature in the orchards over five nights",
            "mountains": "The valley below the mountains",
            "tram": "A tram on the quay",
        },
    ),
)


def write_examples(folder: Path, config: Mapping[str, Any]) -> None:
    """
    Writes the examples for a model into a new folder: a folder each, with an `article.md` and its images.

    A model whose vision tower reads images of the closed world's size was trained in it, and gets unseen articles of it;
    every other model gets two short news articles of our own writing.

    Args:
        folder (`Path`): The folder.
        config (`Mapping[str, Any]`): The model's configuration.
    """
    if _is_closed_world(config):
        from spectra_sum.msmo.closed_world import generate_articles

        for article in itertools.islice(
            generate_articles(NUM_CLOSED_WORLD_EXAMPLES, **_CLOSED_WORLD), NUM_CLOSED_WORLD_EXAMPLES
        ):
            # Their captions tell what the images show, which the summarizer is to see for itself.
            images = {f"image_{number}": ("", image) for number, image in enumerate(article["images"], start=1)}
            _write_article(folder / article["id"], article["title"], article["article"], images)
        return
    for number, (title, body, drawings) in enumerate(NEWS, start=1):
        images = {name: (alt, DRAWINGS[name]()) for name, alt in drawings.items()}
        _write_article(folder / f"news-{number}", title, body, images)


def describe_examples(config: Mapping[str, Any]) -> str:
    """Where the examples for a model come from, for the card: goes on after "The examples were"."""
    if _is_closed_world(config):
        return "made by code: articles of the closed world's test split"
    return "written and drawn for this demo; they report nothing that happened"


def _is_closed_world(config: Mapping[str, Any]) -> bool:
    # The package imports datasets, which takes seconds.
    from spectra_sum.msmo.closed_world_images import SIZE

    # ResNet's configuration has none.
    return config["vision_config"].get("image_size") == SIZE


def _write_article(folder: Path, title: str, body: str, images: Mapping[str, tuple[str, Image.Image]]) -> None:
    folder.mkdir(parents=True)
    references = []
    for name, (alt, image) in images.items():
        image.save(folder / f"{name}.png")
        references.append(f"![{alt}]({name}.png)")
    (folder / "article.md").write_text("\n\n".join([f"# {title}", body, *references, ""]), encoding="utf-8")
