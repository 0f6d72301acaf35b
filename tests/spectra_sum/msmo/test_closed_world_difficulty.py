"""The closed world's difficulty settings: each changes what it says, and facts, captions and gold images stay right."""

import hashlib
import itertools
import json
import re

import numpy as np
import pytest
from scipy import ndimage

from spectra_sum.metrics import load_metric
from spectra_sum.msmo.closed_world import (
    caption,
    caption_pairs,
    chance,
    closed_world_dataset,
    generate_articles,
    negative_key,
)
from spectra_sum.msmo.closed_world_difficulty import DIFFICULTIES

COLOURS = {
    "red": (255, 0, 0),
    "yellow": (255, 255, 0),
    "green": (0, 255, 0),
    "cyan": (0, 255, 255),
    "blue": (0, 0, 255),
    "purple": (200, 0, 255),
}
TRENDS = {"rising", "falling", "peaking", "dipping"}
SETTINGS = {"night", "winter", "desert"}
COUNTS = {"single": 1, "double": 2, "triple": 3, "quadruple": 4}
HARD = ("far", "paired", "thin", "counts")
# By the difficulty, the caption that tells a fact of a colour.
CLAUSES = {
    "far": {
        "trend": "The chart shows {value} sales over the year for {group}.",
        "setting": "The picture shows a {value} store that belongs to {group}.",
    },
    "counts": {
        "trend": "The chart shows {group} {value} over the year.",
        "count": "The sign shows {group} {value} dots by the door.",
    },
}
CLAUSES["thin"] = CLAUSES["paired"] = {
    "trend": "The chart shows {group} {value} over the year.",
    "setting": "The picture shows the {group} {value} store.",
}


@pytest.fixture(scope="module")
def worlds() -> dict[str, list[dict]]:
    return {name: list(generate_articles(300, seed=3, split="train", difficulty=name)) for name in HARD}


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def told(article: dict, kind: str) -> list[str]:
    return [fact["value"] for fact in article["facts"] if fact["kind"] == kind]


def nearest_colours(pixels: np.ndarray) -> np.ndarray:
    """Of each saturated pixel the place of the colour whose direction in RGB is nearest, and -1 of the others."""
    pixels = pixels.astype(float)
    saturated = (pixels.max(-1) - pixels.min(-1) > 0.5 * pixels.max(-1)) & (pixels.max(-1) > 100)
    palette = np.array(list(COLOURS.values()), dtype=float)
    palette /= np.linalg.norm(palette, axis=1, keepdims=True)
    return np.where(saturated, (pixels @ palette.T).argmax(-1), -1)


