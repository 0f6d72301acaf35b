"""A closed world of articles with images, made by code from a seed: the method's controlled experiment.

Each article is about one group, named by a colour in its title and body. Its summary holds

- text facts (``group``, ``city``, ``person``, ``number``), which stand in the article's text;
- visual facts, which stand in no text that a summarizer reads: ``trend`` (4 values) in a chart of the group's colour
  and ``setting`` (3 values) in a scene with an emblem of the group's colour.

The other images are charts and scenes of OTHER colours with values of their own, so that an image has to be bound to
the article's group before it helps. In half of the articles one of the two relevant images (never both) appears twice,
drawn anew. ``gold_images`` holds every image that shows a gold fact, duplicates included; two of an article's images
chosen at random are right about half of the time.

The captions are the summary's clauses word for word (a text encoder trained on captions then fits the reference
summaries); they state the visual facts and are therefore no input of a summarizer.

Separation of the splits: every random number comes from ``SeedSequence(seed, spawn_key=(split, stream, block))``, with
one stream for the articles' contents, one for the rendering of their images and one for caption pairs; no two splits
share a stream, hence none shares an image. (city + person + number) modulo 8, taken on the values' indices, decides
an article's split, so that no combination of these three facts occurs in two splits.
"""

import hashlib
import itertools
from collections.abc import Iterator

import datasets
import numpy as np
import pyarrow as pa
from datasets.table import InMemoryTable
from PIL import Image

from spectra_sum.msmo.closed_world_images import (
    COLOURS,
    MEANINGS,
    SETTINGS,
    TRENDS,
    chart_meaning,
    describe_meaning,
    render_images,
    scene_meaning,
)

CITIES = tuple(
    "Oslo Paris Rome Berlin Madrid Lisbon Vienna Prague Dublin Athens Cairo Lagos Nairobi Delhi Tokyo Seoul Lima "
    "Quito Boston Denver Toronto Sydney Perth Dakar".split()
)
PERSONS = tuple(
    "Anna Bruno Carla David Elena Felix Grace Hugo Irene Jonas Karen Leo Maria Nils Olga Pablo Rosa Simon Tara Victor "
    "Wanda Xavier Yara Zoe".split()
)
NUMBERS = tuple(
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy".split()
)
VALUES = {
    "group": tuple(COLOURS),
    "city": CITIES,
    "person": PERSONS,
    "number": NUMBERS,
    "trend": TRENDS,
    "setting": SETTINGS,
}
VISUAL_KINDS = ("trend", "setting")
MAX_SELECTED_IMAGES = 2
"""The size of a complete selection: one image per visual fact."""

_SPLITS = {"train": 0, "validation": 1, "test": 2}
_RESIDUES = {"train": range(2, 8), "validation": range(1, 2), "test": range(0, 1)}
_MODULUS = 8
_CONTENT_STREAM, _RENDERING_STREAM, _PAIR_STREAM = range(3)
_BLOCK = 256

_CAPTIONS = {
    "trend": "The chart shows {group} {value} over the year.",
    "setting": "The picture shows the {group} {value} store.",
}
_SUMMARY = "The {group} group of {city} hired {person} and opened {number} stores."
_TITLES = (
    "News from the {group} group",
    "What the {group} group did this week",
    "The {group} group in the news",
)
_OPENINGS = (
    "The {group} group told reporters on Monday what comes next for its people and its shops.",
    "The {group} group has shared its plan for the new season with all of its partners.",
    "The {group} group gave a long interview about its work to a local paper this week.",
)
# A fact follows the same word in body and summary ("hired Maria"), as in news text: a small model can copy it.
_CITY_SENTENCES = (
    "Its main office stands in the old part of {city} near the station.",
    "The company is known as one of the oldest employers of {city} and its region.",
)
_PERSON_SENTENCES = (
    "To lead the sales team from next month on the company hired {person} from a rival.",
    "After a long search for a new director the board hired {person} in the end.",
)
_NUMBER_SENTENCES = (
    "Since last year the {group} group has opened {number} stores in other towns.",
    "With its partners the {group} group opened {number} stores this season.",
)
_FILLERS = (
    "Readers can find the figures and the pictures of the day beside this text.",
    "Several experts said that the market is hard to read at the moment.",
    "Customers were asked for their opinion and gave many different answers.",
    "A spokesman did not want to comment on the plans of other companies.",
    "Workers met after the announcement and talked about the coming months.",
    "The next report will be published at the end of the quarter.",
    "Some of the partners have worked with the company for a long time.",
    "The owners thanked everyone who had helped to make the project possible.",
)


