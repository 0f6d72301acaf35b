"""The DPP teacher against enumeration of all subsets, against DPPy, and its invariances and edge cases."""

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

from trainer.dpp_teacher import (
    DPPTeacher,
    best_images_embedding,
    dpp_marginals,
    mean_spread,
    relevance_scores,
    solve_scale,
    summary_embedding,
)

NUMBERS = {"beta": 20.0, "sigma": 0.8, "kappa": 3, "epsilon": 1e-6}


def make_article(images, seed, spread=0.3, width=6):
    """Unit embeddings (N, d) and relevances (N,), float64, from a seed."""
    rng = np.random.default_rng(seed)
    embeds = rng.normal(size=(images, width)) + 1.0
    embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
    return embeds, rng.uniform(-spread / 2, spread / 2, size=images)


def marginals_of(embeds, relevance, **changed):
    """The teacher on one article without padding."""
    embeds, relevance = torch.as_tensor(embeds)[None], torch.as_tensor(relevance)[None]
    mask = torch.ones(relevance.shape, dtype=torch.bool)
    return dpp_marginals(embeds, relevance, mask, **(NUMBERS | changed))[0].numpy()


def gram_kernel(embeds, relevance, beta, sigma):
    """diag(q) S diag(q), entry by entry from the equations."""
    n = len(relevance)
    kernel = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            similarity = np.exp(-(1 - float(np.dot(embeds[i], embeds[j]))) / sigma**2)
            kernel[i, j] = np.exp(beta * relevance[i]) * similarity * np.exp(beta * relevance[j])
    return kernel


def likelihood_kernel(embeds, relevance, beta, sigma, epsilon):
    kernel = gram_kernel(embeds, relevance, beta, sigma)
    return kernel + epsilon * np.trace(kernel) / len(kernel) * np.eye(len(kernel))


def enumerate_marginals(kernel, kappa):
    """Inclusion probabilities under P(A) ∝ det((sL)_A) over all 2^N subsets, s with an expected size of kappa."""
    n = len(kernel)
    kernel = kernel / np.trace(kernel)
    subsets = [subset for size in range(n + 1) for subset in combinations(range(n), size)]
    weights = np.array([np.linalg.det(kernel[np.ix_(subset, subset)]) if subset else 1.0 for subset in subsets])
    sizes = np.array([len(subset) for subset in subsets])

    def probabilities(log_scale):
        scaled = weights * np.exp(log_scale * sizes)
        return scaled / scaled.sum()

    log_scale = brentq(lambda x: probabilities(x) @ sizes - kappa, -10, 40, xtol=1e-14, rtol=1e-14)
    probability = probabilities(log_scale)
    return np.array([sum(p for p, subset in zip(probability, subsets, strict=True) if i in subset) for i in range(n)])


def enumerate_projection(kernel, rank):
    """The limit s -> infinity at the kernel's rank: P(A) ∝ det(L_A) over the subsets of that size alone."""
    n = len(kernel)
    subsets = list(combinations(range(n), rank))
    weights = np.array([np.linalg.det(kernel[np.ix_(subset, subset)]) for subset in subsets])
    return (
        np.array([sum(w for w, a in zip(weights, subsets, strict=True) if i in a) for i in range(n)]) / weights.sum()
    )


# ---------------------------------------------------------------------------------------------- independent sources


@pytest.mark.parametrize("beta", [0.0, 1.0, 5.0, 20.0])
@pytest.mark.parametrize(("images", "kappa"), [(2, 1), (4, 3), (5, 2), (6, 5), (8, 3)])
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
    sharp = mean_spread(dpp_marginals(embeds, relevance, mask, **NUMBERS), mask)
    flat = mean_spread(dpp_marginals(embeds, relevance, mask, **(NUMBERS | {"beta": 5.0})), mask)
    assert 0.44 < sharp < 0.68 and 0.14 < flat < 0.23


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sigma": 0.0}, "sigma > 0"),
        ({"kappa": 0}, "kappa >= 1"),
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


def test_mean_spread_counts_articles_with_two_images():
    marginals = torch.tensor([[0.9, 0.2, 0.0], [1.0, 0.0, 0.0], [0.5, 0.6, 0.4], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False], [True, False, False], [True, True, True], [False, False, False]])
    assert mean_spread(marginals, mask).item() == pytest.approx((0.7 + 0.2) / 2)
    assert mean_spread(marginals[[1, 3]], mask[[1, 3]]).isnan()