def coloured(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Mask of the saturated pixels of this colour."""
    return nearest_colours(pixels) == list(COLOURS).index(colour)


def main_colour(pixels: np.ndarray) -> str:
    """The colour of most saturated pixels."""
    counts = np.bincount(nearest_colours(pixels).ravel() + 1, minlength=len(COLOURS) + 1)[1:]
    return list(COLOURS)[counts.argmax()]


def line_trend(mask: np.ndarray) -> str:
    """The trend of a line, from its height at the left, in the middle and at the right."""
    height = [(48 - np.nonzero(mask[:, column])[0]).mean() for column in range(48) if mask[:, column].any()]
    third = len(height) // 8
    left, right = np.mean(height[:third]), np.mean(height[-third:])
    middle = height[len(height) // 2 - third : len(height) // 2 + third]
    if max(middle) > max(left, right) + 3:
        return "peaking"
    if min(middle) < min(left, right) - 3:
        return "dipping"
    return "rising" if right > left else "falling"


def test_the_standard_world_is_what_it_was():
    # Of the articles and pairs below, as they were before there were difficulty settings.
    digest = hashlib.sha256()
    for seed, split in ((0, "test"), (3, "train"), (5, "validation")):
        for article in generate_articles(4, seed=seed, split=split):
            for image in article.pop("images"):
                digest.update(image.tobytes())
            # It had no alternative texts then.
            assert article.pop("alt_texts") == [""] * len(article["captions"])
            digest.update(json.dumps(article, sort_keys=True).encode())
        for image, text, meaning in caption_pairs(6, seed=seed, split=split, difficulty="standard"):
            digest.update(image.tobytes() + f"{text}{meaning}".encode())
    assert digest.hexdigest() == "c94ddebefa42c3fcecf76e73555fe099393b86b154ff1927d0f02419008b78ec"


@pytest.mark.parametrize("difficulty", HARD)
def test_captions_are_clauses_and_gold_images_those_that_show_a_fact(worlds, difficulty):
    clauses = CLAUSES[difficulty]
    for article in worlds[difficulty]:
        groups = told(article, "group")
        if difficulty == "paired":
            values = [value.split()[1] for value in told(article, "trend")]
            expected = [clauses["trend"].format(group=g, value=v) for g, v in zip(groups, values, strict=True)]
        else:
            expected = [
                clauses[kind].format(group=groups[0], value=value) for kind in clauses for value in told(article, kind)
            ]
        assert len(expected) == 2
        assert article["summary"][1:] == expected
        assert article["gold_images"] == [i for i, text in enumerate(article["captions"]) if text in expected]
        assert {article["captions"][index] for index in article["gold_images"]} == set(expected)
        assert len(article["gold_images"]) in (2, 3)
        assert len(article["gold_images"]) < len(article["images"]) <= 6
        others = [text for index, text in enumerate(article["captions"]) if index not in article["gold_images"]]
        assert all(not words(text) & set(groups) for text in others)
        patterns = [
            re.escape(text).replace(r"\{group\}", r"\w+").replace(r"\{value\}", r"\w+") for text in clauses.values()
        ]
        assert all(any(re.fullmatch(pattern, text) for pattern in patterns) for text in article["captions"])


@pytest.mark.parametrize("difficulty", HARD)
def test_the_reference_states_every_fact_and_no_text_tells_a_visual_one(worlds, difficulty):
    articles = worlds[difficulty]
    result = load_metric("visual_facts").compute(
        predictions=[" ".join(article["summary"]) for article in articles],
        references=[article["facts"] for article in articles],
    )
    assert result["text_facts"] == 1
    assert result["visual_facts"] == dict.fromkeys(chance(difficulty), 1.0)
    for article in articles:
        text = words(article["title"] + " " + article["article"])
        assert not text & (TRENDS | SETTINGS | set(COUNTS))
        assert text & set(COLOURS) == set(told(article, "group"))
        for fact in article["facts"]:
            assert fact["value"] not in fact["alternatives"]
            assert fact["source"] == "image" or fact["value"] in text


def test_chance_is_one_over_the_number_of_values(worlds):
    assert chance("far") == chance("thin") == {"trend": 1 / 4, "setting": 1 / 3}
    assert chance("paired") == {"trend": 1 / 4}
    assert chance("counts") == {"trend": 1 / 4, "count": 1 / 4}
    for difficulty, articles in worlds.items():
        for fact in (fact for article in articles for fact in article["facts"] if fact["source"] == "image"):
            assert 1 + len(fact["alternatives"]) == 1 / chance(difficulty)[fact["kind"]]


def test_far_values_stand_before_their_key(worlds):
    for article in worlds["far"]:
        (group,) = told(article, "group")
        for sentence, kind in zip(article["summary"][1:], ("trend", "setting"), strict=True):
            order = sentence.rstrip(".").split()
            assert order[-1] == group
            assert order.index(group) - order.index(*told(article, kind)) >= 5


def test_a_pair_of_trends_is_bound_to_its_groups():
    metric = load_metric("visual_facts")
    articles = list(generate_articles(200, seed=1, split="test", difficulty="paired"))
    both = {values: [] for values in itertools.product((True, False), repeat=2)}
    swapped, half, equal = [], [], []
    for article in articles:
        first, second = told(article, "group")
        assert first != second
        (one, trend), (other, other_trend) = (value.split() for value in told(article, "trend"))
        assert (one, other) == (first, second)
        swapped.append(
            f"The chart shows {first} {other_trend} over the year. The chart shows {second} {trend} over the year."
        )
        half.append(f"The chart shows {first} {trend} over the year.")
        equal.append(trend == other_trend)
        both[(trend == other_trend, trend in ("rising", "falling"))].append(article["id"])
    facts = [article["facts"] for article in articles]
    for summaries, expected in ((swapped, list(map(float, equal))), (half, [0.5] * len(articles))):
        result = metric.compute(predictions=summaries, references=facts, per_example=True)
        assert result["per_example"]["visual_facts_trend"] == expected
        assert result["visual_facts"]["trend"] == sum(expected) / len(expected)
    assert all(both.values())


def test_negative_keys_of_pairs_do_not_depend_on_the_order_of_the_groups(worlds):
    meanings = {}
    for article in worlds["paired"]:
        key = negative_key(article["facts"])
        assert meanings.setdefault(key, frozenset(told(article, "trend"))) == frozenset(told(article, "trend"))
    assert len(set(meanings.values())) == len(meanings)
    facts = worlds["paired"][0]["facts"]
    assert negative_key(facts[::-1]) == negative_key(facts)


def test_thin_charts_are_lines_that_show_their_trend(worlds):
    right, seen = [], set()
    for article in worlds["thin"]:
        for image, text in zip(article["images"], article["captions"], strict=True):
            if not (found := words(text) & TRENDS):
                continue
            pixels = np.asarray(image)
            (colour,) = words(text) & set(COLOURS)
            assert main_colour(pixels) == colour
            mask = coloured(pixels, colour)
            # About two pixels across: measured along the line, whose length is its steps from column to column.
            columns = [np.nonzero(mask[:, column])[0].mean() for column in range(48) if mask[:, column].any()]
            length = np.hypot(1, np.diff(columns)).sum()
            assert 1 < mask.sum() / length < 3
            right.append({line_trend(mask)} == found)
            seen.add((colour, *found))
    assert len(seen) == 6 * 4
    assert all(right)


def test_the_charts_of_a_pair_show_their_captions(worlds):
    shown = set()
    for article in worlds["paired"]:
        for image, text in zip(article["images"], article["captions"], strict=True):
            if not (found := words(text) & TRENDS):
                continue
            (colour,) = words(text) & set(COLOURS)
            mask = coloured(np.asarray(image), colour)
            # The upper edge of the filled area.
            assert {line_trend(mask & (mask.cumsum(0) == 1))} == found
            shown.add((colour, *found))
    assert len(shown) == 6 * 4


def test_signs_show_as_many_dots_as_they_say(worlds):
    areas: dict[str, list[int]] = {value: [] for value in COUNTS}
    seen = set()
    for article in worlds["counts"]:
        for image, text in zip(article["images"], article["captions"], strict=True):
            if not (found := words(text) & set(COUNTS)):
                continue
            (value,) = found
            pixels = np.asarray(image)
            (colour,) = words(text) & set(COLOURS)
            assert main_colour(pixels) == colour
            parts, number = ndimage.label(ndimage.median_filter(coloured(pixels, colour), 3))
            sizes = np.bincount(parts.ravel())[1:]
            assert (number, sizes.min() > 20) == (COUNTS[value], True)
            areas[value].append(int(sizes.sum()))
            seen.add((colour, value))
    assert len(seen) == 6 * 4
    # The coloured area tells nothing of the number.
    means = [np.mean(area) for area in areas.values()]
    assert max(means) / min(means) < 1.15


def test_thin_and_far_have_the_contents_of_the_standard_world(worlds):
    for index, article in enumerate(generate_articles(300, seed=3, split="train")):
        thin, far = worlds["thin"][index], worlds["far"][index]
        assert {k: v for k, v in thin.items() if k != "images"} == {k: v for k, v in article.items() if k != "images"}
        assert {k: far[k] for k in ("title", "article", "facts", "gold_images")} == {
            k: article[k] for k in ("title", "article", "facts", "gold_images")
        }
        assert [image.tobytes() for image in far["images"]] == [image.tobytes() for image in article["images"]]


@pytest.mark.parametrize("difficulty", HARD)
def test_splits_share_no_image_and_no_combination_of_text_facts(difficulty):
    images, combinations = {}, {}
    for split in ("train", "validation", "test"):
        drawn = list(generate_articles(200, seed=0, split=split, difficulty=difficulty))
        pairs = caption_pairs(200, seed=0, split=split, difficulty=difficulty)
        of_articles = {image.tobytes() for article in drawn for image in article["images"]}
        of_pairs = {image.tobytes() for image, _, _ in pairs}
        assert not of_articles & of_pairs
        images[split] = of_articles | of_pairs
        combinations[split] = {tuple(told(a, kind)[0] for kind in ("city", "person", "number")) for a in drawn}
    for left, right in itertools.combinations(images, 2):
        assert not images[left] & images[right]
        assert not combinations[left] & combinations[right]


@pytest.mark.parametrize("difficulty", HARD)
def test_caption_pairs_name_each_meaning_of_the_world_once(difficulty):
    pairs = list(caption_pairs(1000, seed=1, split="test", difficulty=difficulty))
    captions = {text for _, text, _ in pairs}
    assert len(captions) == len({meaning for _, _, meaning in pairs}) == (48 if difficulty == "counts" else 42)
    assert all(text == caption(meaning, difficulty) for _, text, meaning in pairs)
    for article in generate_articles(50, seed=1, split="test", difficulty=difficulty):
        assert set(article["captions"]) | set(article["summary"][1:]) <= captions


def test_the_dataset_has_the_articles_of_its_difficulty(worlds):
    rows = closed_world_dataset({"train": 3}, seed=3, difficulty="paired")["train"]
    for row, article in zip(rows, worlds["paired"], strict=False):
        assert row["facts"] == article["facts"]
        assert [image.tobytes() for image in row["images"]] == [image.tobytes() for image in article["images"]]


def test_unknown_difficulties_are_named_at_once():
    assert list(DIFFICULTIES) == ["standard", "far", "paired", "thin", "counts"]
    for make in (generate_articles, caption_pairs):
        with pytest.raises(ValueError, match="standard, far, paired, thin, counts, got 'hard'"):
            make(1, seed=0, split="train", difficulty="hard")
    with pytest.raises(ValueError, match="got 'hard'"):
        closed_world_dataset({"train": 1}, seed=0, difficulty="hard")
    with pytest.raises(ValueError, match="got 'hard'"):
        chance("hard")
