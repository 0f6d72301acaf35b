"""Repetition and novelty of summaries, counted by hand."""

import pytest

from spectra_sum.evaluation.repetition_and_novelty import novelty, text_statistics
from spectra_sum.evaluation.result_files import interval_scores
from spectra_sum.extraction.phrases import repeats_itself

PHRASE = "the ship was red"


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("", False),
        ("the the the", False),
        # Four equal words are one phrase, six are three.
        ("no no no no no", False),
        ("no no no no no no", True),
        (f"{PHRASE}, {PHRASE}.", False),
        (f"{PHRASE} and {PHRASE.upper()}; then\n{PHRASE}!", True),
    ],
)
def test_a_phrase_three_times(summary, expected):
    assert repeats_itself(summary) is expected


@pytest.mark.parametrize(
    ("summary", "body", "expected"),
    [
        ("Three words only", "Three words only", None),
        ("The storm closed the harbour.", "On Monday the storm closed THE harbour again.", 0.0),
        # storm-closed-the-harbour is known; the-big-storm-closed and big-storm-closed-the are not.
        ("The big storm closed the harbour", "the storm closed the harbour", 2 / 3),
        ("a b c d", "a b c x d", 1.0),
        # Each occurrence counts: a-b-c-d twice, b-c-d-a, c-d-a-b, d-a-b-c.
        ("a b c d a b c d", "a b c d", 3 / 5),
    ],
)
def test_the_share_of_new_phrases(summary, body, expected):
    assert novelty(summary, body) == (None if expected is None else pytest.approx(expected))


def test_statistics_of_a_split():
    statistics = text_statistics(["no no no no no no", "Hi there."], ["no", ""])
    assert statistics.values == {"words": [6.0, 2.0], "repeats_itself": [1.0, 0.0], "novelty": [1.0, None]}
    found = interval_scores(statistics, seed=0)
    assert found["words"]["value"] == 4 and found["repeats_itself"]["value"] == 0.5
    assert (found["novelty"]["value"], found["novelty"]["articles"]) == (1.0, 1)
