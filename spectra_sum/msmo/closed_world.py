"""A closed world of articles with images, made by code from a seed: the method's controlled experiment.

Each article is about one group, named by a colour in its title and body. Its summary holds

- text facts (``group``, ``city``, ``person``, ``number``), which stand in the article's text;
- visual facts, which stand in no text that a summarizer reads: ``trend`` (4 values) in a chart of the group's colour
  and ``setting`` (3 values) in a scene with an emblem of the group's colour.

The other images are charts and scenes of OTHER colours with values of their own, so that an image has to be bound to
the article's group before it helps. In half of the articles one of the two relevant images (never both) appears twice,
drawn anew. ``gold_images`` holds every image that shows a gold fact, duplicates included; two of an article's images
chosen at random are right about half of the time.

That is the standard world; `spectra_sum.msmo.closed_world_difficulty` lists the harder ones.

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

from spectra_sum.msmo.closed_world_difficulty import Difficulty, difficulty_named
from spectra_sum.msmo.closed_world_images import (
    COLOURS,
    IMAGE_VALUES,
    describe_meaning,
    meaning_of,
    meanings_of,
    render_images,
)
from spectra_sum.msmo.closed_world_texts import CITIES, NUMBERS, PERSONS, SUMMARY, company_name, draft_text

TEXT_VALUES = {"group": tuple(COLOURS), "city": CITIES, "person": PERSONS, "number": NUMBERS}
MAX_SELECTED_IMAGES = 2
"""The size of a complete selection: one image per visual fact."""

_SPLITS = {"train": 0, "validation": 1, "test": 2}
_RESIDUES = {"train": range(2, 8), "validation": range(1, 2), "test": range(0, 1)}
_MODULUS = 8
_CONTENT_STREAM, _RENDERING_STREAM, _PAIR_STREAM = range(3)
_BLOCK = 256


def chance(difficulty: str = "standard") -> dict[str, float]:
    """The share of each visual fact that is right without looking at an image: one over its number of values."""
    return {kind: 1 / len(IMAGE_VALUES[kind]) for kind in difficulty_named(difficulty).visual_kinds}


def caption(meaning: int, difficulty: str = "standard") -> str:
    """The caption of an image with this meaning id: the summary's clause on the fact that it shows."""
    kind, group, value = describe_meaning(meaning)
    return difficulty_named(difficulty).captions[kind].format(group=group, value=value)


def negative_key(facts: list[dict]) -> int:
    """A stable signed 64-bit number for what an article's images say: its groups and its visual facts.

    Articles with equal keys have relevant images of equal meaning: in a contrastive loss they are no negatives of
    each other.

    Args:
        facts (`list[dict]`): the article's ``facts``, in any order.

    Raises:
        ValueError: if the facts hold no group or no visual fact.
    """
    told = {(fact["kind"], fact["value"]) for fact in facts if fact["source"] == "image" or fact["kind"] == "group"}
    if len({kind == "group" for kind, _ in told}) < 2:
        raise ValueError("negative_key needs the facts of a closed-world article: its group and its visual facts.")
    text = ";".join(f"{kind}={value}" for kind, value in sorted(told))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def generate_articles(
    count: int, *, seed: int, split: str, difficulty: str = "standard", with_images: bool = True
) -> Iterator[dict]:
    """Generates the first `count` articles of a split in flat memory; a smaller count gives a prefix of a larger one.

    Args:
        count (`int`): number of articles.
        seed (`int`): the world's seed.
        split (`str`): ``"train"``, ``"validation"`` or ``"test"``.
        difficulty (`str`, *optional*, defaults to `"standard"`): a name in
            `spectra_sum.msmo.closed_world_difficulty.DIFFICULTIES`.
        with_images (`bool`, *optional*, defaults to `True`): whether the images are drawn, which takes most of the time;
            without, `images` is empty and all else as it is.

    Yields:
        `dict`: ``id``, ``title``, ``article`` (str), ``summary`` (list of sentences), ``images`` (3 to 6 PIL images,
        RGB, 48 x 48), ``captions`` and ``alt_texts`` (one per image, the latter empty), ``gold_images`` (sorted indices
        into images) and ``facts``, a list of ``{"kind", "value", "alternatives": all other values of the kind, "source":
        "text" or "image"}``.

    Raises:
        ValueError: for an unknown split or difficulty, or a negative count.
    """
    _check(count, split)
    settings = difficulty_named(difficulty)
    return _with_pil_images(_generate_articles(count, seed, split, settings, with_images=with_images))


