"""select_images: ranking, ties, threshold, limits, and padded images, with known logits."""

import math

import pytest
import torch

from tests.double_precision import EXACT
from tests.tiny import pixels, tiny_model, tokens

pytestmark = pytest.mark.usefixtures("float64")


def with_logits(model, logits):
    """Let the relevance predictor give these logits (B, N)."""
    model.visual_path.relevance_predictor.register_forward_hook(lambda module, args, output: torch.tensor(logits))
    return model


def test_images_are_ranked_by_probability_and_cut_at_the_limit():
    model = with_logits(tiny_model(max_selected_images=3), [[0.0, 2.0, -1.0, 1.0], [3.0, -3.0, 9.0, 9.0]])
    values, mask = pixels(4, 2)
    selection = model.select_images(values, mask)
    assert selection.indices == [[1, 3, 0], [0, 1]]
    expected = [
        [1 / (1 + math.exp(-logit)) for logit in (0, 2, -1, 1)],
        [1 / (1 + math.exp(-3)), 1 / (1 + math.exp(3)), 0, 0],
    ]
    torch.testing.assert_close(selection.probabilities, torch.tensor(expected), **EXACT)
    assert model.select_images(values, mask, max_selected_images=1).indices == [[1], [0]]
    assert model.select_images(values, mask, max_selected_images=9).indices == [[1, 3, 0, 2], [0, 1]]


def test_the_limit_is_the_configurations():
    model = with_logits(tiny_model(max_selected_images=2), [[0.0, 2.0, -1.0, 1.0]])
    assert model.select_images(pixels(4)[0]).indices == [[1, 3]]


def test_equal_images_keep_the_articles_order():
    model = with_logits(tiny_model(max_selected_images=6), [[1.0, 5.0, 1.0, 5.0, 1.0, 5.0]])
    assert model.select_images(pixels(6)[0]).indices == [[1, 3, 5, 0, 2, 4]]


def test_a_threshold_drops_images_and_may_leave_none():
    model = with_logits(tiny_model(), [[0.0, 2.0, -1.0, 1.0], [-1.0, -2.0, 9.0, 9.0]])
    values, mask = pixels(4, 2)
    assert model.select_images(values, mask, threshold=0.5).indices == [[1, 3, 0], []]
    assert model.select_images(values, mask, threshold=0.7).indices == [[1, 3], []]
    assert model.select_images(values, mask, threshold=0.0).indices == [[1, 3, 0], [0, 1]]


def test_padded_images_are_never_selected_whatever_their_logits():
    model = with_logits(tiny_model(), [[-90.0, 50.0, 60.0], [99.0, 99.0, 99.0], [-1.0, 7.0, -2.0]])
    mask = torch.tensor([[True, False, False], [False, False, False], [True, False, True]])
    selection = model.select_images(pixels(3, 3, 3)[0], mask)
    assert selection.indices == [[0], [], [0, 2]]
    assert (selection.probabilities[~mask] == 0).all()


def test_without_images_nothing_is_selected():
    selection = tiny_model().select_images(input_ids=tokens(3, 5))
    assert selection.indices == [[], [], []] and selection.probabilities.shape == (3, 0)


@pytest.mark.parametrize("context", ["none", "article", "article_set"])
def test_selection_uses_the_logits_of_the_forward_pass(context):
    model = tiny_model(vrp_context=context, gate=0.5)
    values, mask = pixels(6, 2)
    input_ids = tokens(2, 7)
    attention_mask = torch.tensor([[1] * 7, [0, 0] + [1] * 5])
    output = model(input_ids=input_ids, attention_mask=attention_mask, pixel_values=values, image_mask=mask)
    selection = model.select_images(values, mask, input_ids, attention_mask)
    expected = torch.where(mask, output.selection_logits.sigmoid(), 0.0)
    torch.testing.assert_close(selection.probabilities, expected, **EXACT)
    for row, count in enumerate((6, 2)):
        scores = output.selection_logits[row].tolist()
        assert selection.indices[row] == sorted(range(count), key=lambda i, scores=scores: -scores[i])[:3]
    # Embeddings that are there already, without any pixels.
    features = model.image_features(values, mask)
    again = model.select_images(None, mask, input_ids, attention_mask, **features)
    assert again.indices == selection.indices and torch.equal(again.probabilities, selection.probabilities)
    embeds = features["image_embeds"]
    with pytest.raises(ValueError, match="must be the same in all of"):
        model.select_images(None, mask, input_ids, attention_mask, image_embeds=embeds[:1])
    with pytest.raises(ValueError, match="image_embeds holds 12 images per article"):
        model.select_images(None, None, input_ids, attention_mask, image_embeds=embeds.repeat(1, 2, 1))


@pytest.mark.parametrize("context", ["article", "article_set"])
def test_the_article_decides_when_the_predictor_reads_it(context):
    model = tiny_model(vrp_context=context)
    values, _ = pixels(4)
    one = model.select_images(values, input_ids=tokens(1, 7)).probabilities
    other = model.select_images(values, input_ids=tokens(1, 7, seed=5)).probabilities
    assert (one - other).abs().max() > 1e-3
    prompt = torch.cat([tokens(1, 7), tokens(1, 3, seed=6)], dim=1)
    marked = model.select_images(values, input_ids=prompt, article_mask=torch.arange(10)[None] < 7).probabilities
    torch.testing.assert_close(marked, one, **EXACT)
    with pytest.raises(ValueError, match=f"vrp_context='{context}'.*input_ids"):
        model.select_images(values)
