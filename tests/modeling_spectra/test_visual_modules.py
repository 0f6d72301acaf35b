"""Sampler, Deep Visual Processor, gates, predictor and alignment head against transcriptions and torch's own modules."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.masking_utils import create_bidirectional_mask

from modeling_spectra.alignment_head import AlignmentHead
from modeling_spectra.visual_context import attendable
from modeling_spectra.visual_layers import VisualAttention, VisualRMSNorm
from modeling_spectra.visual_relevance_predictor import VisualRelevancePredictor, set_features
from tests.double_precision import EXACT
from tests.tiny import CLIP_PROJECTION, NUM_PATCHES, TEXT_WIDTH, VISION_WIDTH, pixels, tiny_config, tiny_model

WIDTH, HEADS = TEXT_WIDTH, 2
pytestmark = pytest.mark.usefixtures("float64")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention_module(implementation):
    torch.manual_seed(0)
    config = tiny_config()
    config._attn_implementation = implementation
    return VisualAttention(config, WIDTH, HEADS).eval()


def torch_attention(module, queries, states, mask):
    """The same weights in torch's own multi-head attention; `mask` (B, S) is true where one may attend."""
    reference = nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(
            torch.cat([module.q_proj.weight, module.k_proj.weight, module.v_proj.weight], dim=0)
        )
        reference.out_proj.weight.copy_(module.o_proj.weight)
    return reference(queries, states, states, key_padding_mask=~mask, need_weights=True, average_attn_weights=False)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("queries", [2, 9])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_equals_torchs_own(implementation, queries, masked):
    module = attention_module(implementation)
    query, states = random(3, queries, WIDTH), random(3, 5, WIDTH, seed=1)
    mask = torch.ones(3, 5, dtype=torch.bool)
    if masked:
        mask = torch.tensor([[True] * 5, [True, False, True, False, False], [False, False, False, False, True]])
    prepared = create_bidirectional_mask(module.config, query, mask, encoder_hidden_states=states)
    output, weights = module(query, *module.project_key_values(states), prepared)
    expected, expected_weights = torch_attention(module, query, states, mask)
    torch.testing.assert_close(output, expected, **EXACT)
    if implementation == "eager":
        torch.testing.assert_close(weights, expected_weights, **EXACT)
    else:
        assert weights is None


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_without_any_mask_sees_every_key(implementation):
    """SDPA takes a module for causal unless it says otherwise, and then crops the keys."""
    module = attention_module(implementation)
    query, states = random(2, 3, WIDTH), random(2, 7, WIDTH, seed=1)
    keys, values = module.project_key_values(states)
    queries = module.q_proj(query).view(2, 3, HEADS, -1).transpose(1, 2)
    by_hand = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).reshape(2, 3, WIDTH)
    torch.testing.assert_close(module(query, keys, values)[0], module.o_proj(by_hand), **EXACT)


