"""The DPP teacher: its text tower, its labels put together, and what is computed from them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

from tests.double_precision import EPSILON
from tests.spectra_sum.selection.dpp_enumeration import NUMBERS, enumerate_marginals, likelihood_kernel, make_article
from trainer.objectives.dpp_teacher import DPPTeacher, best_images_embedding, mean_spread, summary_embedding

pytestmark = pytest.mark.usefixtures("preloaded_python")


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
    torch.testing.assert_close(target, torch.tensor(expected), rtol=0, atol=4 * EPSILON)
    assert has_images.tolist() == [True, True, True, False]
    target, has_images = best_images_embedding(embeds[:, :0], marginals[:, :0], mask[:, :0], 2)
    assert target.shape == (4, 4) and not target.any() and not has_images.any()


def test_summary_embedding_is_the_normalised_mean_of_the_sentences():
    sentences = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]] * 2)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    torch.testing.assert_close(
        summary_embedding(sentences, mask), torch.tensor([[0.5**0.5] * 2, [0.0, 0.0]]), rtol=0, atol=4 * EPSILON
    )


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
            # Unit vectors, each made of sums of 16 to 32 products in float32 (autocast would leave float64 alone).
            expected = expected_embedding(dual_encoder, family, text)
            torch.testing.assert_close(embeds[row, column], expected, rtol=0, atol=16 * EPSILON)
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
    script = Path(__file__).parents[3] / "benchmarks" / "dpp_teacher.py"
    output = tmp_path / "benchmark.json"
    done = subprocess.run(
        [sys.executable, script, "--sets", "20", "--output", output], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert set(result["sets_per_second"]) == {"dpp_marginals", "torch.linalg.eigh", "DPPy"}
    assert all(value > 0 for value in result["sets_per_second"].values())
    assert result["largest_difference_to_dppy"] < 1e-9
