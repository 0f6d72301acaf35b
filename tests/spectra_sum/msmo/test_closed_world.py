"""The closed world: what its texts and images tell, that they agree with the facts, and that the splits are apart."""

import hashlib
import itertools
import re

import numpy as np
import pytest

from spectra_sum.msmo.closed_world import (
    caption_pairs,
    chance,
    closed_world_dataset,
    generate_articles,
    negative_key,
)

TRENDS = {"rising", "falling", "peaking", "dipping"}
SETTINGS = {"night", "winter", "desert"}
HUES = {
    "red": (255, 0, 0),
    "yellow": (255, 255, 0),
    "green": (0, 255, 0),
    "cyan": (0, 255, 255),
    "blue": (0, 0, 255),
    "purple": (200, 0, 255),
}


@pytest.fixture(scope="module")
def articles() -> list[dict]:
    return list(generate_articles(600, seed=3, split="train"))


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def values(article: dict) -> dict[str, str]:
    return {fact["kind"]: fact["value"] for fact in article["facts"]}


def nearest_hues(pixels: np.ndarray) -> np.ndarray:
    """Of each saturated pixel the place of the hue whose direction in RGB is nearest, and -1 of the others."""
    pixels = pixels.astype(float)
    saturated = (pixels.max(-1) - pixels.min(-1) > 0.72 * pixels.max(-1)) & (pixels.max(-1) > 100)
    palette = np.array(list(HUES.values()), dtype=float)
    palette /= np.linalg.norm(palette, axis=1, keepdims=True)
    return np.where(saturated, (pixels @ palette.T).argmax(-1), -1)


