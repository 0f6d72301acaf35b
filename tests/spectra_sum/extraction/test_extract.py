"""Extracts: which sentences, in which order, and within the budget."""

import itertools

import pytest
import torch

from spectra_sum.extraction.body_sentences import body_sentences, joined
from spectra_sum.extraction.extract import TRADE_OFF, extract
from spectra_sum.extraction.salience import salience
from tests.spectra_sum.extraction.written_vectors import WrittenDown

BODY = """The city built three new parks in May. They cost four million euros in all.

How it was paid

The bank gave a loan of two million. A festival of light was held by the river.

Where it goes from here

The city will build three more parks."""
PARKS, COST, LOAN, FESTIVAL, MORE = (
    "The city built three new parks in May.",
    "They cost four million euros in all.",
    "The bank gave a loan of two million.",
    "A festival of light was held by the river.",
    "The city will build three more parks.",
)
VECTORS = {PARKS: [3, 1, 0, 0], COST: [2, 2, 0, 0], LOAN: [1, 3, 0, 0], FESTIVAL: [0, 0, 1, 0], MORE: [3, 0.9, 0, 0]}


def words(text: str) -> int:
    return len(text.split())


def test_sentences_know_paragraph_and_heading():
    sentences = body_sentences(BODY)
    assert [sentence.text for sentence in sentences] == [PARKS, COST, LOAN, FESTIVAL, MORE]
    assert [sentence.paragraph for sentence in sentences] == [0, 0, 2, 2, 4]
    assert [sentence.heading for sentence in sentences] == [
        "",
        "",
        "How it was paid",
        "How it was paid",
        "Where it goes from here",
    ]


@pytest.mark.parametrize(
    "paragraph",
    ["The city built it in May.", "one two three four five six seven eight nine ten eleven twelve thirteen", "a\nb"],
)
def test_paragraphs_that_are_no_headings(paragraph):
    assert [sentence.heading for sentence in body_sentences(f"{paragraph}\n\nIt rained.")][-1] == ""


def test_a_last_line_without_an_end_mark_is_a_sentence():
    assert [sentence.text for sentence in body_sentences("It rained.\n\nNo end mark here")][-1] == "No end mark here"


def test_joined_keeps_paragraphs_and_writes_each_heading_once():
    sentences = body_sentences(BODY)
    assert joined(sentences, range(5)) == BODY
    assert joined(sentences, [3, 0]) == f"{PARKS}\n\nHow it was paid\n\n{FESTIVAL}"
    assert joined(sentences, [4, 1], headings=False) == f"{COST}\n\n{MORE}"


def test_a_body_that_fits_is_returned_whole_and_not_embedded():
    encoder = WrittenDown({})
    result = extract(BODY, encoder, words(BODY), words)
    assert result.text == BODY
    assert (result.indices, result.total, encoder.calls) == ([0, 1, 2, 3, 4], 5, [])


def test_selection_is_that_of_a_written_out_greedy_search():
    """Against marginal relevance as its definition says it, with dot products by hand."""
    units = {text: [x / sum(y * y for y in v) ** 0.5 for x in v] for text, v in VECTORS.items()}
    texts = list(units)
    mean = [sum(units[text][axis] for text in texts) / 5 for axis in range(4)]
    norm = sum(x * x for x in mean) ** 0.5

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    order = []
    while len(order) < 5:
        order.append(
            max(
                (text for text in texts if text not in order),
                key=lambda text: (
                    TRADE_OFF * cosine(units[text], mean) / norm
                    - (1 - TRADE_OFF) * max((cosine(units[text], units[other]) for other in order), default=0)
                ),
            )
        )
    for budget, count in ((9, 1), (16, 2), (22, 3)):
        result = extract(BODY, WrittenDown(VECTORS), budget, words, headings=False)
        expected, used = [], 0
        for text in order:
            if used + words(text) <= budget:
                expected.append(text)
                used += words(text)
        assert len(expected) == count
        assert result.sentences == [text for text in texts if text in expected]
        assert result.total == 5


def test_near_copies_give_way_to_what_is_new():
    """Two pairs of copies, equally salient: after one of a pair comes one of the other."""
    pairs = {PARKS: [1, 0.5, 0, 0], COST: [1, 0.5, 0, 0.01], LOAN: [1, -0.5, 0, 0], FESTIVAL: [1, -0.5, 0, 0.01]}
    two = extract(BODY, WrittenDown({**pairs, MORE: [0, 0, 1, 0]}), 17, words, headings=False).sentences
    assert [sentence in (PARKS, COST) for sentence in two] == [True, False]


@pytest.mark.parametrize("budget", range(1, 50))
def test_never_over_the_budget_headings_included(budget):
    result = extract(BODY, WrittenDown(VECTORS), budget, words)
    assert 0 < words(result.text) <= budget
    assert all(sentence in BODY for sentence in result.sentences)


def test_sentences_that_are_all_too_long_are_cut():
    result = extract(BODY, WrittenDown(VECTORS), 4, words)
    assert result.sentences == [result.text]
    assert BODY.replace("\n\n", " ").find(result.text) >= 0
    assert words(result.text) == 4


def test_remains_of_lists_are_not_chosen():
    body = f"{PARKS} Yes. {FESTIVAL} {LOAN}"
    result = extract(body, WrittenDown(VECTORS), 9, words)
    assert "Yes." not in result.sentences


def test_no_phrase_of_four_words_comes_a_third_time():
    """Four sentences share a phrase and are the most salient ones: two of them stand, then what is left."""
    shared = [f"The price of oil rose in {year} again." for year in ("May", "June", "July", "August")]
    vectors = {**dict.fromkeys(shared, [1, 0.1]), LOAN: [0.3, 1], COST: [0.2, 1]}
    result = extract(" ".join([*shared, LOAN, COST]), WrittenDown(vectors), 32, words)
    assert sum(sentence in shared for sentence in result.sentences) == 2
    assert {LOAN, COST} <= set(result.sentences)
    read = extract(" ".join([*shared, LOAN, COST]), WrittenDown(vectors), 32, words, repetition=True)
    assert read.sentences == shared


@pytest.mark.parametrize("body", ["", "\n\n \n"])
def test_an_empty_body(body):
    assert extract(body, WrittenDown({}), 10, words) == ("", [], [], 0)


def test_centroid_is_the_cosine_to_the_mean():
    embeds = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    mean = embeds.sum(0)
    by_hand = torch.tensor([float(row @ mean / mean.norm()) for row in embeds])
    torch.testing.assert_close(salience(embeds).float(), by_hand, rtol=1e-6, atol=1e-6)


def test_lexrank_is_the_limit_of_the_walk():
    """Against a power iteration of the walk, started anywhere."""
    generator = torch.Generator().manual_seed(0)
    embeds = torch.nn.functional.normalize(torch.randn(7, 4, generator=generator, dtype=torch.float64), dim=-1)
    edges = embeds @ embeds.T
    edges[edges < 0.1] = 0
    steps = 0.15 / 7 + 0.85 * edges / edges.sum(1, keepdim=True)
    state = torch.zeros(7, dtype=torch.float64)
    state[0] = 1
    for _ in itertools.repeat(None, 400):
        state = state @ steps
    torch.testing.assert_close(salience(embeds, "lexrank"), 7 * state, rtol=1e-9, atol=1e-12)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="'textrank'; known are centroid, lexrank"):
        salience(torch.eye(2), "textrank")
