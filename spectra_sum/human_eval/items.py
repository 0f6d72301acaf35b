"""The items of a batch: which articles, in which order, under which ids; and the attention checks among them."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
from PIL import Image

from ..documents.parts import printable
from ..msmo.sources import image_counts
from .images import EncodedImage, encode_image
from .questions import HumanEvalError

CHECK_INSTRUCTION = "This is an attention check: for this item, choose {rating} for every question."
CHECK_RATINGS = (1, 2)
"""What the attention checks ask for in turn. Raters who do not read choose the middle or the upper end, and no constant
answer passes two checks in a row."""


@dataclass(frozen=True)
class Item:
    """
    One summary to be rated.

    Attributes:
        id (`str`): All that a rater learns about where the summary comes from.
        system (`str`), article_id (`str`): Where it comes from; they belong into the key only.
        expected (`int`, *optional*): The rating that an attention check asks for; `None` for all other items.
        title (`str`), article (`str`), summary (`str`): Plain text; an empty line parts the article's paragraphs.
        images (`list[EncodedImage]`): The images that the system selected, best first.
    """

    id: str
    system: str
    article_id: str
    expected: int | None
    title: str
    article: str
    summary: str
    images: list[EncodedImage]


@dataclass(frozen=True)
class Batch:
    """Items in the order in which they are shown; `articles_without_images` were left out of the sampling."""

    id: str
    items: list[Item]
    articles_without_images: int


def build_batch(
    records: datasets.Dataset,
    predictions: Mapping[str, Sequence[dict[str, Any]]],
    *,
    items: int,
    attention_checks: int,
    seed: int,
) -> Batch:
    """
    Samples articles and makes one item per article and system, in an order shuffled by the seed.

    Articles without images are not sampled: two of the four questions ask about images. The sampled articles depend on
    the data, their number and the seed, not on the systems: a later batch with other systems shows the same ones.

    An attention check looks like any other item, on an article of its own and with the summary and images of a randomly
    drawn system, but its summary ends with an instruction to choose a certain rating (1 and 2 in turn) for all
    questions. Summaries of another article are no checks: a well-written one may honestly get 5 for its text.

    Args:
        records (`datasets.Dataset`):
            Articles with `id`, `title`, `article` and `images`.
        predictions (`Mapping[str, Sequence[dict]]`):
            By system, one `{"summary", "selected"}` per record, in the records' order.
        items (`int`):
            Number of articles; the batch has this times the number of systems rated items.
        attention_checks (`int`):
            Number of attention checks.
        seed (`int`):
            Of the sampling and the order.

    Raises:
        HumanEvalError: There are too few articles with images, or an image of a sampled one cannot be decoded.
    """
    eligible = [index for index, count in enumerate(image_counts(records)) if count]
    if items + attention_checks > len(eligible):
        raise HumanEvalError(
            f"--items {items} and --attention-checks {attention_checks} need {items + attention_checks} articles with "
            f"images; the data has {len(eligible)}."
        )
    generator = random.Random(seed)
    sampled = generator.sample(eligible, items + attention_checks)
    drawn: list[tuple[int, str, int | None]] = [
        (row, system, None) for row in sampled[:items] for system in predictions
    ]
    for number, row in enumerate(sampled[items:]):
        drawn.append((row, generator.choice(list(predictions)), CHECK_RATINGS[number % len(CHECK_RATINGS)]))
    generator.shuffle(drawn)

    ids = list(records["id"])
    content = [seed, [(ids[row], system, predictions[system][row]) for row, system, _ in drawn]]
    batch_id = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    width = max(3, len(str(len(drawn))))
    return Batch(
        batch_id,
        [
            _item(
                f"item-{batch_id}-{number:0{width}d}",
                _read(records, row, ids[row]),
                system,
                predictions[system][row],
                expected,
            )
            for number, (row, system, expected) in enumerate(drawn, start=1)
        ],
        len(records) - len(eligible),
    )


def _read(records: datasets.Dataset, row: int, article_id: str) -> dict[str, Any]:
    try:
        return records[row]
    except OSError as error:
        raise HumanEvalError(
            f"article {article_id!r}: an image cannot be decoded ({error}); mend it or drop the article."
        ) from None


def _item(item_id: str, record: dict[str, Any], system: str, prediction: dict[str, Any], expected: int | None) -> Item:
    summary = _clean(prediction["summary"])
    if expected is not None:
        summary = f"{summary} {CHECK_INSTRUCTION.format(rating=expected)}".strip()
    return Item(
        id=item_id,
        system=system,
        article_id=record["id"],
        expected=expected,
        title=printable(record["title"]).strip(),
        article=_clean(record["article"]),
        summary=summary,
        images=[_encoded(record["images"][index], index, record["id"]) for index in prediction["selected"]],
    )


def _encoded(image: Image.Image, index: int, article_id: str) -> EncodedImage:
    try:
        return encode_image(image)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise HumanEvalError(
            f"article {article_id!r}: image {index} cannot be decoded ({error}); mend it or drop the article."
        ) from None


def _clean(text: str) -> str:
    return "\n".join(printable(line).rstrip() for line in text.splitlines()).strip()
