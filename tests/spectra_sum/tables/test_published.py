"""The data file against the numbers of the source, typed here as its tables print them."""

import inspect

import pytest

from spectra_sum.metrics.mmae.mmae import implied_rouge_l, mmae_of
from spectra_sum.tables import load_published

COMPARISON = """
ATG | 40.63 | 18.12 | 59.28 | 25.82 | 3.35
ATL | 40.86 | 18.27 | 62.44 | 13.26 | 3.26
HAN | 40.82 | 18.30 | 61.83 | 12.22 | 3.25
MOF | 41.20 | 18.33 | 65.45 | 26.38 | 3.37
UniMS | 42.94 | 20.50 | 69.38 | 29.72 | –
SITA | 43.64 | 20.53 | 76.41 | 33.47 | 3.37
BART-VGG | 43.75 | 20.70 | – | – | –
ViL-Sum | 44.29 | 20.96 | 66.27 | 32.17 | 3.55
DIUSum | 42.23 | 19.83 | – | – | –
BERTAbs | 41.85 | 19.40 | – | – | –
DVP | 44.20 | 20.77 | 74.03 | 31.68 | 3.55
"""
MULTI_OBJECTIVE = """
OneVision | 43.81 | 20.52 | 89.58 | 74.02 | 70.62 | 3.5447 | 32.66 | 36.53 | 36.72 | 43.19
Vision Sampler | 44.06 | 20.78 | 89.53 | 74.01 | 70.54 | 3.5484 | 32.65 | 36.50 | 36.73 | 43.22
DVP | 44.20 | 20.77 | 89.33 | 74.03 | 70.52 | 3.5521 | 32.81 | 36.71 | 36.77 | 43.27
"""
LM_ONLY = """
OneVision | 44.26 | 20.86 | 89.12
Vision Sampler | 43.89 | 20.61 | 89.54
DVP | 43.81 | 20.58 | 89.50
"""
PEAK_MEMORY = """
OneVision | 15.80 | 15.81
Vision Sampler | 16.81 | 16.82
DVP | 22.56 | 22.57
"""
GROUP_CAPTIONING = """
InstructBLIP | 14.21 | 6.32 | 1.68
MMICL | 18.72 | 9.41 | 1.86
GPT-4V | 16.85 | 14.19 | 1.61
Gemini Pro | 16.51 | 10.30 | 1.11
SAM | 20.23 | 19.49 | 3.22
"""
STORYTELLING = """
InstructBLIP | 14.76 | 18.27 | 2.11
MMICL | 13.04 | 7.77 | 0.96
GPT-4V | 13.19 | 17.75 | 0.95
Gemini Pro | 15.77 | 17.83 | 2.22
SAM | 19.54 | 25.47 | 3.25
"""
ABLATION = """
InstructBLIP | 6.32 | 18.27
+ linked pairs (MmLINK) | 11.86 | 22.50
+ guidance on mean features | 16.73 | 23.97
+ adaptive adjustment (SAM) | 19.49 | 25.47
a linear layer in place of the W-former | 13.01 | 13.67
"""
ANSWERS = ["rougeL", "cider", "bleu4"]
TEXT = ["rouge1", "rouge2", "bertscore_f1"]
PCD = ["pcd_mean_filtered", "pcd_max_filtered", "pcd_mean", "pcd_max"]


@pytest.mark.parametrize(
    ("part", "printed", "columns"),
    [
        ("comparison", COMPARISON, ["rouge1", "rouge2", "image_precision", "max_sim", "mmae"]),
        ("multi_objective", MULTI_OBJECTIVE, [*TEXT, "image_precision", "clip_score", "mmae", *PCD]),
        ("lm_only", LM_ONLY, TEXT),
        ("peak_memory", PEAK_MEMORY, ["lm_only", "multi_objective"]),
        ("group-captioning", GROUP_CAPTIONING, ANSWERS),
        ("storytelling", STORYTELLING, ANSWERS),
        ("change-captioning", "SAM | 16.08 | 3.84 | 1.08", ANSWERS),
        ("guidance_ablation", ABLATION, ["group-captioning", "storytelling"]),
    ],
)
def test_every_published_number(part, printed, columns):
    expected = []
    for line in printed.strip().splitlines():
        system, *numbers = line.split(" | ")
        values = [None if number == "–" else float(number) for number in numbers]
        expected.append({"system": system, **dict(zip(columns, values, strict=True))})
    assert load_published()[part]["rows"] == expected


def test_human_evaluation_and_weights_of_mmae():
    published = load_published()
    assert published["human_evaluation"]["means"] == {
        "text_quality": 3.90,
        "image_relevance": 4.04,
        "image_diversity": 3.89,
        "overall": 4.00,
    }
    weights = {name: published["mmae"][f"{name}_weight"] for name in ("rougeL", "max_sim", "image_precision")}
    assert weights == {"rougeL": 1.641, "max_sim": 0.854, "image_precision": 0.806}
    assert published["mmae"]["intercept"] == 1.978


def test_the_metric_computes_with_the_cited_weights():
    cited = load_published()["mmae"]
    names = ["intercept", "rougeL_weight", "max_sim_weight", "image_precision_weight"]
    for function in (mmae_of, implied_rouge_l):
        parameters = inspect.signature(function).parameters
        assert {name: parameters[name].default for name in names} == {name: cited[name] for name in names}


def test_every_part_names_a_source():
    published = load_published()
    assert "2605.11753" in published["sources"]["spectra"]["citation"]
    assert "EMNLP 2018" in published["sources"]["msmo"]["citation"]
    parts = [part for part in published.values() if isinstance(part, dict) and "source" in part]
    assert "MM 2024" in published["sources"]["sam"]["citation"]
    assert len(parts) == 10
    assert {part["source"] for part in parts} == set(published["sources"])
