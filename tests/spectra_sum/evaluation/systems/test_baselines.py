"""The baselines' sentences, against hand-made articles and an enumeration with another ROUGE implementation."""

from collections import Counter

import pytest

from spectra_sum.evaluation.systems.baselines import article_sentences, lead, oracle

ARTICLE = (
    "Rain fell on the city all day. Nobody was hurt in the storm.\n\nTwo bridges were closed on Monday\nby the mayor. "
    "Dr. Ash said the river rose. Trains ran late. Schools will open again on Friday."
)
REFERENCE = ["Two bridges were closed on Monday.", "Schools open again on Friday."]


def test_line_breaks_are_no_sentence_ends():
    assert article_sentences(ARTICLE)[2:4] == [
        "Two bridges were closed on Monday by the mayor.",
        "Dr. Ash said the river rose.",
    ]
    assert article_sentences(" \n ") == []


def test_lead():
    assert lead(ARTICLE) == (
        "Rain fell on the city all day. Nobody was hurt in the storm. Two bridges were closed on Monday by the mayor."
    )
    assert lead(ARTICLE, 1) == "Rain fell on the city all day."
    assert lead("Only one.") == "Only one."
    assert lead("") == ""


def test_oracle_takes_the_sentences_of_the_reference_in_the_bodys_order():
    # "Schools …" shares 4 of 5 words and 3 of 4 bigrams, more than "Two bridges …" relative to its length; a third
    # sentence would only cost precision.
    expected = "Two bridges were closed on Monday by the mayor. Schools will open again on Friday."
    assert oracle(ARTICLE, REFERENCE) == expected
    assert oracle(ARTICLE, REFERENCE[::-1]) == expected


def test_oracle_keeps_to_the_count():
    words = ["alpha beta", "gamma delta", "epsilon zeta", "eta theta"]
    article = " ".join(f"{pair.capitalize()}." for pair in words)
    assert oracle(article, words) == "Alpha beta. Gamma delta. Epsilon zeta."
    assert oracle(article, words, count=4) == article


def f1(summary: list[str], reference: list[str], n: int) -> float:
    """ROUGE-n F1 by its definition (Lin, 2004), of words that stemming leaves as they are."""
    counts = [
        Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        for words in (" ".join(texts).lower().replace(".", "").split() for texts in (summary, reference))
    ]
    shared, sizes = sum((counts[0] & counts[1]).values()), [sum(count.values()) for count in counts]
    return 2 * shared / sum(sizes) if shared else 0.0


@pytest.mark.parametrize(
    "reference", [["the storm hit the city"], ["the river rose on Monday"], ["Nobody ran on Friday by the river"]]
)
def test_first_pick_is_the_best_single_sentence(reference):
    article = (
        "Rain hit the city all day. Nobody ran in the storm. The river rose. The mayor left on Monday. "
        "Boats on the river left by Friday."
    )
    sentences = article_sentences(article)
    scores = [f1([sentence], reference, 1) + f1([sentence], reference, 2) for sentence in sentences]
    assert oracle(article, reference, count=1) == sentences[scores.index(max(scores))]


def test_of_equal_sentences_the_first_is_taken():
    article = "Red cats ran. Nothing here. Cats ran red. Red cats ran!"
    assert oracle(article, ["Red cats ran."]) == "Red cats ran."
    # Both share two words and no bigram with the reference.
    assert oracle("Blue x green. Green x blue.", ["green blue y"], count=1) == "Blue x green."


def test_no_overlap_gives_no_summary():
    assert oracle(ARTICLE, ["Zebras graze."]) == ""
    assert oracle("", REFERENCE) == ""
