"""Adapters, modulation, parameter-free attention, k-means and the tower's layers against transcriptions of their equations."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from scipy.cluster.vq import kmeans2
from torch import nn
from transformers.masking_utils import create_bidirectional_mask

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration
from modeling_spectra.visual_context import attendable, register_injection
from tests.double_precision import EXACT
from tests.modeling_spectra.fusion_cases import open_zeros
from tests.modeling_spectra.parity_setup import bare_text_model
from tests.tiny import (
    NUM_PATCHES,
    TEXT_LAYERS,
    TEXT_WIDTH,
    VISION_WIDTH,
    pixels,
    text_config,
    tiny_config,
    tiny_model,
    tokens,
)
from tests.vision_towers import tiny_towers

RANK = 8
pytestmark = pytest.mark.usefixtures("float64")
MASK = torch.tensor([[True] * 6, [True] * 3 + [False] * 3, [False] * 6])


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rms(states, weight=1.0, eps=1e-6):
    return weight * states / (states.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def one_head(attention, queries, states, mask):
    """Softmax attention of one head, row by row, over the states that the mask leaves."""
    result = torch.zeros(*queries.shape[:2], attention.v_proj.weight.shape[0])
    for row in range(queries.shape[0]):
        kept = states[row, mask[row]]
        keys, values = kept @ attention.k_proj.weight.T, kept @ attention.v_proj.weight.T
        for place, query in enumerate(queries[row] @ attention.q_proj.weight.T):
            scores = [float(query @ key) / math.sqrt(len(key)) for key in keys]
            largest = max(scores)
            weights = [math.exp(score - largest) for score in scores]
            result[row, place] = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    return result @ attention.o_proj.weight.T


def called(model, layer, hidden, visual):
    mask = create_bidirectional_mask(model.config, hidden, attendable(MASK), encoder_hidden_states=visual)
    return layer(hidden, *layer.project_visual_states(visual), mask, MASK.any(1))


@torch.no_grad()
@pytest.mark.parametrize("reads", ["latents", "patches"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_an_adapter_equals_its_formula(implementation, reads):
    """§10: H + W_up φ(W_down H + CrossAttention_r(W_down H, V))."""
    model = open_zeros(tiny_model("adapter", adapter_rank=RANK, adapter_reads=reads, attention=implementation))
    adapter = model.visual_path.adapters["1"]
    width = TEXT_WIDTH if reads == "latents" else VISION_WIDTH
    hidden, visual = random(3, 4, TEXT_WIDTH), random(3, 6, width, seed=1)
    result, _ = called(model, adapter, hidden, visual)
    narrow = (
        rms(hidden[:2], adapter.query_norm.weight) @ adapter.bottleneck.down_proj.weight.T
        + adapter.bottleneck.down_proj.bias
    )
    read = one_head(
        adapter.bottleneck.attention, narrow, rms(visual[:2], adapter.bottleneck.visual_norm.weight), MASK[:2]
    )
    update = F.gelu(narrow + read) @ adapter.up_proj.weight.T + adapter.up_proj.bias
    torch.testing.assert_close(result[:2], hidden[:2] + update, **EXACT)
    assert torch.equal(result[2], hidden[2])


def test_an_adapter_stands_in_every_layer_and_has_the_parameters_of_its_formula():
    model = tiny_model("adapter", adapter_rank=RANK, gate_layers=None)
    assert sorted(map(int, model.visual_path.adapters)) == list(range(1, TEXT_LAYERS + 1))
    # W_down and W_up with their biases, the four projections of the attention, two norms.
    each = 2 * TEXT_WIDTH * RANK + RANK + TEXT_WIDTH + 2 * RANK**2 + 2 * TEXT_WIDTH * RANK + 2 * TEXT_WIDTH
    assert sum(p.numel() for p in model.visual_path.adapters.parameters()) == TEXT_LAYERS * each
    assert tiny_config("adapter", gate_layers=[2]).gate_layers == [2]


@torch.no_grad()
@pytest.mark.parametrize("text", ["qwen2", "llama"])
def test_a_modulated_layer_equals_its_formula(text):
    """§11: the whole decoder layer with norm(H) ⊙ (γ + Δγ) + Δβ in front of its attention, by the parts of the bare model."""
    model = open_zeros(tiny_model("modulation", text=text, modulation_rank=RANK, gate_layers=[1]))
    bare = bare_text_model(model)
    ids, (values, mask) = tokens(1, 5), pixels(2)
    read = model.encode_images(values, mask)
    path = model.visual_path
    patches, embeds = model.embed_images(values, mask)
    latents = path.latents(patches, embeds, mask).flatten(1, 2)

    modulation, layer = path.modulations["1"], bare.model.layers[0]
    hidden = bare.get_input_embeddings()(ids)
    normed = rms(hidden, eps=bare.config.rms_norm_eps)
    condition = normed @ modulation.bottleneck.down_proj.weight.T + modulation.bottleneck.down_proj.bias
    attended = one_head(
        modulation.bottleneck.attention,
        condition,
        rms(latents, modulation.bottleneck.visual_norm.weight),
        torch.ones(1, latents.shape[1], dtype=torch.bool),
    )
    deltas = F.gelu(condition + attended) @ modulation.delta_proj.weight.T + modulation.delta_proj.bias
    changed = normed * (layer.input_layernorm.weight + deltas[..., :TEXT_WIDTH]) + deltas[..., TEXT_WIDTH:]
    # The bare model with this norm in its first layer.
    layer.input_layernorm.forward = lambda _: changed
    torch.testing.assert_close(
        model(input_ids=ids, visual_key_values=read.visual_key_values).logits, bare(ids).logits, **EXACT
    )


def test_modulation_needs_an_rms_norm_in_front_of_the_attention():
    class OtherLayer(nn.Module):
        pass

    with pytest.raises(ValueError, match="OtherLayer has none"):
        register_injection(nn.ModuleList([OtherLayer()]), into_norms=True)
    register_injection(nn.ModuleList([OtherLayer()]), into_norms=False)


@torch.no_grad()
@pytest.mark.parametrize("share", [1.0, 0.5, 0.01])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_parameter_free_attention_equals_its_formula(implementation, share):
    model = tiny_model(
        "sampler", gate=0.7, cross_attention="parameter_free", keep_share=share, attention=implementation
    )
    gated = model.visual_path.cross_attentions["1"]
    assert [name for name, _ in gated.named_parameters()] == ["gate.alpha"]
    hidden, visual = random(3, 4, TEXT_WIDTH), random(3, 6, TEXT_WIDTH, seed=1)
    result, weights = called(model, gated, hidden, visual)
    expected = hidden.clone()
    for row in range(2):
        states = rms(visual[row, MASK[row]])
        kept = math.ceil(share * len(states))
        for place in range(4):
            scores = (states @ rms(hidden[row, place])) / math.sqrt(TEXT_WIDTH)
            strongest = sorted(range(len(states)), key=lambda index: -scores[index])[:kept]
            exponentials = {index: math.exp(scores[index]) for index in strongest}
            total = sum(exponentials.values())
            read = sum(exponentials[index] / total * states[index] for index in strongest)
            expected[row, place] += math.tanh(0.7) * read
            assert (weights[row, 0, place] > 0).sum() == kept
    torch.testing.assert_close(result, expected, **EXACT)
    assert torch.equal(result[2], hidden[2]) and not weights[2].any()


@torch.no_grad()
def test_k_means_are_those_of_scipy():
    model = tiny_model("sampler", sampler_type="kmeans", add_pooled_embedding=False)
    sampler = model.visual_path.sampler
    assert not list(sampler.parameters())
    # Two that are the same leave a cluster without patches.
    patches = torch.stack([random(16, VISION_WIDTH), random(16, VISION_WIDTH, seed=1)])
    patches[1, 8] = patches[1, 2]
    # The middles of three parts of 16 patches.
    places = [2, 8, 13]
    with pytest.warns(UserWarning, match="empty"):
        expected = [
            kmeans2(rows, rows[places], iter=10, minit="matrix", missing="warn")[0] for rows in patches.numpy()
        ]
    torch.testing.assert_close(sampler(patches, None), torch.from_numpy(np.stack(expected)), **EXACT)


@torch.no_grad()
def test_the_gates_read_the_towers_own_layers():
    """§11: gate ℓ reads ⌈ℓ · L_v / max G⌉; of 2 layers and gates 1, 2, 3 these are 1, 2 and 2."""
    model = tiny_model("sampler", gate_layers=[1, 2, 3], visual_states="tower")
    values, mask = pixels(2)
    own = model.vision_tower(values[0], output_hidden_states=True).hidden_states
    assert model.visual_path.sampler is None and model.config.tower_layers == [1, 2]
    keys = model.encode_images(values, mask).visual_key_values.keys
    assert keys.shape[3] == 2 * NUM_PATCHES
    for place, layer in enumerate((1, 2, 2)):
        gate = model.visual_path.cross_attentions[str(place + 1)]
        states = rms(own[layer].flatten(0, 1), gate.visual_norm.weight)
        torch.testing.assert_close(
            keys[0, place].transpose(0, 1).flatten(1), states @ gate.attention.k_proj.weight.T, **EXACT
        )


@torch.no_grad()
def test_layers_of_other_grids_are_averaged_to_the_coarsest():
    tower = tiny_towers()["convnext"]
    config = SpectraSumConfig(
        vision_config=tower.config,
        text_config=text_config(),
        image_size=32,
        fusion="sampler",
        gate_layers=[1],
        vision_feature_layers=[0, -1],
    )
    model = SpectraSumForConditionalGeneration(config).eval()
    values = random(1, 1, 3, 32, 32)
    stem, last = (
        model.vision_tower(values[0], output_hidden_states=True).hidden_states[index][0] for index in (0, -1)
    )
    factor = stem.shape[-1] // last.shape[-1]
    assert factor > 1
    patches = model.patch_images(values, torch.ones(1, 1, dtype=torch.bool))[0, 0]
    for y in range(last.shape[-1]):
        for x in range(last.shape[-1]):
            block = stem[:, factor * y : factor * (y + 1), factor * x : factor * (x + 1)].mean(dim=(1, 2))
            expected = torch.cat([block, last[:, y, x]])
            torch.testing.assert_close(patches[y * last.shape[-1] + x], expected, **EXACT)


@torch.no_grad()
def test_deep_features_query_the_shallow_ones():
    model = tiny_model("sampler", vision_feature_layers=[0, 1, 2], feature_fusion="query")
    query = model.visual_path.feature_query
    patches = random(2, NUM_PATCHES, 3 * VISION_WIDTH)
    deep = patches[..., 2 * VISION_WIDTH :]
    assert torch.equal(query(patches), deep)
    open_zeros(model)

    def attend(module, queries, states):
        reference = nn.MultiheadAttention(VISION_WIDTH, 2, bias=False, batch_first=True)
        reference.in_proj_weight.copy_(torch.cat([module.q_proj.weight, module.k_proj.weight, module.v_proj.weight]))
        reference.out_proj.weight.copy_(module.o_proj.weight)
        return reference(queries, states, states, need_weights=False)[0]

    shallow = torch.cat([patches[..., :VISION_WIDTH], patches[..., VISION_WIDTH : 2 * VISION_WIDTH]], dim=1)
    states = deep + query.cross_scale * attend(
        query.cross_attention, rms(deep, query.deep_norm.weight), rms(shallow, query.shallow_norm.weight)
    )
    normed = rms(states, query.self_norm.weight)
    states = states + query.self_scale * attend(query.self_attention, normed, normed)
    torch.testing.assert_close(query(patches), states, **EXACT)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fusion": "concat", "visual_states": "tower"}, "visual_states is 'tower', which belongs to a fusion inside"),
        ({"fusion": "adapter", "adapter_reads": "patches", "visual_states": "dvp"}, "visual_states is 'dvp'"),
        ({"fusion": "sampler", "adapter_reads": "patches"}, 'adapter_reads.*belongs to fusion="adapter"'),
        ({"fusion": "adapter", "cross_attention": "parameter_free"}, "cross_attention is 'parameter_free'"),
        ({"fusion": "sampler", "keep_share": 0.5}, "keep_share is 0.5, which belongs to cross_attention"),
        ({"fusion": "sampler", "cross_attention": "parameter_free", "keep_share": 0.0}, "keep_share is 0.0"),
        (
            {"fusion": "sampler", "cross_attention": "parameter_free", "visual_states": "tower"},
            r"language model's width 32, and visual_states='tower' gives \[24\]",
        ),
        ({"vision_feature_layers": []}, "vision_feature_layers is"),
        ({"vision_feature_layers": [0, 7]}, "vision_feature_layers is 7.*3 hidden states"),
        ({"vision_feature_layers": [1, 2], "vision_feature_layer": 0}, "leave one out"),
        ({"vision_feature_layers": [2], "feature_fusion": "query"}, "feature_fusion is 'query'"),
        ({"vision_feature_layers": [1, 2], "visual_states": "tower"}, "leave one out"),
        (
            {"fusion": "sampler", "visual_states": "tower", "sampler_type": "qformer"},
            "has no sampler with visual_states",
        ),
        ({"fusion": "sampler", "sampler_type": "kmeans", "num_latents": 5}, "num_latents is 5.*at most 4"),
        (
            {"fusion": "sampler", "sampler_type": "kmeans", "image_guidance": "bidirectional"},
            "no layers to guide",
        ),
        ({"fusion": "adapter", "gate_layers": [5]}, r"gate_layers.*1\.\.4"),
        ({"adapter_rank": 0}, "adapter_rank is 0"),
        ({"modulation_rank": 0}, "modulation_rank is 0"),
    ],
)
def test_settings_that_do_not_go_together_are_named(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(**fields)


def test_a_hidden_state_that_is_not_there_is_named_before_a_qformer_is_sized_by_it():
    with pytest.raises(ValueError, match="vision_feature_layers is 99.*3 hidden states"):
        tiny_config(vision_feature_layers=[99], sampler_type="qformer")
