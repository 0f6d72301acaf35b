"""Training of the heads: the loss by hand, a head that is folded, and a world in which a text tells its figure."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from tests.double_precision import EXACT
from trainer.dual_encoder.features import FigureFeatures
from trainer.dual_encoder.retrieval import ranks
from trainer.dual_encoder.training import NoisyHead, Recipe, both_ways, train_heads

RECIPE = Recipe(
    sides=[224],
    blocks=[],
    image_components=8,
    image_hidden=32,
    text_hidden=32,
    joint=16,
    epochs=60,
    batch_size=32,
    learning_rate=3e-3,
    weight_decay=0.01,
    dropout=0.1,
    noise=0.1,
    label_smoothing=0.1,
    max_scale=40.0,
    seed=0,
)


@pytest.mark.usefixtures("float64")
def test_the_loss_by_hand():
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0]])

    def entropy(row, own, smoothing):
        logs = [value - math.log(sum(map(math.exp, row))) for value in row]
        return -(1 - smoothing) * logs[own] - smoothing * sum(logs) / len(logs)

    for smoothing in (0.0, 0.1):
        rows = [entropy([2, 1], 0, smoothing), entropy([0, 3], 1, smoothing)]
        columns = [entropy([2, 0], 0, smoothing), entropy([1, 3], 1, smoothing)]
        expected = (sum(rows) / 2 + sum(columns) / 2) / 2
        assert both_ways(logits, smoothing).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.usefixtures("float64")
def test_a_folded_head_standardises_and_projects_by_itself():
    torch.manual_seed(0)
    features = torch.randn(40, 6) @ torch.randn(6, 6) * torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0, 1.0]) + 5
    quiet = replace(RECIPE, dropout=0.0, noise=0.0)
    head = NoisyHead(features, 3, 8, 4, quiet)
    components = head.components(features)
    torch.testing.assert_close(head.folded()(features), head(components), **EXACT)
    # Scores of the three greatest components, by the singular values of the standardised features; the last is greatest.
    standard = (features - features.mean(0)) / features.std(0)
    left, values, _ = torch.linalg.svd(standard, full_matrices=False)
    scores = (left * values)[:, [2, 1, 0]]
    torch.testing.assert_close(components.abs(), scores.abs(), rtol=1e-4, atol=1e-4)
    # A head by hand.
    hidden = torch.nn.functional.gelu(components @ head.head.inner.weight.T + head.head.inner.bias)
    expected = normalize(hidden @ head.head.outer.weight.T + head.head.outer.bias, dim=-1)
    torch.testing.assert_close(head(components), expected, **EXACT)


def test_noise_and_dropout_are_there_while_it_is_trained():
    features = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    head = NoisyHead(features, 4, 8, 4, RECIPE)
    components = head.components(features)
    assert not torch.equal(head(components), head(components))
    assert torch.equal(head.folded()(features), head.folded()(features))


def world(count, seed):
    """Figures of 4 hidden facts; their features and those of their texts are two mixtures of them. Some lack a text."""
    mixing = torch.Generator().manual_seed(99)
    to_image, to_text = torch.randn(4, 12, generator=mixing), torch.randn(4, 10, generator=mixing)
    facts = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    texts = torch.cat([facts @ to_text, facts @ to_text * 1.1])
    captions = [None if figure % 5 == 0 else figure for figure in range(count)]
    alts = [None if figure % 10 == 0 else count + figure for figure in range(count)]
    return FigureFeatures(facts @ to_image + 3, texts, captions, alts)


def test_texts_find_figures_that_were_not_trained_on():
    image, text, losses = train_heads(world(400, 0), RECIPE)
    assert len(losses) == RECIPE.epochs and losses[-1] < losses[0] / 2
    new = world(50, 1)
    own = [figure for figure, row in enumerate(new.alts) if row is not None]
    places = ranks(text(new.texts[[new.alts[figure] for figure in own]]), image(new.images), own)
    # By chance 5 of 50.
    assert sum(places.recall(5)) / len(own) > 0.8
    assert not any(value.requires_grad for value in [*image.parameters(), *text.parameters()])


def test_the_seed_decides():
    heads = [train_heads(world(60, 0), replace(RECIPE, epochs=2, seed=seed))[0] for seed in (0, 0, 1)]
    first, again, other = (head.outer.weight for head in heads)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_fewer_figures_than_a_batch_are_one_batch():
    image, _, losses = train_heads(world(8, 0), replace(RECIPE, epochs=2))
    assert image(world(8, 0).images).shape == (8, RECIPE.joint) and len(losses) == 2


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_few_steps_are_enough_for_the_schedule(epochs):
    """Its rise of a tenth would end where it begins."""
    _, _, losses = train_heads(world(8, 0), replace(RECIPE, epochs=epochs))
    assert len(losses) == epochs and all(math.isfinite(loss) for loss in losses)