def chance() -> dict[str, float]:
    """The share of each visual fact that is right without looking at an image: one over its number of values."""
    return {kind: 1 / len(VALUES[kind]) for kind in VISUAL_KINDS}


def caption(meaning: int) -> str:
    """The caption of an image with this meaning id: the summary's clause on the fact that it shows."""
    kind, group, value = describe_meaning(meaning)
    return _CAPTIONS[kind].format(group=group, value=value)


def negative_key(facts: list[dict]) -> int:
    """A stable signed 64-bit number for what an article's images say: its group and its visual facts.

    Articles with equal keys have relevant images of equal meaning: in a contrastive loss they are no negatives of
    each other.

    Args:
        facts (`list[dict]`): the article's ``facts``, in any order.

    Raises:
        ValueError: if the facts hold no group or no visual fact.
    """
    told = {fact["kind"]: fact["value"] for fact in facts if fact["source"] == "image" or fact["kind"] == "group"}
    if "group" not in told or len(told) < 2:
        raise ValueError("negative_key needs the facts of a closed-world article: its group and its visual facts.")
    text = ";".join(f"{kind}={told[kind]}" for kind in sorted(told))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def generate_articles(count: int, *, seed: int, split: str) -> Iterator[dict]:
    """Generates the first `count` articles of a split in flat memory; a smaller count gives a prefix of a larger one.

    Args:
        count (`int`): number of articles.
        seed (`int`): the world's seed.
        split (`str`): ``"train"``, ``"validation"`` or ``"test"``.

    Yields:
        `dict`: ``id``, ``title``, ``article`` (str), ``summary`` (list of sentences), ``images`` (3 to 6 PIL images,
        RGB, 48 x 48), ``captions`` (one per image), ``gold_images`` (sorted indices into images) and ``facts``, a list
        of ``{"kind", "value", "alternatives": all other values of the kind, "source": "text" or "image"}``.

    Raises:
        ValueError: for an unknown split or a negative count.
    """
    _check(count, split)
    return _with_pil_images(_generate_articles(count, seed, split))


def caption_pairs(count: int, *, seed: int, split: str) -> Iterator[tuple[Image.Image, str, int]]:
    """Generates `count` pairs ``(image, caption, meaning_id)`` with uniformly drawn meanings, for training a SigLIP.

    Pairs with equal ``meaning_id`` have equal captions and are positives of each other. The images are drawn from a
    stream of their own: none of them is an image of an article. Arguments and errors as in `generate_articles`.
    """
    _check(count, split)
    return _caption_pairs(count, seed, split)


def closed_world_features() -> datasets.Features:
    """The columns of the MSMO builder that a closed-world article has, and its ``facts``."""
    text = datasets.Value("string")
    return datasets.Features(
        {
            "id": text,
            "title": text,
            "article": text,
            "summary": datasets.List(text),
            "images": datasets.List(datasets.Image()),
            "captions": datasets.List(text),
            "gold_images": datasets.List(datasets.Value("int64")),
            "facts": datasets.List({"kind": text, "value": text, "alternatives": datasets.List(text), "source": text}),
        }
    )


def closed_world_dataset(sizes: dict[str, int], *, seed: int) -> datasets.DatasetDict:
    """The closed world as in-memory datasets, as in ``closed_world_dataset({"train": 6000, "test": 400}, seed=0)``.

    Args:
        sizes (`dict[str, int]`): number of articles per split; keys as in `generate_articles`.
        seed (`int`): the world's seed.
    """
    for split, count in sizes.items():
        _check(count, split)
    features = closed_world_features()
    return datasets.DatasetDict(
        {split: _to_dataset(_generate_articles(count, seed, split), features) for split, count in sizes.items()}
    )


def _to_dataset(articles: Iterator[dict], features: datasets.Features) -> datasets.Dataset:
    schema = features.arrow_schema
    tables = [schema.empty_table()]
    while rows := list(itertools.islice(articles, _BLOCK)):
        for row in rows:
            row["images"] = [{"bytes": _portable_pixmap(image), "path": None} for image in row["images"]]
        tables.append(pa.Table.from_pylist(rows, schema=schema))
    return datasets.Dataset(InMemoryTable(pa.concat_tables(tables)))


def _portable_pixmap(pixels: np.ndarray) -> bytes:
    # An uncompressed pixmap is read and written several times faster than a PNG, which saves nothing on noisy images.
    height, width, _ = pixels.shape
    return f"P6 {width} {height} 255\n".encode() + pixels.tobytes()


