"""Written sentences that their source does not support give way to the source's own."""

import pytest
import torch

from spectra_sum.extraction.support import replace_unsupported, support
from tests.spectra_sum.extraction.written_vectors import WrittenDown

SOURCE = ["Parks opened.", "A loan paid.", "It rained."]
VECTORS = {
    "Parks opened.": [1, 0, 0],
    "A loan paid.": [0, 1, 0],
    "It rained.": [0, 0, 1],
    "New parks.": [0.9, 0.1, 0],
    "Wolves came.": [0.5, 0.45, 0.1],
    "More wolves.": [0.5, 0.45, 0.1],
}


def test_support_is_the_greatest_cosine():
    values = support(["New parks.", "Wolves came."], SOURCE, WrittenDown(VECTORS))
    by_hand = [0.9 / (0.81 + 0.01) ** 0.5, 0.5 / (0.25 + 0.2025 + 0.01) ** 0.5]
    torch.testing.assert_close(values, torch.tensor(by_hand), rtol=1e-5, atol=1e-6)


def test_supported_sentences_stay_as_they_are():
    sentences = replace_unsupported(["New parks.", "It rained."], SOURCE, WrittenDown(VECTORS), 0.9)
    assert sentences == [("New parks.", "written"), ("It rained.", "written")]


def test_the_nearest_sentence_that_nothing_stands_for_comes_in():
    """The wolves are nearest to the parks, which a written sentence stands for already; then the loan is."""
    sentences = replace_unsupported(["New parks.", "Wolves came."], SOURCE, WrittenDown(VECTORS), 0.9)
    assert sentences == [("New parks.", "written"), ("A loan paid.", "extracted")]


def test_no_sentence_of_the_source_comes_in_twice_and_none_is_made_up():
    written = ["Wolves came.", "More wolves.", "Wolves came.", "More wolves."]
    sentences = replace_unsupported(written, SOURCE, WrittenDown(VECTORS), 0.9)
    assert sentences == [("Parks opened.", "extracted"), ("A loan paid.", "extracted"), ("It rained.", "extracted")]


@pytest.mark.parametrize(("written", "source"), [([], SOURCE), (["Wolves came."], []), ([], [])])
def test_nothing_written_or_nothing_read(written, source):
    assert replace_unsupported(written, source, WrittenDown(VECTORS), 0.5) == []
    assert support(written, source, WrittenDown(VECTORS)).tolist() == [-1.0] * len(written)