def caption_pairs(
    count: int, *, seed: int, split: str, difficulty: str = "standard"
) -> Iterator[tuple[Image.Image, str, int]]:
    """Generates `count` pairs ``(image, caption, meaning_id)`` with uniformly drawn meanings, for training a SigLIP.

    Pairs with equal ``meaning_id`` have equal captions and are positives of each other. The images are drawn from a
    stream of their own: none of them is an image of an article. Arguments and errors as in `generate_articles`.
    """
    _check(count, split)
    difficulty_named(difficulty)
    return _caption_pairs(count, seed, split, difficulty)


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
            "alt_texts": datasets.List(text),
            "gold_images": datasets.List(datasets.Value("int64")),
            "facts": datasets.List({"kind": text, "value": text, "alternatives": datasets.List(text), "source": text}),
        }
    )


def closed_world_dataset(sizes: dict[str, int], *, seed: int, difficulty: str = "standard") -> datasets.DatasetDict:
    """The closed world as in-memory datasets, as in ``closed_world_dataset({"train": 6000, "test": 400}, seed=0)``.

    Args:
        sizes (`dict[str, int]`): number of articles per split; keys as in `generate_articles`.
        seed (`int`): the world's seed.
        difficulty (`str`, *optional*, defaults to `"standard"`): as in `generate_articles`.
    """
    settings = difficulty_named(difficulty)
    for split, count in sizes.items():
        _check(count, split)
    features = closed_world_features()
    return datasets.DatasetDict(
        {
            split: _to_dataset(_generate_articles(count, seed, split, settings), features)
            for split, count in sizes.items()
        }
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


def _caption_pairs(count: int, seed: int, split: str, difficulty: str) -> Iterator[tuple[Image.Image, str, int]]:
    settings = difficulty_named(difficulty)
    possible = np.concatenate([meanings_of(kind) for kind in settings.image_kinds])
    for start in range(0, count, _BLOCK):
        generator = _generator(seed, split, _PAIR_STREAM, start // _BLOCK)
        meanings = possible[generator.integers(len(possible), size=_BLOCK)]
        images = render_images(meanings.tolist(), generator, thin_lines=settings.thin_lines)
        for meaning, image in zip(meanings[: count - start].tolist(), images, strict=False):
            yield Image.fromarray(image), caption(meaning, difficulty), meaning


def _with_pil_images(articles: Iterator[dict]) -> Iterator[dict]:
    for article in articles:
        yield article | {"images": [Image.fromarray(pixels) for pixels in article["images"]]}


def _generate_articles(
    count: int, seed: int, split: str, difficulty: Difficulty, *, with_images: bool = True
) -> Iterator[dict]:
    for start in range(0, count, _BLOCK):
        block = start // _BLOCK
        contents = _generator(seed, split, _CONTENT_STREAM, block)
        # Drafts and images are drawn from streams of their own: of a block only what is asked for is made.
        drafts, drawn = itertools.tee(_draft_article(contents, split, difficulty) for _ in range(_BLOCK))
        rendering = _generator(seed, split, _RENDERING_STREAM, block)
        meanings = (meaning for draft in drawn for meaning in draft["meanings"])
        images = render_images(meanings, rendering, thin_lines=difficulty.thin_lines)
        for number, draft in zip(range(start, min(count, start + _BLOCK)), drafts, strict=False):
            article = _finish_article(draft, f"{split}-{number:06d}", difficulty)
            if with_images:
                article["images"] = list(itertools.islice(images, len(draft["meanings"])))
            yield article


def _draft_article(generator: np.random.Generator, split: str, difficulty: Difficulty) -> dict:
    indices = {kind: int(generator.integers(len(values))) for kind, values in TEXT_VALUES.items()}
    groups = [indices.pop("group")]
    told = [(groups[0], kind, int(generator.integers(len(IMAGE_VALUES[kind])))) for kind in difficulty.visual_kinds]
    residue = int(generator.choice(_RESIDUES[split]))
    eighth = indices["number"] // _MODULUS
    indices["number"] = _MODULUS * eighth + (residue - indices["city"] - indices["person"]) % _MODULUS
    while len(groups) < difficulty.groups:
        groups.append(_other_colour(groups, generator))
        for kind in difficulty.visual_kinds:
            told.append((groups[-1], kind, int(generator.integers(len(IMAGE_VALUES[kind])))))

    gold = [meaning_of(kind, group, value) for group, kind, value in told]
    if generator.random() < 0.5:
        gold.append(gold[int(generator.integers(len(gold)))])
        total = int(generator.integers(5, 7))
    else:
        total = int(generator.integers(3, 7))
    others = [_other_meaning(groups, generator, difficulty) for _ in range(total - len(gold))]
    order = generator.permutation(total).tolist()
    meanings = [(gold + others)[position] for position in order]
    return {
        "groups": [TEXT_VALUES["group"][group] for group in groups],
        "values": {kind: TEXT_VALUES[kind][index] for kind, index in indices.items()},
        "told": [describe_meaning(meaning_of(kind, group, value)) for group, kind, value in told],
        "meanings": meanings,
        "gold_images": [index for index, meaning in enumerate(meanings) if meaning in gold],
        "text": draft_text(generator),
    }


def _other_colour(groups: list[int], generator: np.random.Generator) -> int:
    others = [(groups[0] + step) % len(COLOURS) for step in range(1, len(COLOURS))]
    others = [colour for colour in others if colour not in groups]
    return others[int(generator.integers(len(others)))]


def _other_meaning(groups: list[int], generator: np.random.Generator, difficulty: Difficulty) -> int:
    colour = _other_colour(groups, generator)
    first, second = difficulty.image_kinds
    kind = first if generator.random() < 0.5 else second
    return meaning_of(kind, colour, int(generator.integers(len(IMAGE_VALUES[kind]))))


def _finish_article(draft: dict, identifier: str, difficulty: Difficulty) -> dict:
    fields = {"company": company_name(draft["groups"]), **draft["values"]}
    title, body = draft["text"]
    summary = [SUMMARY.format_map(fields)]
    summary += [difficulty.captions[kind].format(group=group, value=value) for kind, group, value in draft["told"]]
    captions = [describe_meaning(meaning) for meaning in draft["meanings"]]
    return {
        "id": identifier,
        "title": title.format_map(fields),
        "article": body.format_map(fields),
        "summary": summary,
        # Their place among the columns.
        "images": [],
        "captions": [difficulty.captions[kind].format(group=group, value=value) for kind, group, value in captions],
        "alt_texts": [""] * len(captions),
        "gold_images": draft["gold_images"],
        "facts": _facts(draft),
    }


def _facts(draft: dict) -> list[dict]:
    groups = draft["groups"]
    facts = [("group", group, [other for other in COLOURS if other not in groups], "text") for group in groups]
    for kind, value in draft["values"].items():
        facts.append((kind, value, [other for other in TEXT_VALUES[kind] if other != value], "text"))
    for kind, group, value in draft["told"]:
        # Of two groups, each value is told with its group's name: the other's may be anything, its own only this.
        prefix = f"{group} " if len(groups) > 1 else ""
        others = [prefix + other for other in IMAGE_VALUES[kind] if other != value]
        facts.append((kind, prefix + value, others, "image"))
    return [dict(zip(("kind", "value", "alternatives", "source"), fact, strict=True)) for fact in facts]