def coloured(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Mask of the saturated pixels of this hue."""
    return nearest_hues(pixels) == list(HUES).index(colour)


def main_hue(pixels: np.ndarray) -> str:
    """The hue of most saturated pixels."""
    return list(HUES)[np.bincount(nearest_hues(pixels).ravel() + 1, minlength=len(HUES) + 1)[1:].argmax()]


def trend_of(pixels: np.ndarray, colour: str) -> str:
    """The trend of a chart, from how high its filled area stands at the left, in the middle and at the right."""
    height = coloured(pixels, colour).sum(0)
    left, middle, right = height[:6].mean(), height[18:30].mean(), height[-6:].mean()
    if min(left, right) < middle < max(left, right):
        return "rising" if right > left else "falling"
    return "peaking" if middle > max(left, right) else "dipping"


def setting_of(pixels: np.ndarray) -> str:
    """The setting of a scene, from its lowest rows: dark at night, white in winter, brown in the desert."""
    red, _, blue = pixels[-4:].reshape(-1, 3).mean(0)
    if red < 80:
        return "night"
    return "desert" if red - blue > 60 else "winter"


def test_the_same_seed_gives_the_same_articles_and_a_prefix(articles):
    again = list(generate_articles(300, seed=3, split="train"))
    for left, right in zip(again, articles, strict=False):
        assert {k: v for k, v in left.items() if k != "images"} == {k: v for k, v in right.items() if k != "images"}
        assert [image.tobytes() for image in left["images"]] == [image.tobytes() for image in right["images"]]
    other = next(iter(generate_articles(1, seed=4, split="train")))
    assert other["article"] != articles[0]["article"]
    assert len({article["id"] for article in articles}) == 600


def test_without_images_all_else_is_the_same(articles):
    bare = list(generate_articles(300, seed=3, split="train", with_images=False))
    assert bare == [article | {"images": []} for article in articles[:300]]
    assert list(bare[0]) == list(articles[0])


def test_text_facts_stand_in_the_text_and_visual_facts_do_not(articles):
    for article in articles:
        text = words(article["title"] + " " + article["article"])
        told = values(article)
        assert [fact["kind"] for fact in article["facts"] if fact["source"] == "image"] == ["trend", "setting"]
        assert {"group", "city", "person", "number"} == set(told) - {"trend", "setting"}
        assert {told[kind] for kind in ("group", "city", "person", "number")} <= text
        assert not (TRENDS | SETTINGS) & text
        # No other group's name misleads: the article's own is the only colour, in the title and in the first sentence.
        assert set(HUES) & text == {told["group"]}
        assert told["group"] in words(article["title"])
        assert told["group"] in words(article["article"].split(".")[0])


def test_the_summary_states_each_fact_and_no_alternative(articles):
    for article in articles:
        summary = words(" ".join(article["summary"]))
        for fact in article["facts"]:
            assert fact["value"] in summary
            assert not summary & set(fact["alternatives"])
            assert fact["value"] not in fact["alternatives"]
        trend, setting = values(article)["trend"], values(article)["setting"]
        homes = [[word in words(sentence) for sentence in article["summary"]] for word in (trend, setting)]
        assert homes == [[False, True, False], [False, False, True]]
        # A visual fact stands right after the name of its group.
        assert f"{values(article)['group']} {trend}" in article["summary"][1]
        assert f"{values(article)['group']} {setting}" in article["summary"][2]


def test_alternatives_are_all_other_values(articles):
    kinds = {fact["kind"]: set() for fact in articles[0]["facts"]}
    for article in articles:
        for fact in article["facts"]:
            kinds[fact["kind"]].add(frozenset([fact["value"], *fact["alternatives"]]))
    assert {kind: {len(found) for found in sets} for kind, sets in kinds.items()} == {
        "group": {6},
        "city": {24},
        "person": {24},
        "number": {24},
        "trend": {4},
        "setting": {3},
    }
    assert all(len(sets) == 1 for sets in kinds.values())
    assert chance() == {"trend": 1 / 4, "setting": 1 / 3}


def test_images_show_their_captions(articles):
    seen = set()
    for article in articles:
        for image, caption in zip(article["images"], article["captions"], strict=True):
            assert (image.mode, image.size) == ("RGB", (48, 48))
            pixels = np.asarray(image)
            colour = main_hue(pixels)
            assert words(caption) & set(HUES) == {colour}
            (value,) = words(caption) & (TRENDS | SETTINGS)
            assert value == (trend_of(pixels, colour) if value in TRENDS else setting_of(pixels))
            seen.add((colour, value))
    assert len(seen) == 6 * (4 + 3)


def test_gold_images_are_those_that_show_a_gold_fact(articles):
    for article in articles:
        gold = [index for index, caption in enumerate(article["captions"]) if caption in article["summary"]]
        assert article["gold_images"] == gold
        assert {article["captions"][index] for index in gold} == set(article["summary"][1:])
        assert len(gold) in (2, 3)
        assert 3 <= len(article["images"]) <= 6
        assert len(article["images"]) > len(gold)
        others = [caption for index, caption in enumerate(article["captions"]) if index not in gold]
        assert all(values(article)["group"] not in words(caption) for caption in others)
        renderings = [article["images"][index].tobytes() for index in gold]
        assert len(set(renderings)) == len(renderings)


def test_half_of_the_articles_have_a_duplicate_and_two_random_images_are_right_half_of_the_time(articles):
    duplicates = np.mean([len(article["gold_images"]) == 3 for article in articles])
    precision = np.mean([len(article["gold_images"]) / len(article["images"]) for article in articles])
    # Four standard errors of 600 draws with p = 1/2.
    assert abs(duplicates - 0.5) < 0.082
    # By the sizes: 2 of 3, 4, 5 or 6 without a duplicate, 3 of 5 or 6 with one.
    expected = (np.mean([2 / 3, 2 / 4, 2 / 5, 2 / 6]) + np.mean([3 / 5, 3 / 6])) / 2
    assert abs(precision - expected) < 0.02
    assert abs(expected - 0.5) < 0.02


def test_gold_images_stand_at_every_position(articles):
    six = [article["gold_images"] for article in articles if len(article["images"]) == 6]
    counts = np.bincount(list(itertools.chain.from_iterable(six)), minlength=6) / len(six)
    assert counts.min() > 0.3 and counts.max() < 0.55


def test_visual_facts_are_independent_of_the_text(articles):
    for kind, options in (("trend", 4), ("setting", 3)):
        for text_kind in ("group", "city", "number"):
            table: dict[str, list[str]] = {}
            for article in articles:
                table.setdefault(values(article)[text_kind], []).append(values(article)[kind])
            guessed = sum(max(found.count(value) for value in set(found)) for found in table.values())
            shuffled = [values(article)[kind] for article in articles]
            np.random.default_rng(0).shuffle(shuffled)
            by_chance = 0
            for found in table.values():
                part, shuffled = shuffled[: len(found)], shuffled[len(found) :]
                by_chance += max(part.count(value) for value in set(part))
            assert guessed / 600 < by_chance / 600 + 4 * np.sqrt((1 / options) / 600)


def test_splits_share_no_image_and_no_combination_of_text_facts():
    images, combinations = {}, {}
    for split in ("train", "validation", "test"):
        drawn = list(generate_articles(300, seed=0, split=split))
        pairs = list(caption_pairs(300, seed=0, split=split))
        of_articles = {image.tobytes() for article in drawn for image in article["images"]}
        of_pairs = {image.tobytes() for image, _, _ in pairs}
        assert not of_articles & of_pairs
        images[split] = of_articles | of_pairs
        combinations[split] = {tuple(values(a)[kind] for kind in ("city", "person", "number")) for a in drawn}
    for left, right in itertools.combinations(images, 2):
        assert not images[left] & images[right]
        assert not combinations[left] & combinations[right]


def test_caption_pairs_name_each_meaning_once():
    pairs = list(caption_pairs(1000, seed=1, split="test"))
    assert len(pairs) == 1000
    assert {meaning for _, _, meaning in pairs} == set(range(42))
    assert len({(caption, meaning) for _, caption, meaning in pairs}) == 42
    assert len({caption for _, caption, _ in pairs}) == 42
    for image, caption, _ in pairs[:200]:
        pixels = np.asarray(image)
        assert main_hue(pixels) in words(caption)
    captions = {caption for _, caption, _ in pairs}
    for article in generate_articles(50, seed=1, split="test"):
        assert set(article["captions"]) <= captions
        assert set(article["summary"][1:]) <= captions


def test_the_dataset_has_the_same_articles_and_pixels(articles):
    dataset = closed_world_dataset({"train": 300, "test": 2, "validation": 0}, seed=3)
    assert {split: len(part) for split, part in dataset.items()} == {"train": 300, "test": 2, "validation": 0}
    for index in (0, 255, 256, 299):
        row, article = dataset["train"][index], articles[index]
        assert list(row) == list(article)
        assert {k: v for k, v in row.items() if k != "images"} == {k: v for k, v in article.items() if k != "images"}
        assert all(image.mode == "RGB" for image in row["images"])
        assert [image.tobytes() for image in row["images"]] == [image.tobytes() for image in article["images"]]


def test_negative_key_is_a_hash_of_the_group_and_the_visual_facts(articles):
    facts = [
        {"kind": kind, "value": value, "alternatives": [], "source": source}
        for kind, value, source in (
            ("group", "red", "text"),
            ("city", "Oslo", "text"),
            ("trend", "rising", "image"),
            ("setting", "night", "image"),
        )
    ]
    digest = hashlib.sha256(b"group=red;setting=night;trend=rising").hexdigest()
    unsigned = int(digest[:16], 16)
    assert negative_key(facts) == (unsigned - 2**64 if unsigned >= 2**63 else unsigned)
    assert negative_key(facts[::-1]) == negative_key(facts)
    meanings = {(values(a)["group"], values(a)["trend"], values(a)["setting"]) for a in articles}
    assert len({negative_key(article["facts"]) for article in articles}) == len(meanings)
    with pytest.raises(ValueError, match="group and its visual facts"):
        negative_key(facts[1:])
    with pytest.raises(ValueError, match="group and its visual facts"):
        negative_key(facts[:2])


@pytest.mark.parametrize("function", [generate_articles, caption_pairs])
def test_bad_arguments_are_named_at_once(function):
    with pytest.raises(ValueError, match="train, validation, test"):
        function(1, seed=0, split="valid")
    with pytest.raises(ValueError, match="count must not be negative"):
        function(-1, seed=0, split="train")
    with pytest.raises(ValueError, match="train, validation, test"):
        closed_world_dataset({"dev": 1}, seed=0)
