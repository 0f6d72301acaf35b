"""The place of a text's own figure, by hand and by counting."""

import torch
from torch.nn.functional import normalize

from trainer.dual_encoder.retrieval import ranks


def test_places_by_hand():
    images = torch.eye(3)
    texts = normalize(torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 1.0]]), dim=-1)
    found = ranks(texts, images, [0, 2, 2])
    assert found.places.tolist() == [1, 3, 1] and found.figures == 3
    assert found.recall(1) == [1.0, 0.0, 1.0] and found.recall(3) == [1.0] * 3


def test_of_equal_figures_the_own_one_is_last():
    """A space that tells nothing apart finds nothing."""
    assert ranks(torch.ones(2, 1), torch.ones(4, 1), [0, 3]).places.tolist() == [4, 4]


def test_places_are_counted_as_a_loop_counts_them():
    torch.manual_seed(0)
    images, texts = normalize(torch.randn(9, 4), dim=-1), normalize(torch.randn(5, 4), dim=-1)
    own = [8, 0, 3, 3, 5]
    expected = []
    for text, figure in zip(texts.tolist(), own, strict=True):
        cosines = [sum(a * b for a, b in zip(text, image, strict=True)) for image in images.tolist()]
        expected.append(sorted(cosines, reverse=True).index(cosines[figure]) + 1)
    assert ranks(texts, images, own).places.tolist() == expected
