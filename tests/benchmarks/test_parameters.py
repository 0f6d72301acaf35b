"""The parameter table against formulas written out by hand, at the published dimensions."""

import json
from pathlib import Path

import pytest

from benchmarks.parameters import MODULES, SUMS, VARIANTS, count_all, render
from modeling_spectra import SpectraSumConfig

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "parameters.json"
VISION, VISION_FF, PATCHES = 1152, 4304, 27 * 27
# Width, layers, feed-forward, width of keys (4 heads of 128; 2 heads of 64), vocabulary, tied.
LANGUAGE = {"7b": (3584, 28, 18944, 512, 152128, False), "0.5b": (896, 24, 4864, 128, 152000, True)}


def linear(inputs, outputs, bias=True):
    return inputs * outputs + (outputs if bias else 0)


def siglip(layers):
    """Patch and position embeddings, layers of two norms, attention and feed-forward, and the last norm."""
    feed_forward = linear(VISION, VISION_FF) + linear(VISION_FF, VISION)
    layer = 2 * 2 * VISION + 4 * linear(VISION, VISION) + feed_forward
    return linear(3 * 14 * 14, VISION) + PATCHES * VISION + layers * layer + 2 * VISION


def pooling_head():
    """Probe, attention, norm and feed-forward."""
    return VISION + 4 * linear(VISION, VISION) + 2 * VISION + linear(VISION, VISION_FF) + linear(VISION_FF, VISION)


def by_hand(size, variant):
    d, layers, ff, keys, vocabulary, tied = LANGUAGE[size]
    decoder_layer = 2 * d + linear(d, d) + 2 * linear(d, keys) + linear(d, d, bias=False) + 3 * d * ff
    attention, feed_forward = 4 * d * d, linear(d, 4 * d) + linear(4 * d, d)
    counts = dict.fromkeys(MODULES, 0) | {
        "vision_tower": siglip(26),
        "embedding_tower": siglip(27) + pooling_head(),
        "language_model": vocabulary * d * (1 if tied else 2) + layers * decoder_layer + d,
        "relevance_predictor": linear(VISION, 256) + linear(256, 1),
        "alignment_head": linear(d, VISION) + 1,
    }
    if variant == "OneVision":
        counts["projector"] = linear(VISION, d) + linear(d, d) + d
    else:
        # Patch projection and positions, 64 latents, 2 blocks of 4 norms and 2 attentions, a norm, the pooled embedding.
        counts["sampler"] = linear(VISION, d) + PATCHES * d + 64 * d + d + linear(VISION, d)
        counts["sampler"] += 2 * (4 * d + 2 * attention + feed_forward)
        counts["cross_attentions"], counts["gates"] = 3 * (2 * d + attention), 3
    if variant == "DVP":
        counts["deep_visual_processor"] = 5 * d + 24 * (2 * d + attention + feed_forward)
    return counts


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", LANGUAGE)
def test_published_counts_are_the_formulas(size, variant):
    """Those of the result file, which the README shows."""
    result = json.loads(RESULT.read_text())
    found = result["sizes"][size]["parameters"][variant]
    expected = by_hand(size, variant)
    assert {module: found[module] for module in MODULES} == expected
    assert found["total"] == sum(expected.values())
    backbones = {"vision_tower", "embedding_tower", "language_model"}
    assert found["new"] == sum(count for module, count in expected.items() if module not in backbones)
    assert found["total_with_one_tower"] == found["total"] - expected["vision_tower"]
    table = RESULT.with_suffix(".md").read_text()
    assert table == render(result) and f"{expected['language_model']:,}" in table


def field_by_hand(size):
    """All new modules of the field's fusions."""
    d, layers, *_ = LANGUAGE[size]
    paper = by_hand(size, "Vision Sampler")
    heads = paper["relevance_predictor"] + paper["alignment_head"]
    sampler, gates, rank = paper["sampler"], 3, 64

    def read(width):
        """One head of the rank: query and output, keys and values of these states, whose norm they pass."""
        return 2 * rank**2 + 2 * width * rank + width

    def adapter(width):
        return d + linear(d, rank) + read(width) + linear(rank, d)

    latents = 2 * d * d
    deep_query = 2 * 4 * VISION * VISION + 3 * VISION + 2 * VISION
    kmeans = linear(VISION, VISION) + linear(VISION, d)
    return {
        "Adapters": sampler + layers * adapter(d) + heads,
        "Adapters, patches": layers * adapter(VISION) + heads,
        "Modulation": sampler + gates * (linear(d, rank) + read(d) + linear(rank, 2 * d)) + heads,
        "Parameter-free": sampler + gates + heads,
        # Queries and output of the text's width, keys and values of the tower's.
        "Tower states": gates * (d + VISION + latents + 2 * VISION * d + 1) + heads,
        "Deep query": deep_query + sampler + gates * (2 * d + 2 * latents + 1) + heads,
        "K-means": kmeans + gates * (2 * d + 2 * latents + 1) + heads,
    }


@pytest.mark.parametrize("size", LANGUAGE)
def test_published_counts_of_the_fields_fusions_are_the_formulas(size):
    assert json.loads(RESULT.read_text())["sizes"][size]["field"] == field_by_hand(size)


def test_the_script_counts_so():
    """Qwen2-0.5B has 494,032,768 parameters with its own 151,936 words, and Qwen2-7B 7,615,616,512 with 152,064."""
    counted = count_all()["sizes"]
    assert counted == json.loads(RESULT.read_text())["sizes"]
    found = counted["0.5b"]["parameters"]["DVP"]
    assert set(found) == {*MODULES, *SUMS}
    assert found["language_model"] == 494_032_768 + (152_000 - 151_936) * 896
    assert by_hand("7b", "DVP")["language_model"] == 7_615_616_512 + 2 * (152_128 - 152_064) * 3584


def test_the_settings_are_the_ones_of_the_bars():
    """K = 24, G = {8, 16, 24}, M = 64, feed-forward 4, and everything else as by default."""
    for size in LANGUAGE:
        settings = json.loads(RESULT.read_text())["sizes"][size]["settings"]
        defaults = SpectraSumConfig()
        assert settings == {name: getattr(defaults, name) for name in settings}
        assert (settings["dvp_num_layers"], settings["gate_layers"], settings["num_latents"]) == (24, [8, 16, 24], 64)
        assert settings["dvp_feed_forward_multiplier"] == settings["sampler_feed_forward_multiplier"] == 4
