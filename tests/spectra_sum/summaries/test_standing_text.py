"""What is released of a text on its way: a beginning that no continuation takes back."""

import random

import pytest
import torch

from spectra_sum.extraction.support import replace_unsupported
from spectra_sum.sentences import sentence_spans, split_sentences
from spectra_sum.summaries.trimming import trimmed
from spectra_sum.summaries.watching.standing_text import StandingText, SupportCheck
from tests.spectra_sum.extraction.written_vectors import WrittenDown

PARTS = ["A.", "b", " ", " ", "\n", '"', "Dr.", "J.", "。", "」", "“", "Xy", "1", "!", "…", ")", ".", "'s"]


def streamed(text, cuts=None, supported=None):
    pieces = []
    standing = StandingText(pieces.append, supported)
    for piece in cuts or text:
        standing.add(piece)
    return standing, pieces


@pytest.mark.parametrize("seed", range(300))
def test_what_is_released_is_whole_sentences_of_every_longer_text(seed):
    generator = random.Random(seed)
    text = "".join(generator.choices(PARTS, k=generator.randint(1, 25)))
    for length in range(len(text) + 1):
        standing, pieces = streamed(text[:length])
        begun = text[:length].lstrip()
        assert standing.released == "".join(pieces) == begun[: _last_whole(begun)]
        # Whatever comes: the finished text, stopped here or there, begins with it, and a sentence ends there.
        for end in range(length, len(text) + 1):
            whole = text[:end].strip()
            assert whole.startswith(standing.released)
            assert (trimmed(whole) or whole).startswith(standing.released)
            ends = {0, *(stop for _, stop in sentence_spans(whole))}
            assert len(standing.released) in ends


def _last_whole(text):
    spans = sentence_spans(text)
    return spans[-2][1] if len(spans) > 1 else 0


def test_the_pieces():
    text = " The harbour reopened.\n\nDr. Who came. It rained"
    standing, pieces = streamed(text)
    assert pieces == ["The harbour reopened.", "\n\nDr. Who came."]
    standing.finish("The harbour reopened.\n\nDr. Who came. It rained")
    assert pieces[2:] == [" It rained"]
    standing.finish("The harbour reopened.\n\nDr. Who came. It rained")
    assert len(pieces) == 3
    # The same in words, as they come.
    assert streamed(text, text.replace(" ", " \0").split("\0"))[1] == pieces[:2]


def test_another_text_gets_nothing_after_what_was_released():
    standing, pieces = streamed("One. Two. Three")
    standing.finish("Else.")
    assert pieces == ["One.", " Two."]


STORM, COST, ELEPHANTS = "A storm came.", "It cost millions.", "Elephants danced."
SOURCE = ["The storm closed the harbour.", "The repair costs four million euros.", "Ducks were fed."]
VECTORS = {
    STORM: [1, 0, 0.1],
    COST: [0, 1, 0.2],
    ELEPHANTS: [0.2, 0.1, 1],
    SOURCE[0]: [1, 0, 0],
    SOURCE[1]: [0, 1, 0],
    SOURCE[2]: [0.6, 0.8, 0],
}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([STORM, COST, STORM], [STORM, f" {COST}"]),
        ([STORM, ELEPHANTS, COST], [STORM]),
        ([ELEPHANTS, STORM, COST], []),
        # The last one has not ended.
        ([STORM, ELEPHANTS], [STORM]),
    ],
)
def test_the_first_sentence_without_support_holds_the_rest_back(written, expected):
    encoder = WrittenDown(VECTORS)
    _, pieces = streamed(" ".join(written), supported=SupportCheck(SOURCE, encoder, 0.5))
    assert pieces == expected
    # The source is embedded once.
    assert sum(call == SOURCE for call in encoder.calls) == 1
    stands = [origin == "written" for _, origin in replace_unsupported(written, SOURCE, encoder, 0.5)]
    leading = (stands + [False]).index(False)
    assert len(expected) == min(leading, len(written) - 1)


def test_a_sentence_within_rounding_of_the_threshold_is_held_back():
    cosine = float(WrittenDown(VECTORS).embed([STORM])[0] @ WrittenDown(VECTORS).embed([SOURCE[0]])[0])
    text = f"{STORM} {COST}"
    for threshold, expected in ((cosine - 1e-5, []), (cosine - 1e-3, [STORM]), (cosine + 1e-3, [])):
        assert streamed(text, supported=SupportCheck(SOURCE, WrittenDown(VECTORS), threshold))[1] == expected


def test_without_a_source_nothing_has_support():
    assert streamed(f"{STORM} {COST}", supported=SupportCheck([], WrittenDown(VECTORS), 0.1))[1] == []
    assert split_sentences(f"{STORM} {COST}") == [STORM, COST]


def test_a_text_that_repeats_itself_is_held_back_only_where_another_would_stand_in():
    text = " ".join([STORM] * 5)
    assert "".join(streamed(text, supported=lambda sentence: True)[1]) == f"{STORM} {STORM}"
    assert "".join(streamed(text)[1]) == " ".join([STORM] * 4)
    # It goes on when it repeats itself no longer.
    text = f"{STORM} {STORM} {STORM} The repair of harbour and bridges costs four million euros, he said. Then more."
    assert "".join(streamed(text, supported=lambda sentence: True)[1]) == text.removesuffix(" Then more.")


class Drawing(WrittenDown):
    """As one that is loaded when it is asked."""

    def embed(self, texts):
        torch.rand(3)
        return super().embed(texts)


def test_the_check_draws_no_numbers():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert SupportCheck(SOURCE, Drawing(VECTORS), 0.5)(STORM)
    assert torch.equal(torch.random.get_rng_state(), before)
