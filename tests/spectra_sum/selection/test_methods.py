"""The selection methods by name: what each selects and scores, their edge cases, and that order of input is no matter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_spectra import SpectraSumConfig
from spectra_sum.selection.methods import SELECTION_METHODS, SelectionSettings, select, select_by_relevance
from tests.spectra_sum.selection.dpp_enumeration import enumerate_marginals, likelihood_kernel

DEFAULTS = SelectionSettings()
READ_THE_SUMMARY = ("teacher", "dpp-map", "mmr", "clip")


def unit(rows, width, seed):
    vectors = np.random.default_rng(seed).normal(size=(rows, width))
    return torch.as_tensor(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def choose(method, images, sentences, count=3, numbers=DEFAULTS, seed=0):
    return select(method, images, sentences, count=count, settings=numbers, seed=seed)


def test_the_defaults_are_those_of_the_teacher():
    config = SpectraSumConfig()
    teacher = (config.teacher_beta, config.teacher_sigma, config.teacher_kappa, config.teacher_epsilon)
    assert (DEFAULTS.beta, DEFAULTS.sigma, DEFAULTS.kappa, DEFAULTS.epsilon) == teacher


def test_teacher_is_the_best_of_the_marginals():
    images, sentences = unit(7, 8, 1), unit(2, 8, 2)
    relevance = (images @ sentences.T).amax(-1).numpy()
    expected = enumerate_marginals(likelihood_kernel(images.numpy(), relevance, 2.0, 0.6, 1e-3), 2)
    numbers = SelectionSettings(beta=2.0, sigma=0.6, kappa=2, epsilon=1e-3)
    selected = choose("teacher", images, sentences, count=4, numbers=numbers)
    np.testing.assert_allclose(selected.scores, expected, rtol=0, atol=1e-9)
    assert selected.indices == np.argsort(-expected)[:4].tolist()


# Images at 0°, a copy of it, 36.87° and 90°; the sentence at 0°, so that relevance is 1, 1, .8, 0.
FAN = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
EAST = torch.tensor([[1.0, 0.0]])


def test_each_method_on_one_case_by_hand():
    """beta 1, sigma 1: det of {0, 2} is e^2·e^1.6·(1 - e^-.4) = 12.1, of {0, 3} e^2·(1 - e^-2) = 6.4: image 2 next."""
    numbers = SelectionSettings(beta=1.0, sigma=1.0, mmr_trade_off=0.5)
    assert choose("clip", FAN, EAST, 2).indices == [0, 1]
    assert choose("clip", FAN, EAST).scores == pytest.approx([1.0, 1.0, 0.8, 0.0])
    assert choose("dpp-map", FAN, EAST, 2, numbers).indices == [0, 2]
    gain = np.exp(-0.4) * (1 - np.exp(-0.4)), np.exp(-2)
    assert choose("dpp-map", FAN, EAST, 2, numbers).scores[:3] == pytest.approx([1.0, 0.0, gain[0]])
    # Every image but the first scores .5·relevance - .5·cosine = 0: a tie, in the article's order.
    assert choose("mmr", FAN, EAST, 3, numbers).indices == [0, 1, 2]
    assert choose("mmr", FAN, EAST, 3, numbers).scores == pytest.approx([0.5, 0.0, 0.0, -0.3], abs=1e-7)


def test_relevance_is_the_largest_cosine_over_the_sentences():
    sentences = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    selected = choose("clip", FAN, sentences, 2)
    assert selected.scores == pytest.approx([0.0, 0.0, 0.6, 1.0])
    assert selected.indices == [3, 2]


def test_copies_fill_up_the_count_by_relevance_where_the_process_allows_no_more():
    images = torch.eye(2)[[0, 0, 1, 1]]
    relevance = torch.tensor([0.1, 0.2, 0.3, 0.4])
    selected = select_by_relevance("dpp-map", images, relevance, count=4, settings=DEFAULTS, seed=0)
    assert selected.indices == [3, 1, 2, 0]
    assert selected.scores[0] == selected.scores[2] == 0


@pytest.mark.parametrize("method", SELECTION_METHODS)
def test_no_images_one_image_and_fewer_than_asked_for(method):
    sentences = unit(2, 4, 3)
    nothing = choose(method, torch.zeros(0, 4), sentences)
    assert nothing.indices == [] and nothing.scores == []
    one = choose(method, unit(1, 4, 4), sentences)
    assert one.indices == [0] and len(one.scores) == 1
    assert sorted(choose(method, unit(4, 4, 5), sentences, count=9).indices) == [0, 1, 2, 3]


@pytest.mark.parametrize("method", SELECTION_METHODS)
def test_copies_of_one_image_are_selected_in_order_up_to_the_count(method):
    selected = choose(method, unit(1, 4, 6).repeat(5, 1), unit(1, 4, 7))
    assert len(selected.scores) == 5
    if method == "random":
        assert len(set(selected.indices)) == 3
    else:
        assert selected.indices == [0, 1, 2]


@pytest.mark.parametrize("method", READ_THE_SUMMARY)
def test_without_sentences_every_relevance_is_zero(method):
    """Diversity alone: beside two near copies the third kind is selected, by clip the first images."""
    angles = torch.tensor([0.0, 0.1, 1.5], dtype=torch.float64)
    images = torch.stack([angles.cos(), angles.sin()], dim=1)
    numbers = SelectionSettings(kappa=2)
    selected = choose(method, images, torch.zeros(0, 2), count=2, numbers=numbers)
    if method == "clip":
        assert selected.indices == [0, 1] and selected.scores == [0.0, 0.0, 0.0]
    else:
        assert 2 in selected.indices


@pytest.mark.parametrize("count", [1, 2])
def test_marginals_that_are_all_one_keep_the_order_of_the_article(count):
    numbers = SelectionSettings(beta=1.0)
    for seed in range(20):
        assert choose("teacher", unit(3, 6, seed), unit(1, 6, 99), count, numbers).indices == list(range(count))


def test_random_depends_on_its_seed_alone():
    images, sentences = unit(20, 4, 8), unit(1, 4, 9)
    first = choose("random", images, sentences, 20, seed=1)
    assert first == choose("random", unit(20, 4, 10), unit(3, 4, 11), 20, seed=1)
    assert first.indices != choose("random", images, sentences, 20, seed=2).indices
    assert first.indices == np.argsort(-np.array(first.scores)).tolist()
    draws = [choose("random", images, sentences, 1, seed=seed).indices[0] for seed in range(2000)]
    # 100 of each expected, standard deviation 9.7.
    assert np.bincount(draws, minlength=20).min() > 55 and np.bincount(draws).max() < 145


@pytest.mark.parametrize("method", READ_THE_SUMMARY)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 12), count=st.integers(1, 6), data=st.data())
@settings(max_examples=25, deadline=None)
def test_permutation_of_the_images_permutes_the_selection(method, seed, images, count, data):
    order = data.draw(st.permutations(range(images)))
    embeds, sentences = unit(images, 8, seed), unit(2, 8, seed + 1)
    # An expected size of 1 keeps the marginals of few images from being all equal.
    numbers = SelectionSettings(beta=5.0, kappa=1)
    plain = choose(method, embeds, sentences, count, numbers)
    permuted = choose(method, embeds[order], sentences, count, numbers)
    assert [order[index] for index in permuted.indices] == plain.indices
    np.testing.assert_allclose(permuted.scores, np.array(plain.scores)[order], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "vrp"}, "unknown selection method 'vrp'; known are teacher, dpp-map"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"image_embeds": torch.ones(3, 4)}, "image_embeds holds real images that are not finite or not L2"),
        ({"sentence_embeds": torch.full((1, 4), torch.nan)}, "sentence_embeds holds sentences that are not finite"),
        ({"sentence_embeds": torch.eye(5)[:1]}, "one dual encoder, but their widths are 4 and 5"),
        ({"image_embeds": torch.ones(4)}, r"image_embeds must have the shape \(number, width\), got \(4,\)"),
    ],
)
def test_bad_input_is_named(changed, message):
    arguments = {"method": "clip", "image_embeds": torch.eye(4), "sentence_embeds": torch.eye(4)[:1], "count": 3}
    with pytest.raises(ValueError, match=message):
        select(**(arguments | changed), settings=DEFAULTS, seed=0)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"mmr_trade_off": 1.1}, "mmr_trade_off"),
        ({"mmr_trade_off": float("nan")}, "mmr_trade_off"),
        ({"sigma": 0.0}, "sigma > 0"),
        ({"beta": -1.0}, "beta >= 0"),
        *(
            ({name: float("nan")}, f"finite numbers, got .*{name}=nan")
            for name in ("beta", "sigma", "kappa", "epsilon")
        ),
        ({"kappa": float("inf")}, "finite numbers, got .*kappa=inf"),
    ],
)
def test_settings_out_of_range_are_named(numbers, message):
    with pytest.raises(ValueError, match=message):
        SelectionSettings(**numbers)