def test_rms_norm_equals_its_formula():
    norm = VisualRMSNorm(6, eps=1e-3)
    with torch.no_grad():
        norm.weight.copy_(random(6, seed=2))
    states = random(4, 6)
    expected = norm.weight * states / (states.pow(2).mean(-1, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(norm(states), expected, **EXACT)


def rms(states, norm):
    return norm.weight * states / (states.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt()


def feed_forward(module, states):
    return module.down_proj(F.gelu(module.up_proj(states)))


def attend(module, queries, states, mask=None):
    mask = torch.ones(states.shape[:2], dtype=torch.bool) if mask is None else mask
    return torch_attention(module, queries, states, mask)[0]


@torch.no_grad()
def test_vision_sampler_equals_its_transcription():
    """§1: latents attend to [patches ; latents], then to each other, then a feed-forward; twice here."""
    sampler = tiny_model("sampler", "clip", sampler_depth=2, sampler_num_heads=HEADS).visual_path.sampler
    patches, embeds = random(5, NUM_PATCHES, VISION_WIDTH), F.normalize(random(5, CLIP_PROJECTION, seed=1), dim=-1)
    read = sampler.patch_proj(patches) + sampler.position_embedding.weight
    states = sampler.latents.repeat(5, 1, 1)
    for block in sampler.blocks:
        queries = rms(states, block.cross_norm)
        context = torch.cat([rms(read, block.patch_norm), queries], dim=1)
        states = states + attend(block.cross_attention, queries, context)
        normed = rms(states, block.self_norm)
        states = states + attend(block.self_attention, normed, normed)
        states = states + feed_forward(block.feed_forward, rms(states, block.feed_forward_norm))
    expected = rms(states, sampler.norm) + sampler.pooled_proj(embeds)[:, None]
    latents = sampler(patches, embeds)
    assert latents.shape == (5, 3, TEXT_WIDTH)
    torch.testing.assert_close(latents, expected, **EXACT)


def test_options_of_the_sampler_leave_their_modules_out():
    sampler = tiny_model("sampler", patch_position_embedding=False, add_pooled_embedding=False).visual_path.sampler
    assert sampler.position_embedding is None and sampler.pooled_proj is None
    patches = random(2, NUM_PATCHES, VISION_WIDTH)
    with torch.no_grad():
        latents = sampler(patches, random(2, VISION_WIDTH))
        torch.testing.assert_close(sampler(patches.flip(1), random(2, VISION_WIDTH, seed=5)), latents, **EXACT)


@torch.no_grad()
def test_deep_visual_processor_equals_its_transcription():
    """§2: V⁰ = latents + index embedding, V^l = Block_l(V^(l−1)); padded images are not attended to."""
    model = tiny_model("dvp")
    processor = model.visual_path.deep_visual_processor
    latents = random(2, 3, 3, TEXT_WIDTH)
    image_mask = torch.tensor([[True, True, True], [True, False, False]])
    mask = image_mask.repeat_interleave(3, dim=1)
    states = latents.clone()
    for image in range(3):
        states[:, image] += processor.image_index_embedding.weight[image]
    states = states.reshape(2, 9, TEXT_WIDTH)
    expected = {}
    for layer, block in enumerate(processor.blocks, start=1):
        normed = rms(states, block.attention_norm)
        states = states + attend(block.attention, normed, normed, mask)
        states = states + feed_forward(block.feed_forward, rms(states, block.feed_forward_norm))
        expected[layer] = states
    result = processor(latents, mask)
    assert set(result) == {1, 3} and result[1].shape == (2, 9, TEXT_WIDTH)
    for layer in result:
        torch.testing.assert_close(result[layer][mask], expected[layer][mask], **EXACT)


def test_blocks_behind_the_last_gate_are_not_built():
    assert len(tiny_model("dvp", dvp_num_layers=4, gate_layers=[2]).visual_path.deep_visual_processor.blocks) == 2


@torch.no_grad()
@pytest.mark.parametrize("gate_feed_forward", [False, True])
@pytest.mark.parametrize("gate_type", ["scalar", "channel"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_gated_cross_attention_equals_its_formula(implementation, gate_type, gate_feed_forward):
    """§3: H + tanh(α) ⊙ CrossAttention(H, V); a row without images stays as it is, whatever lies in its padding."""
    model = tiny_model("sampler", attention=implementation, gate_type=gate_type, gate_feed_forward=gate_feed_forward)
    gated = model.visual_path.cross_attentions["1"]
    gated.gate.alpha.copy_(random(*gated.gate.alpha.shape, seed=8))
    assert gated.gate.alpha.shape == ((TEXT_WIDTH,) if gate_type == "channel" else (1,))
    hidden, visual = random(3, 4, TEXT_WIDTH), random(3, 6, TEXT_WIDTH, seed=1)
    mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3, [False] * 6])
    prepared = create_bidirectional_mask(model.config, hidden, attendable(mask), encoder_hidden_states=visual)
    result, weights = gated(hidden, *gated.project_visual_states(visual), prepared, mask.any(1))

    expected = hidden.clone()
    attended, attended_weights = torch_attention(
        gated.attention, rms(hidden[:2], gated.query_norm), rms(visual[:2], gated.visual_norm), mask[:2]
    )
    expected[:2] += gated.gate.alpha.tanh() * attended
    if gate_feed_forward:
        gated.feed_forward_gate.alpha.copy_(random(*gated.feed_forward_gate.alpha.shape, seed=9))
        result, _ = gated(hidden, *gated.project_visual_states(visual), prepared, mask.any(1))
        update = feed_forward(gated.feed_forward, rms(expected[:2], gated.feed_forward_norm))
        expected[:2] += gated.feed_forward_gate.alpha.tanh() * update
    torch.testing.assert_close(result, expected, **EXACT)
    assert torch.equal(result[2], hidden[2])
    if implementation == "eager":
        torch.testing.assert_close(weights[:2], attended_weights, **EXACT)
        assert weights[2].abs().sum() == 0


def test_visual_norm_can_be_left_out():
    gated = tiny_model("sampler", visual_norm=False).visual_path.cross_attentions["1"]
    visual = random(2, 3, TEXT_WIDTH)
    keys, _ = gated.project_visual_states(visual)
    torch.testing.assert_close(keys.transpose(1, 2).flatten(2), gated.attention.k_proj(visual), **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["sampler", "dvp"])
def test_visual_path_is_the_same_in_eager_and_sdpa_and_blind_to_padded_images(fusion):
    keys_values = {}
    for implementation in ("eager", "sdpa"):
        model = tiny_model(fusion, attention=implementation)
        patches, embeds = random(2, 3, NUM_PATCHES, VISION_WIDTH), random(2, 3, VISION_WIDTH, seed=1)
        mask = torch.tensor([[True, True, True], [True, True, False]])
        keys_values[implementation] = model.visual_path(patches, embeds, mask)
        patches[1, 2], embeds[1, 2] = 50.0, -50.0
        disturbed = model.visual_path(patches, embeds, mask)
        alone = model.visual_path(patches[1:, :2], embeds[1:, :2], mask[1:, :2])
        seen = keys_values[implementation].mask
        assert torch.equal(seen, mask.repeat_interleave(3, dim=1))
        for name in ("keys", "values"):
            states = getattr(keys_values[implementation], name)
            assert states.shape == (2, 2, 2, 9, TEXT_WIDTH // 2)
            moved, single = getattr(disturbed, name), getattr(alone, name)
            torch.testing.assert_close(moved[1, :, :, :6], states[1, :, :, :6], **EXACT)
            torch.testing.assert_close(single[0], states[1, :, :, :6], **EXACT)
    torch.testing.assert_close(keys_values["eager"].keys[:1], keys_values["sdpa"].keys[:1], **EXACT)
    torch.testing.assert_close(keys_values["eager"].values[:1], keys_values["sdpa"].values[:1], **EXACT)


@torch.no_grad()
def test_gates_read_the_states_of_their_own_layer():
    """§3: gate l reads V^l through its own keys and values, in the order of `gate_layers`."""
    path = tiny_model("dvp").visual_path
    patches, embeds = random(1, 2, NUM_PATCHES, VISION_WIDTH), random(1, 2, VISION_WIDTH, seed=1)
    mask = torch.ones(1, 2, dtype=torch.bool)
    result = path(patches, embeds, mask)
    latents = path.sampler(patches[0], embeds[0])[None]
    states = path.deep_visual_processor(latents, torch.ones(1, 6, dtype=torch.bool))
    for index, layer in enumerate((1, 3)):
        keys, values = path.cross_attentions[str(layer)].project_visual_states(states[layer])
        torch.testing.assert_close(result.keys[:, index], keys, **EXACT)
        torch.testing.assert_close(result.values[:, index], values, **EXACT)


def looped_set_features(embeds, count):
    means, similarities = [], []
    for i in range(count):
        others = [embeds[j] for j in range(count) if j != i]
        means.append(sum(others) / len(others) if others else torch.zeros_like(embeds[i]))
        similarities.append(max([float(embeds[i] @ other) for other in others], default=-1.0))
    return torch.stack(means), torch.tensor(similarities)


def test_set_features_equal_a_loop():
    embeds = F.normalize(random(4, 5, 7), dim=-1)
    counts = [5, 2, 1, 0]
    mask = torch.arange(5) < torch.tensor(counts)[:, None]
    means, similarities = set_features(embeds * mask[..., None], mask)
    assert means.shape == (4, 5, 7) and similarities.shape == (4, 5, 1)
    for row, count in enumerate(counts[:3]):
        expected_means, expected_similarities = looped_set_features(embeds[row], count)
        torch.testing.assert_close(means[row, :count], expected_means, **EXACT)
        torch.testing.assert_close(similarities[row, :count, 0], expected_similarities, **EXACT)
    assert torch.equal(means[2, 0], torch.zeros(7)) and similarities[2, 0] == -1
    assert means.isfinite().all() and similarities.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("context", ["none", "article", "article_set"])
def test_relevance_predictor_equals_its_transcription(context):
    """§4: [v ; a ; v ⊙ W a ; mean of the others ; largest similarity], two layers with GELU; v at unit variance."""
    torch.manual_seed(0)
    predictor = VisualRelevancePredictor(tiny_config(vrp_context=context)).eval()
    counts = [3, 1]
    mask = torch.arange(3) < torch.tensor(counts)[:, None]
    embeds = F.normalize(random(2, 3, VISION_WIDTH), dim=-1) * mask[..., None]
    articles = random(2, TEXT_WIDTH, seed=2) * 0.01
    logits = predictor(embeds, mask, None if context == "none" else articles)
    assert logits.shape == (2, 3) and logits.isfinite().all()
    for row, count in enumerate(counts):
        means, similarities = looped_set_features(embeds[row], count)
        article = (articles[row] - articles[row].mean()) / (articles[row].var(unbiased=False) + 1e-5).sqrt()
        for image in range(count):
            scaled = embeds[row, image] * VISION_WIDTH**0.5
            features = [scaled]
            if context != "none":
                features += [article, scaled * (predictor.article_proj.weight @ article)]
            if context == "article_set":
                features += [means[image] * VISION_WIDTH**0.5, similarities[image : image + 1]]
            hidden = F.gelu(predictor.up_proj(torch.cat(features)))
            torch.testing.assert_close(logits[row, image], predictor.down_proj(hidden)[0], **EXACT)


@torch.no_grad()
@pytest.mark.float32
@pytest.mark.parametrize("context", ["none", "article_set"])
def test_relevance_predictor_computes_in_its_own_dtype_under_autocast(context):
    model = tiny_model("sampler", vrp_context=context)
    predictor = model.visual_path.relevance_predictor
    config = model.config
    embeds = F.normalize(torch.randn(2, 3, config.image_embedding_size), dim=-1)
    mask, article = torch.ones(2, 3, dtype=torch.bool), torch.randn(2, config.text_config.hidden_size)
    expected = predictor(embeds, mask, article)
    with torch.autocast("cpu", torch.bfloat16):
        found = predictor(embeds, mask, article)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@torch.no_grad()
@pytest.mark.float32
def test_rms_norm_keeps_the_dtype_of_its_input():
    norm = VisualRMSNorm(8, 1e-6)
    norm.weight.copy_(torch.linspace(0.99, 1.01, 8))
    states = torch.randn(3, 8).bfloat16()
    expected = (norm.weight * (states.float() / states.float().pow(2).mean(-1, keepdim=True).sqrt())).bfloat16()
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            assert torch.equal(norm(states), expected)


@torch.no_grad()
def test_given_features_are_checked():
    model = tiny_model("sampler")
    values, mask = pixels(2)
    ids = torch.full((1, 4), 7)
    patches, embeds = model.embed_images(values, mask)
    message = "pass pixel_values, or both image_embeds and patches"
    for given in ({"image_embeds": embeds}, {"patches": patches}):
        with pytest.raises(ValueError, match=message):
            model(input_ids=ids, **given)
        with pytest.raises(ValueError, match=message):
            model.generate(input_ids=ids, max_new_tokens=1, **given)
    many = {"image_embeds": embeds.repeat(1, 4, 1), "patches": patches.repeat(1, 4, 1, 1)}
    with pytest.raises(ValueError, match=r"image_embeds holds 8 images per article; it must hold 1 to .* \(6\)"):
        model.encode_images(**many)


def test_relevance_predictor_has_dropout_in_training_only():
    torch.manual_seed(0)
    predictor = VisualRelevancePredictor(tiny_config(vrp_dropout=0.5))
    embeds, mask = F.normalize(random(1, 4, VISION_WIDTH), dim=-1), torch.ones(1, 4, dtype=torch.bool)
    assert not torch.equal(predictor(embeds, mask), predictor(embeds, mask))
    predictor.eval()
    assert torch.equal(predictor(embeds, mask), predictor(embeds, mask))


def test_alignment_head_equals_a_loop():
    """§6: z = normalise(projection(mean of the hidden states where the label is not −100))."""
    torch.manual_seed(0)
    head = AlignmentHead(tiny_config())
    with torch.no_grad():
        head.log_temperature.fill_(math.log(0.25))
    hidden = random(3, 6, TEXT_WIDTH)
    labels = torch.tensor([[-100, -100, 5, 6, 7, -100], [-100, 3, -100, -100, -100, -100], [-100] * 6])
    embeds, temperature = head(hidden, labels != -100)
    assert embeds.shape == (3, VISION_WIDTH) and embeds.isfinite().all()
    for row in range(2):
        positions = [hidden[row, t] for t in range(6) if labels[row, t] != -100]
        z = head.projection(sum(positions) / len(positions))
        torch.testing.assert_close(embeds[row], z / z.norm(), **EXACT)
    assert head.temperature.item() == temperature.item() == pytest.approx(0.25, rel=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("vision", ["siglip", "clip"])
def test_concat_projector_ends_each_image_with_a_newline(vision):
    projector = tiny_model("concat", vision).visual_path.projector
    patches = random(2, 3, NUM_PATCHES, VISION_WIDTH)
    visual_tokens = projector(patches)
    assert visual_tokens.shape == (2, 3, NUM_PATCHES + 1, TEXT_WIDTH)
    expected = projector.linear_2(F.gelu(projector.linear_1(patches[1, 2])))
    torch.testing.assert_close(visual_tokens[1, 2, :-1], expected, **EXACT)
    assert torch.equal(visual_tokens[1, 2, -1], projector.image_newline)


@torch.no_grad()
@pytest.mark.parametrize("layer", [-1, 1])
@pytest.mark.parametrize("vision", ["siglip", "clip"])
def test_the_tower_reads_every_real_image_once_and_no_padding(vision, layer):
    """Patches are a hidden state of the tower without the class token, embeddings its own pooled output."""
    model = tiny_model("sampler", vision, vision_feature_layer=layer)
    values, mask = pixels(2, 0, 3)
    seen = []
    handle = model.vision_tower.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    patches, embeds = model.embed_images(values, mask)
    handle.remove()
    assert seen == [5]
    for row, count in enumerate((2, 0, 3)):
        for image in range(3):
            if image >= count:
                assert patches[row, image].abs().sum() == 0 and embeds[row, image].abs().sum() == 0
                continue
            outputs = model.vision_tower(pixel_values=values[row, image][None], output_hidden_states=True)
            pooled = outputs.image_embeds if vision == "clip" else outputs.pooler_output
            last = outputs.hidden_states[layer][0]
            assert last.shape[0] == NUM_PATCHES + (vision == "clip")
            torch.testing.assert_close(patches[row, image], last[-NUM_PATCHES:], **EXACT)
            torch.testing.assert_close(embeds[row, image], pooled[0] / pooled[0].norm(), **EXACT)
