"""Greedy MAP against its definition by determinants and, where greedy is exact, against enumeration of all sets."""

from itertools import combinations

import numpy as np
import pytest
import torch

from spectra_sum.selection.dpp import log_quality, similarity_kernel
from spectra_sum.selection.greedy_map import greedy_map
from tests.spectra_sum.selection.dpp_enumeration import gram_kernel, make_article


def greedy_of(embeds, relevance, count, beta=20.0, sigma=0.8):
    similarity = similarity_kernel(torch.as_tensor(embeds), sigma)
    selected, gains = greedy_map(similarity, log_quality(torch.as_tensor(relevance), beta), count)
    return selected, gains.numpy()


def log_determinant(kernel, subset):
    sign, value = np.linalg.slogdet(kernel[np.ix_(subset, subset)])
    return value if sign > 0 else -np.inf


def greedy_by_determinants(kernel, count):
    """At every step det(L_{A+i}) of every candidate; the selection and log(det(L_{A+i}) / det(L_A)) at each step."""
    selected, gains, reached = [], [], 0.0
    while len(selected) < count:
        rest = [image for image in range(len(kernel)) if image not in selected]
        # Without relevance the first step is a tie, to round-off: the first image is meant to win it.
        values = [round(log_determinant(kernel, [*selected, image]), 9) for image in rest]
        gains.append(max(values) - reached)
        reached = max(values)
        selected.append(rest[int(np.argmax(values))])
    return selected, gains


@pytest.mark.parametrize("beta", [0.0, 5.0, 20.0])
@pytest.mark.parametrize(("images", "count"), [(1, 1), (4, 4), (9, 3), (12, 6), (20, 5)])
def test_greedy_equals_greedy_by_determinants(images, count, beta):
    for seed in range(5):
        embeds, relevance = make_article(images, seed=100 * images + seed)
        expected, log_gains = greedy_by_determinants(gram_kernel(embeds, relevance, beta, 0.8), count)
        selected, gains = greedy_of(embeds, relevance, count, beta)
        assert selected == expected
        # The gains are those of the kernel over its largest quality, q_max² = exp(2·beta·max r).
        expected_gains = np.exp(np.array(log_gains) - 2 * beta * relevance.max())
        np.testing.assert_allclose(gains[selected], expected_gains, rtol=1e-7)


def test_gains_of_the_rest_are_those_after_the_last_selection():
    embeds, relevance = make_article(7, seed=1)
    kernel = gram_kernel(embeds, relevance, 5.0, 0.8) / np.exp(2 * 5.0 * relevance.max())
    selected, gains = greedy_of(embeds, relevance, 3, beta=5.0)
    for image in set(range(7)) - set(selected):
        expected = np.exp(log_determinant(kernel, [*selected, image]) - log_determinant(kernel, selected))
        assert gains[image] == pytest.approx(expected, rel=1e-9)


def exact_map(kernel, size):
    return max(combinations(range(len(kernel)), size), key=lambda subset: log_determinant(kernel, list(subset)))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_greedy_is_the_exact_map_among_equally_similar_images(size):
    """One similarity between all pairs makes det(S_A) a function of |A| alone: the best set has the best qualities."""
    _, relevance = make_article(5, seed=2)
    embeds = np.eye(5)
    selected, _ = greedy_of(embeds, relevance, size)
    assert set(selected) == set(exact_map(gram_kernel(embeds, relevance, 20.0, 0.8), size))
    assert selected == np.argsort(-relevance)[:size].tolist()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_greedy_is_the_exact_map_among_copies_of_equally_similar_images(size):
    """Three kinds of images in copies that differ in relevance: the best set has the best copy of the best kinds."""
    kinds = np.array([0, 0, 1, 2, 1, 2, 0])
    relevance = np.array([0.30, 0.29, 0.10, 0.05, 0.12, 0.08, 0.28])
    embeds = np.eye(3)[kinds]
    selected, _ = greedy_of(embeds, relevance, size)
    assert set(selected) == set(exact_map(gram_kernel(embeds, relevance, 20.0, 0.8), size))
    assert selected == [0, 4, 5][:size]


def test_it_stops_where_only_copies_are_left():
    embeds, relevance = make_article(2, seed=3)
    order = [1, 0, 0, 1, 1, 0]
    selected, gains = greedy_of(embeds[order], relevance[order], 5)
    assert sorted(order[image] for image in selected) == [0, 1]
    # Of equal copies the first in the article's order.
    assert set(selected) == {0, 1}
    assert (gains[2:] == 0).all()


@pytest.mark.parametrize("beta", [1e3, 1e6])
def test_no_beta_underflows_the_order(beta):
    embeds, relevance = make_article(6, seed=4)
    selected, gains = greedy_of(embeds, relevance, 6, beta=beta)
    assert selected == np.argsort(-relevance).tolist()
    assert np.isfinite(gains).all()


def test_equal_gains_are_taken_in_the_order_of_the_article():
    assert greedy_of(np.eye(5), np.zeros(5), 3)[0] == [0, 1, 2]
    assert greedy_of(np.eye(5), np.array([0.0, 0.1, 0.0, 0.1, 0.0]), 4)[0] == [1, 3, 0, 2]