def test_best_images_embedding():
    embeds = torch.eye(4).expand(4, 4, 4)
    marginals = torch.tensor([[0.1, 0.9, 0.8, 0.7], [0.1, 0.9, 0.8, 0.7], [0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[True] * 4, [True, False, True, False], [True] * 4, [False] * 4])
    target, has_images = best_images_embedding(embeds, marginals, mask, 2)
    half = 0.5**0.5
    expected = [[0, half, half, 0], [half, 0, half, 0], [half, half, 0, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(target, torch.tensor(expected))
    assert has_images.tolist() == [True, True, True, False]
    target, has_images = best_images_embedding(embeds[:, :0], marginals[:, :0], mask[:, :0], 2)
    assert target.shape == (4, 4) and not target.any() and not has_images.any()


def test_summary_embedding_is_the_normalised_mean_of_the_sentences():
    sentences = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]] * 2)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    torch.testing.assert_close(summary_embedding(sentences, mask), torch.tensor([[0.5**0.5] * 2, [0.0, 0.0]]))


# ---------------------------------------------------------------------------------------------- the text tower

WORDS = [f"w{i}" for i in range(20)]


@pytest.fixture(scope="module")
def tokenizer():
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {word: 3 + i for i, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="left"
    )


def make_dual_encoder(family):
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = size | {"vocab_size": 23, "max_position_embeddings": 8, "eos_token_id": 1, "pad_token_id": 0}
    vision = size | {"image_size": 8, "patch_size": 4}
    torch.manual_seed(0)
    if family == "siglip":
        return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))


def expected_embedding(dual_encoder, family, text):
    """One text by hand: its ids, the end token, padding to the tower's 8 positions; the pooled, normalised output."""
    ids = [3 + WORDS.index(word) for word in text.split()][:7] + [1]
    ids = torch.tensor([ids + [0] * (8 - len(ids))])
    with torch.no_grad():
        pooled = dual_encoder.text_model(input_ids=ids).pooler_output
        if family == "clip":
            pooled = dual_encoder.text_projection(pooled)
    return pooled[0] / pooled[0].norm()


SUMMARIES = [
    ["w1 w2 w3", " ".join(WORDS[:9])],
    ["  ", "w4"],
    [],
]


@pytest.mark.parametrize("family", ["siglip", "clip"])
@pytest.mark.parametrize("long_summary", ["sentences", "truncate"])
def test_embed_summaries(family, long_summary, tokenizer):
    dual_encoder = make_dual_encoder(family).train()
    teacher = DPPTeacher(dual_encoder, tokenizer, **NUMBERS, long_summary=long_summary)
    assert not dual_encoder.training and not any(p.requires_grad for p in dual_encoder.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeds, mask = teacher.embed_summaries(SUMMARIES)
    if long_summary == "sentences":
        texts = [SUMMARIES[0], ["w4"], []]
    else:
        texts = [[" ".join(SUMMARIES[0])], ["w4"], []]
    assert mask.tolist() == [[i < len(row) for i in range(len(texts[0]))] for row in texts]
    for row, sentences in enumerate(texts):
        for column, text in enumerate(sentences):
            torch.testing.assert_close(embeds[row, column], expected_embedding(dual_encoder, family, text))
    assert embeds.dtype == torch.float32 and not embeds.requires_grad and not embeds[~mask].any()
    assert teacher.truncated_texts == 1
    teacher.embed_summaries([SUMMARIES[0], SUMMARIES[0]])
    assert teacher.truncated_texts == 3
    embeds, mask = teacher.embed_summaries([[], []])
    assert embeds.shape == (2, 0, 16 if family == "siglip" else 12) and mask.shape == (2, 0)


def test_teacher_call_puts_the_parts_together(tokenizer):
    teacher = DPPTeacher(make_dual_encoder("siglip"), tokenizer, **NUMBERS, long_summary="sentences")
    sentences, sentence_mask = teacher.embed_summaries([["w1 w2", "w3"], ["w5"]])
    images, _ = make_article(10, seed=14, width=16)
    images = torch.tensor(images).reshape(2, 5, 16).requires_grad_()
    labels = teacher(images, torch.ones(2, 5, dtype=torch.bool), sentences, sentence_mask)
    assert not labels.requires_grad
    for row, count in enumerate([2, 1]):
        vectors = images[row].detach().numpy()
        relevance = (vectors @ sentences[row, :count].double().numpy().T).max(1)
        expected = enumerate_marginals(likelihood_kernel(vectors, relevance, 20.0, 0.8, 1e-6), 3)
        np.testing.assert_allclose(labels[row].numpy(), expected, rtol=0, atol=1e-9)


def test_unknown_long_summary_is_named(tokenizer):
    with pytest.raises(ValueError, match="long_summary.*'whole'"):
        DPPTeacher(make_dual_encoder("siglip"), tokenizer, **NUMBERS, long_summary="whole")


def test_benchmark_runs_and_its_teachers_agree(tmp_path):
    pytest.importorskip("dppy")
    script = Path(__file__).parents[2] / "benchmarks" / "dpp_teacher.py"
    output = tmp_path / "benchmark.json"
    done = subprocess.run(
        [sys.executable, script, "--sets", "20", "--output", output], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert set(result["sets_per_second"]) == {"dpp_marginals", "torch.linalg.eigh", "DPPy"}
    assert all(value > 0 for value in result["sets_per_second"].values())
    assert result["largest_difference_to_dppy"] < 1e-9
