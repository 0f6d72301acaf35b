"""Guidance between images (§9) against its equations, read image by image, and against no guidance at all."""

from collections.abc import Iterator

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F

from modeling_spectra import SpectraSumForConditionalGeneration
from modeling_spectra.qformer_sampler import QueryText
from tests.double_precision import EXACT, double_precision
from tests.tiny import NUM_PATCHES, TEXT_WIDTH, VISION_WIDTH, tiny_model

SAMPLERS = {
    "perceiver": {},
    "qformer": {"sampler_type": "qformer"},
    "qformer with text": {"sampler_type": "qformer", "qformer_text": True},
}
NUM_LAYERS = 3


@pytest.fixture(autouse=True)
def in_double() -> Iterator[None]:
    with double_precision():
        yield


def guided_model(sampler: str = "perceiver", **fields) -> SpectraSumForConditionalGeneration:
    """In float64, with 3 sampler layers and trained guidance; `fields` go to the configuration."""
    fields = {
        "fusion": "concat",
        "concat_tokens": "latents",
        "sampler_depth": NUM_LAYERS,
        "image_guidance": "bidirectional",
        **SAMPLERS[sampler],
        **fields,
    }
    model = tiny_model(**fields).double()
    if model.visual_path.image_guidance is not None:
        torch.manual_seed(5)
        for parameter in model.visual_path.image_guidance.parameters():
            parameter.data.normal_(std=0.4)
    return model


def images(num_images: int = 3, articles: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Patches and embeddings of random images, and a mask that pads the last article's last image."""
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(articles, num_images, NUM_PATCHES, VISION_WIDTH, generator=generator, dtype=torch.float64)
    embeds = F.normalize(
        torch.randn(articles, num_images, VISION_WIDTH, generator=generator, dtype=torch.float64), dim=-1
    )
    mask = torch.ones(articles, num_images, dtype=torch.bool)
    if articles > 1:
        mask[-1, -1] = False
    return patches, embeds, mask


def query_text(model: SpectraSumForConditionalGeneration, articles: int = 2) -> QueryText | None:
    if not model.config.qformer_text:
        return None
    ids = torch.randint(1, 500, (articles, 5), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[-1, 3:] = 0
    return QueryText(ids, mask)


def by_the_equations(model, patches, embeds, mask, text) -> torch.Tensor:
    """The latents of §9, one image at a time, with the sampler's layers alone taken from the model."""
    config, path = model.config, model.visual_path
    sampler, guidance = path.sampler, path.image_guidance
    first, last = config.guidance_layers or (NUM_LAYERS, NUM_LAYERS)
    reached = slice(None) if config.guidance_context == "all" else slice(config.num_latents)

    def read(values):
        if config.sampler_type == "perceiver":
            values = values @ sampler.patch_proj.weight.T + sampler.patch_proj.bias
        return values + sampler.position_embedding.weight

    def start(article):
        if config.sampler_type == "perceiver":
            return sampler.latents[None]
        ids = None if text is None else text.ids[article : article + 1]
        return sampler.former.embeddings(input_ids=ids, query_embeds=sampler.query_tokens)

    def layer(number, states, values, article):
        if config.sampler_type == "perceiver":
            return sampler.blocks[number - 1](states, read(values)[None])
        bias = None
        if text is not None:
            attended = torch.cat([torch.ones(config.num_latents), text.mask[article]]).bool()
            bias = (
                torch.where(attended, 0.0, -torch.inf)
                .to(states.dtype)[None, None, None]
                .expand(-1, -1, states.shape[1], -1)
            )
        return sampler.former.encoder.layer[number - 1](
            states, bias, read(values)[None], query_length=config.num_latents
        )

    latents = torch.zeros(*mask.shape, config.num_latents, TEXT_WIDTH, dtype=torch.float64)
    for article, image in mask.nonzero().tolist():
        real = [other for other in range(mask.shape[1]) if mask[article, other]]
        merged = [other for other in real if config.guidance_context == "all" or other != image]
        q = start(article)
        for number in range(1, last):
            q = layer(number, q, patches[article, image], article)
            if number == first - 1:
                h = q
        if first == 1:
            h = start(article)
        if len(real) > 1:
            context = torch.zeros_like(patches[article, image])
            for place in range(context.shape[0]):
                scores = torch.zeros(len(merged), dtype=torch.float64)
                if config.guidance_weights == "adaptive":
                    for index, other in enumerate(merged):
                        weight, bias = guidance.weight_proj.weight[0], guidance.weight_proj.bias[0]
                        scores[index] = patches[article, other, place] @ weight + bias
                shares = scores.exp() / scores.exp().sum()
                for share, other in zip(shares, merged, strict=True):
                    context[place] += share * patches[article, other, place]
            if config.guidance_former == "linear":
                c = guidance.context_proj(context.mean(dim=0))
            else:
                w = start(article)
                for number in range(1, last + 1):
                    if number == first:
                        w = w.clone()
                        w[:, reached] += guidance.state_proj(h)[:, reached]
                    w = layer(number, w, context, article)
                c = guidance.context_proj(w)[:, reached]
            q = q.clone()
            q[:, reached] += c
        for number in range(last, NUM_LAYERS + 1):
            q = layer(number, q, patches[article, image], article)
        q = q[:, : config.num_latents]
        if config.sampler_type == "perceiver":
            q = sampler.norm(q)
        q = q + sampler.pooled_proj(embeds[article, image])
        latents[article, image] = path.latent_projection(q)[0]
    return latents


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"guidance_layers": [1, 1]},
        {"guidance_layers": [1, 3]},
        {"guidance_layers": [2, 2], "guidance_weights": "mean"},
        {"guidance_context": "all"},
        {"guidance_context": "all", "guidance_layers": [2, 3], "guidance_weights": "mean"},
        {"guidance_former": "linear"},
        {"guidance_former": "linear", "guidance_layers": [1, 1], "guidance_context": "all"},
    ],
    ids=str,
)
@torch.no_grad()
def test_latents_are_those_of_the_equations(sampler, fields):
    model = guided_model(sampler, **fields)
    patches, embeds, mask = images()
    text = query_text(model)
    latents = model.visual_path.latents(patches, embeds, mask, text)
    expected = by_the_equations(model, patches, embeds, mask, text)
    torch.testing.assert_close(latents[mask], expected[mask], **EXACT)


