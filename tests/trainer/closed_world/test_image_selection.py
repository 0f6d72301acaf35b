"""Comparing ways to select images."""

import torch

from spectra_sum.selection.methods import SelectionSettings
from tests.tiny import tiny_config
from trainer.closed_world.image_selection import EmbeddedArticles, best_images, select_by_each, train_predictor


def articles(count: int) -> EmbeddedArticles:
    """Articles whose relevant images are those that point along the first axis; 3 or 4 images each."""
    generator = torch.Generator().manual_seed(0)
    embeds = torch.nn.functional.normalize(torch.randn(count, 4, 24, generator=generator), dim=-1)
    mask = torch.ones(count, 4, dtype=torch.bool)
    mask[::2, 3] = False
    marginals = (embeds[..., 0] > 0).float().masked_fill(~mask, 0.0)
    return EmbeddedArticles(embeds, mask, torch.zeros(count, 32), marginals, embeds[..., 1], SelectionSettings())


def test_best_images_are_real_and_in_order_of_score():
    scores = torch.tensor([[0.1, 0.9, 0.5, 9.0], [0.5, 0.5, 0.5, 0.4]])
    mask = torch.tensor([[True, True, True, False], [True, True, False, True]])
    assert best_images(scores, mask, 2) == [[1, 2], [0, 1]]
    assert best_images(scores, mask, 9) == [[1, 2, 0], [0, 1, 3]]


def test_a_predictor_learns_labels_that_an_image_alone_decides():
    config = tiny_config(vrp_context="none", vrp_dropout=0.0)
    train, test = articles(400), articles(30)
    predictor = train_predictor(config, train, steps=150, seed=0, learning_rate=1e-2)
    predicted = predictor(test.image_embeds, test.image_mask) > 0
    agreement = (predicted == (test.marginals > 0.5))[test.image_mask].float().mean()
    assert agreement > 0.9


def test_teacher_and_relevance_select_by_their_own_scores():
    test = articles(6)
    selections = select_by_each({}, test, count=1, seed=0)
    for row in range(6):
        real = test.image_mask[row].nonzero().squeeze(-1).tolist()
        assert selections["relevance"][row] == [max(real, key=lambda index: test.relevance[row, index])]
        best = max(test.marginals[row, index] for index in real)
        assert test.marginals[row, selections["teacher"][row][0]] == best
        assert selections["random"][row][0] in real


def test_methods_that_weigh_diversity_see_real_images_alone_and_the_numbers_of_the_teacher():
    """Rows: two copies of the most relevant image, one other; padding between; no image at all."""
    embeds = torch.eye(24)[torch.tensor([[0, 0, 1, 2], [0, 2, 0, 1], [0, 0, 0, 0]])]
    mask = torch.tensor([[True, True, True, False], [True, False, True, True], [False] * 4])
    relevance = torch.tensor([[0.9, 0.9, 0.5, 1.0], [0.9, 1.0, 0.9, 0.5], [0.0] * 4])
    embedded = EmbeddedArticles(embeds, mask, torch.zeros(3, 32), relevance, relevance, SelectionSettings(beta=1.0))
    selections = select_by_each({}, embedded, count=2, seed=0)
    assert list(selections) == ["teacher", "dpp_map", "mmr", "relevance", "random"]
    assert selections["dpp_map"] == selections["mmr"] == [[0, 2], [0, 3], []]
    assert selections["relevance"] == [[0, 1], [0, 2], []]


def test_the_numbers_of_the_teacher_reach_greedy_map():
    """Cosines to image 0 of .9 and 0, relevance .5 and 0 under it: beta 0 goes by diversity, beta 20 by relevance."""
    embeds = torch.tensor([[[1.0, 0.0], [0.9, 0.19**0.5], [0.0, 1.0]]])
    relevance, mask = torch.tensor([[1.0, 0.5, 0.0]]), torch.ones(1, 3, dtype=torch.bool)
    for beta, expected in ((0.0, [0, 2]), (20.0, [0, 1])):
        settings = SelectionSettings(beta=beta)
        embedded = EmbeddedArticles(embeds, mask, torch.zeros(1, 32), relevance, relevance, settings)
        assert select_by_each({}, embedded[torch.tensor([0])], count=2, seed=0)["dpp_map"] == [expected]
