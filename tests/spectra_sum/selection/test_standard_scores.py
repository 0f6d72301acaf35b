"""Cosines as standard scores, against numpy, and what they leave as it is."""

import numpy as np
import pytest
import torch

from spectra_sum.selection.background_sentences import BACKGROUND_SENTENCES
from spectra_sum.selection.standard_scores import standard_scores


def test_scores_by_hand():
    """The background's mean is .2, its deviation .1."""
    background = torch.tensor([[0.1, 0.3], [0.3, 0.1]], dtype=torch.float64)
    scores = standard_scores(torch.tensor([[0.5], [0.2], [-0.1]], dtype=torch.float64), background)
    assert scores.flatten().tolist() == pytest.approx([3.0, 0.0, -3.0])


def test_one_mean_and_one_deviation_for_all_items():
    generator = np.random.default_rng(0)
    cosines, background = generator.uniform(-1, 1, (4, 3)), generator.uniform(-1, 1, (4, 9))
    expected = (cosines - background.mean()) / background.std()
    found = standard_scores(torch.from_numpy(cosines), torch.from_numpy(background))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("scale", "shift"), [(0.1, 0.05), (3.0, -0.4)])
def test_where_an_encoders_cosines_lie_and_how_far_they_spread_is_no_matter(scale, shift):
    generator = torch.Generator().manual_seed(1)
    cosines = torch.rand(4, 3, generator=generator, dtype=torch.float64)
    background = torch.rand(4, 9, generator=generator, dtype=torch.float64)
    moved = standard_scores(scale * cosines + shift, scale * background + shift)
    torch.testing.assert_close(moved, standard_scores(cosines, background), rtol=0, atol=1e-12)


def test_a_background_without_spread_tells_nothing():
    scores = standard_scores(torch.tensor([[0.4, 0.9]]), torch.tensor([[0.7, 0.7 + 1e-7]]))
    assert scores.tolist() == [[0.0, 0.0]]


def test_the_background_sentences_differ():
    assert len(set(BACKGROUND_SENTENCES)) == len(BACKGROUND_SENTENCES) == 64
    openings = {" ".join(sentence.split()[:3]) for sentence in BACKGROUND_SENTENCES}
    assert len(openings) == 64