@pytest.mark.parametrize("sampler", SAMPLERS)
@torch.no_grad()
def test_padded_images_take_no_part(sampler):
    model = guided_model(sampler)
    patches, embeds, mask = images()
    text = query_text(model)
    expected = model.visual_path.latents(patches, embeds, mask, text)
    patches[-1, -1], embeds[-1, -1] = 1e3, 1e3
    assert torch.equal(model.visual_path.latents(patches, embeds, mask, text)[mask], expected[mask])


@pytest.mark.parametrize("context", ["others", "all"])
@pytest.mark.parametrize("sampler", SAMPLERS)
@torch.no_grad()
def test_the_order_of_the_others_changes_nothing(sampler, context):
    model = guided_model(sampler, guidance_context=context)
    patches, embeds, mask = images(4, articles=1)
    text = query_text(model, articles=1)
    order = [0, 3, 1, 2]
    latents = model.visual_path.latents(patches, embeds, mask, text)
    permuted = model.visual_path.latents(patches[:, order], embeds[:, order], mask, text)
    torch.testing.assert_close(permuted, latents[:, order], **EXACT)
    # What the others show does.
    patches[0, 3] += 1
    changed = model.visual_path.latents(patches, embeds, mask, text)
    assert (changed[0, 0] - latents[0, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("context", ["others", "all"])
@pytest.mark.parametrize("sampler", SAMPLERS)
@torch.no_grad()
def test_an_image_alone_is_read_as_without_guidance(sampler, context):
    guided = guided_model(sampler, guidance_context=context)
    plain = guided_model(sampler, image_guidance="none")
    plain.load_state_dict(guided.state_dict(), strict=False)
    patches, embeds, mask = images(3)
    # Of the first article one image is real, and stands between padding.
    mask[0] = torch.tensor([False, True, False])
    text = query_text(guided)
    latents, expected = (model.visual_path.latents(patches, embeds, mask, text) for model in (guided, plain))
    assert torch.equal(latents[0, 1], expected[0, 1])
    assert not torch.equal(latents[1, 0], expected[1, 0])


@pytest.mark.parametrize("former", ["shared", "linear"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_untrained_guidance_changes_nothing_and_learns(sampler, former):
    fields = {"fusion": "concat", "concat_tokens": "latents", "sampler_depth": NUM_LAYERS, **SAMPLERS[sampler]}
    guided = tiny_model(image_guidance="bidirectional", guidance_former=former, **fields).double()
    plain = tiny_model(**fields).double()
    plain.load_state_dict(guided.state_dict(), strict=False)
    patches, embeds, mask = images()
    text = query_text(guided)
    latents = guided.visual_path.latents(patches, embeds, mask, text)
    assert torch.equal(latents, plain.visual_path.latents(patches, embeds, mask, text))
    latents[mask].pow(2).sum().backward()
    assert guided.visual_path.image_guidance.context_proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize("former", ["shared", "linear"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_parameter_gets_a_gradient_also_where_no_image_has_a_context(sampler, former):
    # Processes that train together wait for the gradients of all.
    model = guided_model(sampler, guidance_former=former)
    patches, embeds, mask = images()
    mask[:, 1:] = False
    model.visual_path.latents(patches, embeds, mask, query_text(model))[mask].sum().backward()
    without = [name for name, value in model.visual_path.named_parameters() if value.grad is None]
    assert all(name.startswith(("relevance_predictor.", "alignment_head.")) for name in without)


@pytest.mark.parametrize("fusion", ["concat", "sampler", "dvp"])
@torch.no_grad()
def test_guidance_reaches_the_logits_of_each_fusion_and_is_saved(fusion, tmp_path):
    fields = {"concat_tokens": "latents"} if fusion == "concat" else {}
    model = tiny_model(fusion, gate=0.5, image_guidance="bidirectional", sampler_depth=2, **fields)
    model.visual_path.image_guidance.context_proj.weight.normal_(std=0.5)
    model.save_pretrained(tmp_path)
    loaded = SpectraSumForConditionalGeneration.from_pretrained(tmp_path)
    pixel_values = torch.randn(1, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    placeholders = [model.config.image_token_id] * 2 * model.config.num_image_tokens
    inputs = {"input_ids": torch.tensor([[*placeholders, 7, 8, 9]]), "pixel_values": pixel_values}
    logits = model(**inputs).logits
    torch.testing.assert_close(loaded(**inputs).logits, logits, **EXACT)
    model.visual_path.image_guidance.context_proj.weight.zero_()
    assert (model(**inputs).logits - logits).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fusion": "concat", "image_guidance": "bidirectional"}, 'set concat_tokens to "latents"'),
        ({"fusion": "concat", "sampler_type": "qformer"}, 'set concat_tokens to "latents"'),
        ({"concat_tokens": "latents"}, 'set concat_tokens to "patches"'),
        ({"qformer_text": True}, 'set sampler_type to "qformer"'),
        ({"image_guidance": "bidirectional", "guidance_layers": [2, 1], "sampler_depth": 2}, "1 <= l <= k <= 2"),
        ({"image_guidance": "bidirectional", "guidance_layers": [1, 3], "sampler_depth": 2}, "1 <= l <= k <= 2"),
        ({"image_guidance": "bidirectional", "guidance_layers": [1]}, "it is \\[l, k\\]"),
        ({"guidance_layers": [1, 2], "guidance_former": "linear", "sampler_depth": 2}, "set l to k"),
        ({"sampler_type": "qformer", "qformer_config": {"encoder_hidden_size": 7}}, "encoder_hidden_size"),
    ],
)
def test_settings_that_contradict_each_other_are_named(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_model(**fields)