def _check(count: int, split: str) -> None:
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {', '.join(_SPLITS)}, got {split!r}.")
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}.")


def _generator(seed: int, split: str, stream: int, block: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SPLITS[split], stream, block)))


def _caption_pairs(count: int, seed: int, split: str) -> Iterator[tuple[Image.Image, str, int]]:
    for start in range(0, count, _BLOCK):
        generator = _generator(seed, split, _PAIR_STREAM, start // _BLOCK)
        meanings = generator.integers(MEANINGS, size=_BLOCK)
        images = render_images(meanings, generator)
        for meaning, image in zip(meanings[: count - start].tolist(), images, strict=False):
            yield Image.fromarray(image), caption(meaning), meaning


def _with_pil_images(articles: Iterator[dict]) -> Iterator[dict]:
    for article in articles:
        yield article | {"images": [Image.fromarray(pixels) for pixels in article["images"]]}


def _generate_articles(count: int, seed: int, split: str) -> Iterator[dict]:
    for start in range(0, count, _BLOCK):
        block = start // _BLOCK
        contents = _generator(seed, split, _CONTENT_STREAM, block)
        drafts = [_draft_article(contents, split) for _ in range(_BLOCK)]
        meanings = np.array([meaning for draft in drafts for meaning in draft["meanings"]])
        images = iter(render_images(meanings, _generator(seed, split, _RENDERING_STREAM, block)))
        for number, draft in enumerate(drafts[: count - start], start=start):
            article_images = list(itertools.islice(images, len(draft["meanings"])))
            yield _finish_article(draft, article_images, f"{split}-{number:06d}")


def _draft_article(generator: np.random.Generator, split: str) -> dict:
    indices = {kind: int(generator.integers(len(values))) for kind, values in VALUES.items()}
    residue = int(generator.choice(_RESIDUES[split]))
    eighth = indices["number"] // _MODULUS
    indices["number"] = _MODULUS * eighth + (residue - indices["city"] - indices["person"]) % _MODULUS

    gold = [chart_meaning(indices["group"], indices["trend"]), scene_meaning(indices["group"], indices["setting"])]
    if generator.random() < 0.5:
        gold.append(gold[int(generator.integers(2))])
        total = int(generator.integers(5, 7))
    else:
        total = int(generator.integers(3, 7))
    others = [_other_meaning(indices["group"], generator) for _ in range(total - len(gold))]
    order = generator.permutation(total).tolist()
    meanings = [(gold + others)[position] for position in order]
    return {
        "values": {kind: VALUES[kind][index] for kind, index in indices.items()},
        "meanings": meanings,
        "gold_images": [index for index, meaning in enumerate(meanings) if meaning in gold],
        "text": _draft_text(generator),
    }


def _other_meaning(group: int, generator: np.random.Generator) -> int:
    colour = (group + int(generator.integers(1, len(COLOURS)))) % len(COLOURS)
    if generator.random() < 0.5:
        return chart_meaning(colour, int(generator.integers(len(TRENDS))))
    return scene_meaning(colour, int(generator.integers(len(SETTINGS))))


def _draft_text(generator: np.random.Generator) -> tuple[str, str]:
    def pick(sentences: tuple[str, ...]) -> str:
        return sentences[int(generator.integers(len(sentences)))]

    middle = [pick(_CITY_SENTENCES), pick(_PERSON_SENTENCES), pick(_NUMBER_SENTENCES)]
    middle += [_FILLERS[index] for index in generator.permutation(len(_FILLERS))[:2].tolist()]
    body = [pick(_OPENINGS)] + [middle[index] for index in generator.permutation(len(middle)).tolist()]
    return pick(_TITLES), " ".join(body)


def _finish_article(draft: dict, images: list[np.ndarray], identifier: str) -> dict:
    values = draft["values"]
    title, body = draft["text"]
    summary = [_SUMMARY.format_map(values)]
    summary += [_CAPTIONS[kind].format(group=values["group"], value=values[kind]) for kind in VISUAL_KINDS]
    return {
        "id": identifier,
        "title": title.format_map(values),
        "article": body.format_map(values),
        "summary": summary,
        "images": images,
        "captions": [caption(meaning) for meaning in draft["meanings"]],
        "gold_images": draft["gold_images"],
        "facts": [
            {
                "kind": kind,
                "value": values[kind],
                "alternatives": [other for other in VALUES[kind] if other != values[kind]],
                "source": "image" if kind in VISUAL_KINDS else "text",
            }
            for kind in VALUES
        ],
    }
