"""The teacher that also reads captions: the larger relevance by hand, and the labels that follow from it."""

import numpy as np
import pytest
import torch

from tests.spectra_sum.selection.dpp_enumeration import NUMBERS, enumerate_marginals, likelihood_kernel, make_article
from tests.trainer.objectives.test_dpp_teacher import expected_embedding, make_dual_encoder, tokenizer
from trainer.objectives.dpp_teacher import DPPTeacher
from trainer.objectives.text_relevance import larger_relevance

__all__ = ["tokenizer"]


def mask_of(*rows):
    return torch.tensor([[bool(value) for value in row] for row in rows])


def test_the_larger_relevance_by_hand():
    """Means of the images .10 and of the texts .70; a text's difference is worth a quarter of itself."""
    images = torch.tensor([[0.10, 0.14, 0.06, 9.0]], dtype=torch.float64)
    texts = torch.tensor([[0.90, 0.60, 0.60, 9.0]], dtype=torch.float64)
    real = mask_of([1, 1, 1, 0])
    found = larger_relevance(images, texts, real, real, 0.25)
    # Differences of the images: 0, .04, −.04; of the texts .2, −.1, −.1, a quarter of which is .05, −.025, −.025.
    torch.testing.assert_close(found, torch.tensor([[0.05, 0.04, -0.025, 0.0]], dtype=torch.float64))
    # The third image without a text: the mean of the texts is .75.
    found = larger_relevance(images, texts, real, mask_of([1, 1, 0, 1]), 0.25)
    torch.testing.assert_close(found, torch.tensor([[0.0375, 0.04, -0.04, 0.0]], dtype=torch.float64))
    # A single text, or none: the images alone, up to an offset.
    for has_text in ([0, 1, 0, 0], [0, 0, 0, 0]):
        found = larger_relevance(images, texts, real, mask_of(has_text), 0.25)
        torch.testing.assert_close(found, torch.tensor([[0.0, 0.04, -0.04, 0.0]], dtype=torch.float64))
    none = mask_of([0, 0, 0, 0])
    assert not larger_relevance(images, texts, none, none, 0.25).any()


def test_offsets_do_not_count_and_order_does_not_either():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 3, 6, dtype=torch.float64, generator=generator)
    real = mask_of([1] * 6, [1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 0, 1])
    has_text = mask_of([1, 0, 1, 1, 0, 1], [0, 1, 1, 1, 1, 1], [1] * 6)
    found = larger_relevance(images, texts, real, has_text, 0.4)
    torch.testing.assert_close(larger_relevance(images + 3, texts - 7, real, has_text, 0.4), found)
    order = torch.randperm(6, generator=generator)
    shuffled = larger_relevance(images[:, order], texts[:, order], real[:, order], has_text[:, order], 0.4)
    torch.testing.assert_close(shuffled, found[:, order])
    for row in range(3):
        alone = larger_relevance(
            images[row : row + 1], texts[row : row + 1], real[row : row + 1], has_text[row : row + 1], 0.4
        )
        torch.testing.assert_close(alone[0], found[row])


@pytest.mark.parametrize("family", ["siglip", "clip"])
def test_labels_with_captions_are_those_of_the_enumeration(tokenizer, family):  # noqa: F811
    dual_encoder = make_dual_encoder(family)
    teacher = DPPTeacher(dual_encoder, tokenizer, **NUMBERS, long_summary="sentences", text_scale=0.3)
    width = 16 if family == "siglip" else 12
    vectors, _ = make_article(5, seed=14, width=width)
    images, real = torch.tensor(vectors)[None], torch.ones(1, 5, dtype=torch.bool)
    summary, captions = ["w1 w2", "w3"], ["w1 w2 w7", " ", "w9", "w3 w4", "w11 w12 w13 w14"]
    labels = teacher.label(images, real, [summary], [captions])

    def by_hand(texts):
        return torch.stack([expected_embedding(dual_encoder, family, text) for text in texts]).double().numpy()

    sentences = by_hand(summary)
    of_images = (vectors @ sentences.T).max(1)
    of_images -= of_images.mean()
    given = [0, 2, 3, 4]
    of_texts = np.full(5, -np.inf)
    of_texts[given] = (by_hand([captions[index] for index in given]) @ sentences.T).max(1)
    of_texts[given] -= of_texts[given].mean()
    relevance = np.maximum(of_images, 0.3 * of_texts)
    assert (relevance > of_images).any() and (relevance == of_images).sum() > 1, (
        "both must be the larger one somewhere"
    )
    expected = enumerate_marginals(likelihood_kernel(vectors, relevance, 20.0, 0.8, 1e-6), 3)
    np.testing.assert_allclose(labels.marginals[0].numpy(), expected, rtol=0, atol=1e-5)

    # Off, and without texts, they are the paper's.
    off = DPPTeacher(dual_encoder, tokenizer, **NUMBERS, long_summary="sentences")
    plain = off.label(images, real, [summary])
    assert torch.equal(off.label(images, real, [summary], [captions]).marginals, plain.marginals)
    assert (labels.marginals - plain.marginals).abs().max() > 1e-3
    for texts in ([[""] * 5], [[]], None):
        torch.testing.assert_close(teacher.label(images, real, [summary], texts).marginals, plain.marginals)


def test_texts_of_a_batch_are_those_of_each_article(tokenizer):  # noqa: F811
    teacher = DPPTeacher(make_dual_encoder("siglip"), tokenizer, **NUMBERS, long_summary="sentences", text_scale=0.3)
    texts, real = [["w1", "", "w2 w3"], [], ["w4"]], mask_of([1, 1, 1], [1, 1, 0], [1, 0, 0])
    embeds, mask = teacher.embed_image_texts(texts, real)
    assert mask.tolist() == [[True, False, True], [False] * 3, [True, False, False]]
    assert embeds.shape == (3, 3, 16) and not embeds[~mask].any()
    torch.testing.assert_close(embeds[mask].norm(dim=-1), torch.ones(3))
    again, _ = teacher.embed_image_texts(texts[2:], real[2:])
    torch.testing.assert_close(again[0, 0], embeds[2, 0])
    assert teacher.truncated_texts == 0
    teacher.embed_image_texts([["w1 w2 w3 w4 w5 w6 w7 w8 w9"]], real[2:])
    assert teacher.truncated_texts == 1
