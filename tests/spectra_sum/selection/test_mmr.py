"""Maximal marginal relevance on cases worked out by hand and against its definition written naively."""

import pytest
import torch

from spectra_sum.selection.mmr import maximal_marginal_relevance
from tests.spectra_sum.selection.dpp_enumeration import make_article


def mmr_of(embeds, relevance, count, trade_off):
    embeds, relevance = torch.as_tensor(embeds, dtype=torch.float64), torch.as_tensor(relevance, dtype=torch.float64)
    selected, scores = maximal_marginal_relevance(embeds, relevance, count, trade_off)
    return selected, scores.tolist()


# Image 1 is close to image 0 (cosine 0.8), image 2 is far from image 0 (0) and 0.6 from image 1.
PLANE = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("trade_off", "order", "scores"),
    [
        # .5·.9 = .45; then .5·.8 - .5·.8 = 0 against .5·.3 - 0 = .15; last .4 - .5·max(.8, .6) = 0.
        (0.5, [0, 2, 1], [0.45, 0.0, 0.15]),
        # .9·.9 = .81; then .72 - .08 = .64 against .27; last .27 - .1·max(0, .6) = .21.
        (0.9, [0, 1, 2], [0.81, 0.64, 0.21]),
        (1.0, [0, 1, 2], [0.9, 0.8, 0.3]),
        # Relevance starts, then -max cosine alone: 0 for image 2 against -.8.
        (0.0, [0, 2, 1], [0.0, -0.8, 0.0]),
    ],
)
def test_by_hand(trade_off, order, scores):
    selected, actual = mmr_of(PLANE, [0.9, 0.8, 0.3], 3, trade_off)
    assert selected == order
    assert actual == pytest.approx(scores, abs=1e-12)


def test_scores_of_the_rest_are_those_after_the_last_selection():
    selected, scores = mmr_of(PLANE, [0.9, 0.8, 0.3], 1, 0.5)
    assert selected == [0]
    assert scores == pytest.approx([0.45, 0.0, 0.15], abs=1e-12)


def naive(embeds, relevance, count, trade_off):
    selected = []
    while len(selected) < count:
        value = {}
        for i in set(range(len(relevance))) - set(selected):
            redundancy = max((float(embeds[i] @ embeds[j]) for j in selected), default=0.0)
            value[i] = trade_off * relevance[i] - (1 - trade_off) * redundancy
        selected.append(max(value, key=value.get))
    return selected


@pytest.mark.parametrize("trade_off", [0.1, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize(("images", "count"), [(1, 1), (5, 5), (9, 3), (20, 8)])
def test_equals_the_definition(images, count, trade_off):
    for seed in range(5):
        embeds, relevance = make_article(images, seed=100 * images + seed)
        assert mmr_of(embeds, relevance, count, trade_off)[0] == naive(embeds, relevance, count, trade_off)


def test_equal_scores_are_taken_in_the_order_of_the_article():
    assert mmr_of([[1.0, 0.0]] * 4, [0.2, 0.3, 0.3, 0.2], 3, 0.5)[0] == [1, 2, 0]
