"""A second frozen tower for the image embeddings, given embeddings and patches, and batches without any image."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPVisionModelWithProjection, SiglipVisionModel

from modeling_spectra import SpectraSumForConditionalGeneration
from tests.double_precision import EXACT
from tests.tiny import (
    CLIP_PROJECTION,
    IMAGE_SIZE,
    NUM_PATCHES,
    VISION_WIDTH,
    pixels,
    tiny_config,
    tiny_model,
    tokens,
    vision_config,
)
from trainer.objectives.losses import alignment_loss, distillation_loss
from trainer.trainable import set_trainable

FUSIONS = ["concat", "sampler", "dvp"]
pytestmark = pytest.mark.usefixtures("float64")


def headless():
    config = vision_config()
    config.vision_use_head = False
    return config


def two_towers(fusion="dvp", embedding="siglip", **fields):
    """A model with open gates, and a second tower for the embeddings."""
    return tiny_model(fusion, gate=0.7, embedding_vision_config=vision_config(embedding), **fields)


def prompts(model, *counts, length=8):
    """Token ids of articles with `counts` images, with the placeholders that concat needs, and no padding."""
    input_ids = tokens(len(counts), length + max(counts) * model.config.num_image_tokens)
    for row, count in enumerate(counts):
        input_ids[row, : count * model.config.num_image_tokens] = model.config.image_token_id or 0
    return input_ids


@torch.no_grad()
@pytest.mark.parametrize("embedding", ["siglip", "clip"])
def test_patches_and_embeddings_come_from_their_own_tower(embedding):
    model = two_towers(embedding=embedding)
    values, mask = pixels(2, 1)
    classes = {"siglip": SiglipVisionModel, "clip": CLIPVisionModelWithProjection}
    alone = classes[embedding](vision_config(embedding)).eval()
    alone.load_state_dict(model.embedding_tower.state_dict())
    patches, embeds = model.embed_images(values, mask)
    assert patches.shape == (2, 2, NUM_PATCHES, VISION_WIDTH)
    assert embeds.shape[-1] == model.config.image_embedding_size
    assert embeds.shape[-1] == {"siglip": VISION_WIDTH, "clip": CLIP_PROJECTION}[embedding]
    for row, count in ((0, 2), (1, 1)):
        hidden = model.vision_tower(values[row, :count], output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(patches[row, :count], hidden, **EXACT)
        output = alone(values[row, :count])
        pooled = output.image_embeds if embedding == "clip" else output.pooler_output
        torch.testing.assert_close(embeds[row, :count], pooled / pooled.norm(dim=-1, keepdim=True), **EXACT)
    assert not patches[1, 1].any() and not embeds[1, 1].any()
    assert torch.equal(model.pool_images(values, mask), embeds)
    assert torch.equal(model.patch_images(values, mask), patches)
    if embedding == "siglip":
        own = torch.nn.functional.normalize(model.vision_tower(values[0]).pooler_output, dim=-1)
        assert (own - embeds[0]).abs().max() > 0.01


def test_contradictions_are_refused_and_name_the_field():
    larger = vision_config()
    larger.image_size = 2 * IMAGE_SIZE
    for fields, message in (
        ({"embedding_vision_config": larger}, "embedding_vision_config reads images of 32 pixels"),
        ({"embedding_vision_config": headless()}, "embedding_vision_config has vision_use_head=False"),
        ({"embedding_vision_config": tiny_config().text_config}, "embedding_vision_config has model_type 'qwen2'"),
    ):
        with pytest.raises(StrictDataclassError, match=message):
            tiny_config(**fields)
    with pytest.raises(StrictDataclassError, match="vision_config has vision_use_head=False"):
        SpectraSumForConditionalGeneration.config_class(
            vision_config=headless(), text_config=tiny_config().text_config, dvp_num_layers=3, gate_layers=[1]
        )


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_two_equal_towers_are_one(fusion):
    """The same logits, embeddings and choice as a model whose only tower is the same."""
    one = tiny_model(fusion, gate=0.7, vrp_context="article_set")
    two = two_towers(fusion, vrp_context="article_set")
    state = one.state_dict()
    state |= {
        name.replace("vision_tower.", "embedding_tower."): value
        for name, value in state.items()
        if name.startswith("vision_tower.")
    }
    two.load_state_dict(state)
    values, mask = pixels(3, 1)
    inputs = {"input_ids": prompts(one, 3, 1), "pixel_values": values, "image_mask": mask}
    single, double = one(**inputs), two(**inputs)
    assert torch.equal(single.logits, double.logits)
    assert torch.equal(single.image_embeds, double.image_embeds)
    assert torch.equal(single.selection_logits, double.selection_logits)
    assert one.select_images(**inputs).indices == two.select_images(**inputs).indices
    with torch.no_grad():
        two.embedding_tower.post_layernorm.bias.add_(torch.linspace(-3, 3, VISION_WIDTH))
    assert not torch.equal(two(**inputs).selection_logits, single.selection_logits)


@torch.no_grad()
def test_images_are_chosen_by_the_embedding_tower():
    model = two_towers()
    values, mask = pixels(4, 2)
    probabilities = model.select_images(values, mask, max_selected_images=2).probabilities
    pooled = model.embedding_tower(values[0]).pooler_output
    logits = model.visual_path.relevance_predictor(
        (pooled / pooled.norm(dim=-1, keepdim=True))[None], torch.ones(1, 4, dtype=torch.bool), None
    )
    torch.testing.assert_close(probabilities[0], logits[0].sigmoid(), **EXACT)
    ranked = logits[0].argsort(descending=True)[:2].tolist()
    assert model.select_images(values, mask, max_selected_images=2).indices[0] == ranked


@torch.no_grad()
def test_saved_and_loaded_with_both_towers(tmp_path):
    model = two_towers()
    model.save_pretrained(tmp_path)
    again = SpectraSumForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert again.config.embedding_vision_config.model_type == "siglip_vision_model"
    state = model.state_dict()
    assert any(name.startswith("embedding_tower.") for name in state)
    assert set(again.state_dict()) == set(state)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in state.items())
    values, mask = pixels(2, 1)
    inputs = {"input_ids": tokens(2, 7), "pixel_values": values, "image_mask": mask}
    # On some processors a sum's order depends on where weights lie in memory.
    torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits, **EXACT)


@pytest.mark.parametrize("train_language_model", [False, True])
def test_both_towers_stay_frozen(train_language_model):
    model = two_towers().train()
    set_trainable(model, train_language_model=train_language_model)
    trained = {name.partition(".")[0] for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {"visual_path", *(["language_model"] if train_language_model else [])}
    patches, embeds = model.embed_images(*pixels(2, 1))
    assert not patches.requires_grad and not embeds.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("second_tower", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_given_embeddings_and_patches_change_nothing(fusion, second_tower):
    """With more images than the summarizer sees, too: patches of all, or of those that it keeps alone."""
    model = (two_towers if second_tower else tiny_model)(fusion, vrp_context="article_set")
    values, mask = pixels(5, 2)
    article = torch.randn(2, model.config.text_config.hidden_size, generator=torch.Generator().manual_seed(1))
    patches, embeds = model.embed_images(values, mask)
    expected = model.encode_images(values, mask, article)
    for given in (
        {"image_embeds": embeds, "patches": patches},
        {"pixel_values": values, "image_embeds": embeds},
        {"pixel_values": values, "patches": patches},
    ):
        encoded = model.encode_images(image_mask=mask, article_embeds=article, **given)
        assert torch.equal(encoded.image_embeds, expected.image_embeds)
        assert torch.equal(encoded.selection_logits, expected.selection_logits)
        assert torch.equal(encoded.summarizer_images, expected.summarizer_images)
        real = expected.summarizer_images >= 0
        assert real.sum(1).tolist() == [3, 2]
        if fusion == "concat":
            found, wanted = encoded.visual_tokens[real], expected.visual_tokens[real]
        else:
            columns = expected.visual_key_values.mask
            assert torch.equal(encoded.visual_key_values.mask, columns)
            # (B, gates, heads, S, head_dim): the columns of real images.
            found, wanted = (
                each.keys.movedim(3, 1)[columns] for each in (encoded.visual_key_values, expected.visual_key_values)
            )
        # Other numbers of images in one pass of the tower sum up in another order.
        torch.testing.assert_close(found, wanted, **EXACT)
    with pytest.raises(ValueError, match="pass pixel_values, or both"):
        model.encode_images(image_mask=mask, article_embeds=article, image_embeds=embeds)
    for given in (
        {"image_embeds": embeds[:, :3], "patches": patches},
        {"image_embeds": embeds[:1], "patches": patches},
    ):
        with pytest.raises(ValueError, match=r"must be the same in all of {'image_embeds': \([12], [35]\), 'patches'"):
            model.encode_images(image_mask=mask, article_embeds=article, **given)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("second_tower", [False, True])
def test_blank_images_alone_change_nothing_and_reach_every_parameter(fusion, second_tower):
    """The logits of a text-only batch, bit for bit; every trained parameter gets a gradient, and it is zero."""
    model = two_towers(fusion) if second_tower else tiny_model(fusion, gate=0.7)
    set_trainable(model, train_language_model=False)
    input_ids = tokens(2, 9)
    labels = input_ids.masked_fill(torch.arange(9) < 5, -100)
    values, mask = pixels(1, 1)
    mask = torch.zeros_like(mask)
    with torch.no_grad():
        alone = model(input_ids=input_ids, labels=labels)
    output = model(input_ids=input_ids, labels=labels, pixel_values=values, image_mask=mask)
    assert torch.equal(output.logits, alone.logits) and torch.equal(output.loss, alone.loss)
    assert not output.image_embeds.any()

    no_images = torch.zeros(2, dtype=torch.bool)
    distill = distillation_loss(output.selection_logits, torch.zeros(2, 1), mask, gamma=0.01).sum()
    other = torch.nn.functional.normalize(torch.ones(2, VISION_WIDTH), dim=-1)
    align = alignment_loss(
        output.summary_embeds,
        other,
        other,
        other,
        torch.ones(2, 2, dtype=torch.bool),
        temperature=output.alignment_temperature,
        has_images=no_images,
    ).sum()
    assert distill == 0 and align == 0
    (output.loss + distill + align).backward()
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert {name.partition(".")[0] for name in trained} == {"visual_path"}
    assert [name for name, value in trained.items() if value.grad is None] == []
    assert [name for name, value in trained.items() if value.grad.any()] == []
