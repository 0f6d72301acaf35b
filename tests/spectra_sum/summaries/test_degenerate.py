"""Which summaries are flagged as repeating themselves: cases by hand, and no reference summary at all."""

import os
from pathlib import Path

import pytest

from spectra_sum.msmo.closed_world import closed_world_dataset
from spectra_sum.msmo.layout import find_splits, parse_article
from spectra_sum.summaries.degenerate import repetition
from spectra_sum.summaries.remarks import summary_remarks


@pytest.mark.parametrize(
    ("summary", "phrase", "share"),
    [
        ("purple picture picture picture", "picture", 3 / 4),
        ("Picture picture, PICTURE picture picture", "picture", 5 / 6),
        ("!!!!!!", "!", 1),
        ("red blue red blue red blue", "red blue", 1),
        ("in the shop in the shop in the shop it said", "in the shop", 9 / 11),
        ("the sign shows red the sign shows red the sign shows red dots dots", "the sign shows red", 12 / 14),
        # A whole sentence, as greedy search repeats it until it is stopped.
        ("It rose. It rose. It rose. It ro", "it rose .", 9 / 11),
        ("One two three four five six. " * 4, "one two three four five six .", 1),
    ],
)
def test_a_phrase_that_is_most_of_the_summary(summary, phrase, share):
    assert repetition(summary) == (phrase, pytest.approx(share))
    [remark] = summary_remarks(summary)
    assert remark.kind == "degenerate_summary" and f'"{phrase}"' in remark.detail


@pytest.mark.parametrize(
    "summary",
    [
        "",
        "picture picture picture",  # three words are too few
        "picture picture",
        "the cat the dog the bird",  # half is not more than half
        "the cat saw the dog and the bird",
        "red red red blue green white black",  # 3 of 7
        "It rose and fell. It rose and fell.",  # twice is emphasis
        "aaa aaaa aaaaa aaaaaa",
    ],
)
def test_what_is_short_or_repeats_little_is_not_flagged(summary):
    assert repetition(summary) is None and summary_remarks(summary) == []


@pytest.mark.parametrize("difficulty", ["standard", "far", "paired", "thin", "counts"])
def test_no_reference_of_the_closed_world_is_flagged(difficulty):
    records = closed_world_dataset({"test": 40}, seed=1, difficulty=difficulty)["test"]
    assert [row for row in records["summary"] if repetition(" ".join(row))] == []


def data_folders():
    """The folder of real articles that SPECTRA_DATA names, or those in it, and one beside it."""
    folder = Path(os.environ.get("SPECTRA_DATA", "nowhere"))
    places = (folder, folder / "msmo_18f", folder / "msmo_openstax", folder.with_name("msmo_openstax"))
    return [place for place in places if (place / "test_data").is_dir()]


@pytest.mark.skipif(not data_folders(), reason="SPECTRA_DATA names no folder of real articles")
def test_no_reference_of_real_articles_is_flagged():
    found, count = [], 0
    for root in data_folders():
        for folder in find_splits(root).values():
            for path in (folder / "article").glob("*.txt"):
                summary = parse_article(path.read_text("utf-8")).summary
                count += 1
                # The whole, and each sentence: a short summary is one of them.
                found += [text for text in (" ".join(summary), *summary) if repetition(text)]
    assert count >= 32 and found == []
