"""The articles of an evaluation without their broken images, and predictions for the images that remain.

A prediction counts an article's images as the data has them, broken ones included: a file of predictions means the same
images whenever it is read, and whatever broke or was mended meanwhile. Scores are computed on the images that remain. A gold
image that is broken is none: no system could select it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import datasets
from tqdm.auto import tqdm

from spectra_sum.msmo.sources import image_counts
from spectra_sum.records.article_images import BrokenImage, UndecodedArticles, read_images

# In `metrics.json`; all are counted.
MAX_NAMED = 20


def find_broken_images(records: datasets.Dataset, places: Iterable[int]) -> list[BrokenImage]:
    """Decodes every image of the articles at the given places."""
    articles = UndecodedArticles(records)
    rows = tqdm(places, desc="checking images", unit="article", disable=None)
    return [image for index in rows for image in read_images(articles[index]).broken]


def without_broken(prediction: dict[str, Any], reference: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    One article's prediction and what it is scored against, both for the images that remain.

    Args:
        prediction (`dict`): Of [`predict_summaries`]; its `broken_images`, if it has any, are those that are left out.
        reference (`dict`): With `gold_images` and `captions`, as far as there are any.
    """
    broken = {fields[1] for fields in prediction.get("broken_images", ())}
    if not broken:
        return prediction, reference

    def moved(indices: Sequence[int]) -> list[int]:
        return [index - sum(place < index for place in broken) for index in indices if index not in broken]

    def kept(values: Sequence[Any]) -> list[Any]:
        return [value for index, value in enumerate(values) if index not in broken]

    reference = dict(reference)
    for name, change in (("gold_images", moved), ("captions", kept)):
        if name in reference:
            reference[name] = change(reference[name])
    selected, probabilities = moved(prediction["selected"]), kept(prediction["probabilities"])
    return {**prediction, "selected": selected, "probabilities": probabilities}, reference


class ReadableArticles:
    """
    The view of the records that scores are computed on: `articles[name]` is a column, with `captions` and `gold_images` of
    the images that remain.

    Args:
        records (`Dataset`): The articles.
        broken (`Iterable[BrokenImage]`): What could not be read; an image may be named twice.
    """

    def __init__(self, records: datasets.Dataset, broken: Iterable[BrokenImage]):
        self.records = records
        self.broken = sorted({(image.article, image.index): image for image in broken}.values())
        counts = image_counts(records)
        self.kept = [list(range(count)) for count in counts]
        self.rows = {name: row for row, name in enumerate(records["id"])}
        for image in self.broken:
            self.kept[self.rows[image.article]].remove(image.index)
        self._columns: dict[str, list[Any]] = {}
        for name in ("gold_images", "captions"):
            if self.broken and name in records.column_names:
                take = self._gold if name == "gold_images" else self._captions
                self._columns[name] = [take(row, values) for row, values in enumerate(records[name])]

    @property
    def column_names(self) -> list[str]:
        return self.records.column_names

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, name: str) -> Sequence[Any]:
        return self._columns[name] if name in self._columns else self.records[name]

    def image_counts(self) -> list[int]:
        """The number of images that remain of each article."""
        return list(map(len, self.kept))

    def remaining(self, predictions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Predictions that count the images of the data → predictions that count those that remain."""
        if not self.broken:
            return list(predictions)
        return [
            {
                **prediction,
                "selected": [kept.index(index) for index in prediction["selected"] if index in kept],
                "probabilities": [prediction["probabilities"][index] for index in kept if index < scored],
            }
            for prediction, kept in zip(predictions, self.kept, strict=True)
            for scored in (len(prediction["probabilities"]),)
        ]

    def stored(self, predictions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The way back: probabilities are `None` for broken images, which are listed as `broken_images`."""
        broken: dict[int, list[int]] = {}
        for image in self.broken:
            broken.setdefault(self.rows[image.article], []).append(image.index)
        placed = []
        for row, prediction in enumerate(predictions):
            if row in broken:
                kept = self.kept[row]
                scored = dict(zip(kept, prediction["probabilities"], strict=False))
                prediction = {
                    **prediction,
                    "selected": [kept[index] for index in prediction["selected"]],
                    "probabilities": [scored.get(index) for index in range(max(scored, default=-1) + 1)],
                    "broken_images": broken[row],
                }
            placed.append(prediction)
        return placed

    def counts(self, predictions: Sequence[dict[str, Any]]) -> dict[str, int]:
        """
        What is lost with the broken images, as far as there is any: `broken_images`, `broken_gold_images`,
        `broken_selected_images` (that the predictions, which count the images of the data, had selected),
        `articles_without_readable_gold` (they are left out of image precision) and `articles_made_text_only`.
        """
        rows = {self.rows[image.article] for image in self.broken}
        places = {(self.rows[image.article], image.index) for image in self.broken}
        gold = self.records["gold_images"] if self.broken else []
        counts = {
            "broken_images": len(places),
            "broken_gold_images": sum((row, index) in places for row in rows for index in gold[row]),
            "broken_selected_images": sum(
                (row, index) in places for row in rows for index in predictions[row]["selected"]
            ),
            "articles_without_readable_gold": sum(bool(gold[row]) and not self["gold_images"][row] for row in rows),
            "articles_made_text_only": sum(not self.kept[row] for row in rows),
        }
        return {name: count for name, count in counts.items() if count}

    def named(self) -> list[dict[str, Any]]:
        """The first broken images for `metrics.json`: article, image, the file's name, and the damage."""
        return [
            {
                "article": image.article,
                "image": image.index,
                "file": image.file.replace("\\", "/").rpartition("/")[2],
                "damage": image.damage.replace(image.file, "the file") if image.file else image.damage,
            }
            for image in self.broken[:MAX_NAMED]
        ]

    def notes(self) -> list[str]:
        """The remark that goes with every score, where images are missing."""
        if not self.broken:
            return []
        return [
            f"{len(self.broken)} broken images were left out; scores of images are over those that could be read, and a "
            "broken gold image counts as none. Systems are comparable where the same images were left out: "
            "--verify full looks at all of them."
        ]

    def _gold(self, row: int, gold: Sequence[int]) -> list[int]:
        kept = self.kept[row]
        return [kept.index(index) for index in gold if index in kept]

    def _captions(self, row: int, captions: Sequence[str]) -> list[str]:
        return [captions[index] for index in self.kept[row]]
