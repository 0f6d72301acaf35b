"""Comparing ways to select images."""

import torch

from tests.tiny import tiny_config
from trainer.image_selection import EmbeddedArticles, best_images, select_by_each, train_predictor


def articles(count: int) -> EmbeddedArticles:
    """Articles whose relevant images are those that point along the first axis; 3 or 4 images each."""
    generator = torch.Generator().manual_seed(0)
    embeds = torch.nn.functional.normalize(torch.randn(count, 4, 24, generator=generator), dim=-1)
    mask = torch.ones(count, 4, dtype=torch.bool)
    mask[::2, 3] = False
    marginals = (embeds[..., 0] > 0).float().masked_fill(~mask, 0.0)
    return EmbeddedArticles(embeds, mask, torch.zeros(count, 32), marginals, embeds[..., 1])


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
