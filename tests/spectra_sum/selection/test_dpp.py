"""The DPP's marginals against enumeration of all subsets, against DPPy, and their invariances and edge cases."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import brentq

from spectra_sum.selection.dpp import dpp_marginals, relevance_scores, solve_scale
from tests.spectra_sum.selection.dpp_enumeration import (
    NUMBERS,
    enumerate_marginals,
    enumerate_projection,
    gram_kernel,
    likelihood_kernel,
    make_article,
    marginals_of,
)

# ---------------------------------------------------------------------------------------------- independent sources


@pytest.mark.parametrize("beta", [0.0, 1.0, 5.0, 20.0])
@pytest.mark.parametrize(("images", "kappa"), [(2, 1), (4, 3), (5, 2), (6, 5), (8, 3), (6, 2.5)])
def test_marginals_equal_enumeration_of_all_subsets(images, kappa, beta):
    embeds, relevance = make_article(images, seed=images)
    expected = enumerate_marginals(likelihood_kernel(embeds, relevance, beta, 0.8, 1e-6), kappa)
    np.testing.assert_allclose(marginals_of(embeds, relevance, beta=beta, kappa=kappa), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("epsilon", [1e-6, 0.1])
def test_epsilon_is_relative_to_the_mean_eigenvalue(epsilon):
    embeds, relevance = make_article(5, seed=3)
    expected = enumerate_marginals(likelihood_kernel(embeds, relevance + 2.0, 5.0, 0.5, epsilon), 2)
    actual = marginals_of(embeds, relevance + 2.0, beta=5.0, sigma=0.5, kappa=2, epsilon=epsilon)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("beta", [5.0, 20.0])
@pytest.mark.parametrize("images", [4, 9, 20])
def test_marginals_equal_dppy(images, beta):
    finite_dpps = pytest.importorskip("dppy.finite_dpps")
    embeds, relevance = make_article(images, seed=10 + images)
    kernel = likelihood_kernel(embeds, relevance, beta, 0.8, 1e-6)
    kernel /= np.trace(kernel)
    eigenvalues = np.linalg.eigvalsh(kernel)

    def excess(log_scale):
        scaled = np.exp(log_scale) * eigenvalues
        return (scaled / (1 + scaled)).sum() - 3

    scale = np.exp(brentq(excess, -10, 40, xtol=1e-14, rtol=1e-14))
    process = finite_dpps.FiniteDPP("likelihood", L=scale * kernel)
    process.compute_K()
    np.testing.assert_allclose(marginals_of(embeds, relevance, beta=beta), np.diag(process.K), rtol=0, atol=1e-9)


@pytest.mark.parametrize("copies", [(0, 0, 1, 2), (0, 1, 1, 2, 2, 2), (0, 1, 0, 1, 0)])
def test_projection_limit_equals_enumeration_at_the_rank(copies):
    embeds, relevance = make_article(3, seed=4)
    embeds, relevance = embeds[list(copies)], relevance[list(copies)]
    rank = len(set(copies))
    expected = enumerate_projection(gram_kernel(embeds, relevance, 5.0, 0.8), rank)
    np.testing.assert_allclose(marginals_of(embeds, relevance, beta=5.0), expected, rtol=0, atol=1e-9)
    assert expected.sum() == pytest.approx(rank)


@pytest.mark.parametrize("kappa", [1, 3, 8])
def test_scale_on_spectra_across_the_range_of_float64(kappa):
    rng = np.random.default_rng(kappa)
    spectra = 10 ** rng.uniform(-15, 0, size=(50, 9))
    spectra[:10, 3:] = 1e-13  # a plateau: three eigenvalues far above the others
    scales = solve_scale(torch.tensor(spectra), torch.full((50,), float(kappa), dtype=torch.float64)).numpy()
    for spectrum, scale in zip(spectra, scales, strict=True):

        def inclusion(log_scale, spectrum=spectrum):
            return np.exp(log_scale) * spectrum / (1 + np.exp(log_scale) * spectrum)

        root = brentq(lambda x: inclusion(x).sum() - kappa, -60, 60, xtol=1e-14, rtol=1e-14, maxiter=500)
        np.testing.assert_allclose(inclusion(np.log(scale)), inclusion(root), rtol=0, atol=1e-12)


# ---------------------------------------------------------------------------------------------- invariances


def test_permutation_equivariance():
    embeds, relevance = make_article(9, seed=1)
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_allclose(
        marginals_of(embeds[order], relevance[order]), marginals_of(embeds, relevance)[order], rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("shift", [0.4, -3.0, 100.0])
def test_a_shift_of_relevance_scales_the_kernel_and_leaves_the_marginals(shift):
    embeds, relevance = make_article(9, seed=2)
    np.testing.assert_allclose(
        marginals_of(embeds, relevance + shift), marginals_of(embeds, relevance), rtol=0, atol=1e-10
    )


def test_batch_equals_loop_with_padding_anywhere_and_never_read():
    counts = [0, 1, 2, 3, 4, 9, 12, 5]
    rng = np.random.default_rng(5)
    embeds = torch.full((len(counts), 12, 6), torch.nan, dtype=torch.float64)
    relevance = torch.full((len(counts), 12), torch.nan, dtype=torch.float64)
    mask = torch.zeros(len(counts), 12, dtype=torch.bool)
    expected = np.zeros((len(counts), 12))
    for row, count in enumerate(counts):
        slots = rng.permutation(12)[:count]
        vectors, scores = make_article(count, seed=20 + row)
        if row == 7:  # a copy: a null space beside the padding's
            vectors[1], scores[1] = vectors[0], scores[0]
        embeds[row, slots], relevance[row, slots] = torch.tensor(vectors), torch.tensor(scores)
        mask[row, slots] = True
        if count:
            expected[row, slots] = marginals_of(vectors, scores)
    actual = dpp_marginals(embeds, relevance, mask, **NUMBERS).numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)
    assert (actual[~mask.numpy()] == 0).all()
    np.testing.assert_allclose(actual.sum(1), [0, 1, 2, 3, 3, 3, 3, 3], rtol=0, atol=1e-10)


# ---------------------------------------------------------------------------------------------- edge cases


def test_no_images():
    for shape in [(2, 0), (0, 3), (2, 3)]:
        marginals = dpp_marginals(torch.zeros(*shape, 4), torch.zeros(shape), torch.zeros(shape).bool(), **NUMBERS)
        assert marginals.shape == shape and marginals.dtype == torch.float64 and not marginals.any()


@pytest.mark.parametrize("images", [1, 2, 3])
def test_at_most_kappa_independent_images_are_all_included(images):
    np.testing.assert_allclose(marginals_of(*make_article(images, seed=6)), 1.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("copies", [2, 3, 9])
def test_copies_of_one_image_share_its_place(copies):
    embeds, relevance = make_article(1, seed=7)
    marginals = marginals_of(embeds.repeat(copies, 0), relevance.repeat(copies))
    np.testing.assert_allclose(marginals, 1 / copies, rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta", [5.0, 20.0])
def test_duplicates_have_equal_labels(beta):
    embeds, relevance = make_article(7, seed=8)
    order = [0, 1, 2, 2, 3, 4, 4, 4, 5, 6]
    marginals = marginals_of(embeds[order], relevance[order], beta=beta)
    assert marginals[2] == pytest.approx(marginals[3], abs=1e-9)
    np.testing.assert_allclose(marginals[5:8], marginals[5], rtol=0, atol=1e-9)
    assert marginals.sum() == pytest.approx(3, abs=1e-10)


def test_rank_under_kappa_is_not_amplified_round_off():
    """Two distinct images, five copies: a scaling to an expected size of 3 would live on round-off alone."""
    embeds, relevance = make_article(2, seed=9, spread=0.0)
    marginals = marginals_of(embeds[[0, 0, 1, 1, 1]], relevance[[0, 0, 1, 1, 1]])
    np.testing.assert_allclose(marginals, [1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_input_is_computed_in_float64(dtype):
    embeds, relevance = make_article(9, seed=11)
    embeds, relevance = torch.tensor(embeds).to(dtype), torch.tensor(relevance).to(dtype)
    expected = enumerate_marginals(
        likelihood_kernel(embeds[:8].double().numpy(), relevance[:8].double().numpy(), 20.0, 0.8, 1e-6), 3
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = marginals_of(embeds[:8], relevance[:8])
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("beta", [1e3, 1e6])
def test_extreme_beta_leaves_the_most_relevant_image_alone(beta):
    embeds, relevance = make_article(6, seed=12)
    expected = np.eye(6)[relevance.argmax()]
    np.testing.assert_allclose(marginals_of(embeds, relevance, beta=beta), expected, rtol=0, atol=1e-12)


def test_default_beta_discriminates_on_siglip_like_cosines():
    """method.md: a spread of the relevances around .035 gives labels .44 to .68 apart at beta 20, .14 to .23 at 5."""
    rng = np.random.default_rng(13)
    embeds = torch.tensor(rng.normal(size=(64, 9, 32)) + 0.9)
    embeds = F.normalize(embeds, dim=-1)
    relevance = torch.tensor(rng.normal(0.1, 0.035, size=(64, 9)))
    mask = torch.ones(64, 9, dtype=torch.bool)

    def spread(marginals):
        return (marginals.amax(-1) - marginals.amin(-1)).mean()

    sharp = spread(dpp_marginals(embeds, relevance, mask, **NUMBERS))
    flat = spread(dpp_marginals(embeds, relevance, mask, **(NUMBERS | {"beta": 5.0})))
    assert 0.44 < sharp < 0.68 and 0.14 < flat < 0.23


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sigma": 0.0}, "sigma > 0"),
        ({"kappa": 0}, "kappa >= 1"),
        ({"beta": torch.nan}, "finite numbers, got beta=nan"),
        ({"embeds": torch.ones(1, 2, 4)}, "not L2-normalised"),
        ({"embeds": torch.full((1, 2, 4), torch.nan)}, "not finite"),
        ({"relevance": torch.tensor([[0.1, torch.nan]])}, "relevance is not finite"),
        ({"relevance": torch.zeros(1, 3)}, "do not agree"),
    ],
)
def test_bad_input_is_named(changed, message):
    embeds = changed.pop("embeds", torch.full((1, 2, 4), 0.5))
    relevance = changed.pop("relevance", torch.zeros(1, 2))
    with pytest.raises(ValueError, match=message):
        dpp_marginals(embeds, relevance, torch.ones(1, 2, dtype=torch.bool), **(NUMBERS | changed))


# ---------------------------------------------------------------------------------------------- around the marginals


def test_relevance_is_the_largest_cosine_over_real_sentences():
    images = torch.tensor([[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]] * 2)
    sentences = torch.tensor([[[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]] * 2)
    sentence_mask = torch.tensor([[True, True, False], [False, False, False]])
    image_mask = torch.tensor([[True, True, False], [True, True, True]])
    scores = relevance_scores(sentences, sentence_mask, images, image_mask)
    torch.testing.assert_close(scores, torch.tensor([[1.0, 0.96, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64))
    assert relevance_scores(sentences[:, :0], sentence_mask[:, :0], images, image_mask).shape == (2, 3)
    assert relevance_scores(sentences, sentence_mask, images[:, :0], image_mask[:, :0]).shape == (2, 0)
