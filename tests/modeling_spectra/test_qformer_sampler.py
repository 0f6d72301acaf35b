"""The Q-Former as a sampler against transformers' own model, and the latents as visual tokens of the prompt."""

from collections.abc import Iterator

import pytest
import torch

from modeling_spectra.concat_projector import insert_visual_tokens
from modeling_spectra.qformer_sampler import QueryText
from tests.double_precision import EXACT, double_precision
from tests.tiny import IMAGE_SIZE, NUM_PATCHES, TEXT_WIDTH, VISION_WIDTH, tiny_model

PLAIN = {"patch_position_embedding": False, "add_pooled_embedding": False}


@pytest.fixture(autouse=True)
def in_double() -> Iterator[None]:
    with double_precision():
        yield


def qformer_model(**fields):
    fields = {"fusion": "concat", "concat_tokens": "latents", "sampler_type": "qformer", "sampler_depth": 3, **fields}
    return tiny_model(**fields).double()


def test_a_fresh_qformer_has_the_sampler_s_sizes():
    model = qformer_model(sampler_num_heads=8, sampler_feed_forward_multiplier=3)
    config = model.visual_path.sampler.former.config
    assert config is model.config.qformer_config
    sizes = config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size
    assert sizes == (TEXT_WIDTH, 3, 8, 3 * TEXT_WIDTH)
    assert config.encoder_hidden_size == VISION_WIDTH
    # Every second layer reads the patches.
    assert [layer.has_cross_attention for layer in model.visual_path.sampler.former.encoder.layer] == [
        True,
        False,
        True,
    ]
    assert not [name for name, _ in model.visual_path.sampler.named_parameters() if "word_embeddings" in name]


@pytest.mark.parametrize("reads_text", [True, False])
@torch.no_grad()
def test_it_is_the_qformer_of_transformers(reads_text):
    model = qformer_model(qformer_text=reads_text, **PLAIN)
    sampler = model.visual_path.sampler
    patches = torch.randn(
        2, NUM_PATCHES, VISION_WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]) if reads_text else None
    text = QueryText(ids, (ids > 0).long()) if reads_text else None
    attended = torch.ones(2, model.config.num_latents, dtype=torch.long)
    expected = sampler.former(
        input_ids=ids,
        attention_mask=torch.cat([attended, text.mask], dim=1) if reads_text else None,
        query_embeds=sampler.query_tokens.expand(2, -1, -1),
        encoder_hidden_states=patches,
    ).last_hidden_state[:, : model.config.num_latents]
    latents = sampler(patches, None, **({"query_text": text} if reads_text else {}))
    torch.testing.assert_close(latents, expected, **EXACT)


@torch.no_grad()
def test_positions_and_pooled_embeddings_are_added_where_they_are_asked_for():
    model, plain = qformer_model(), qformer_model(**PLAIN)
    sampler, other = model.visual_path.sampler, plain.visual_path.sampler
    other.load_state_dict({name: value for name, value in sampler.state_dict().items() if name in other.state_dict()})
    patches = torch.randn(
        2, NUM_PATCHES, VISION_WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    embeds = torch.randn(2, VISION_WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = other(patches + sampler.position_embedding.weight, None)
    expected = expected + (embeds @ sampler.pooled_proj.weight.T + sampler.pooled_proj.bias)[:, None]
    torch.testing.assert_close(sampler(patches, embeds), expected, **EXACT)


def test_a_qformer_that_reads_text_asks_for_it():
    model = qformer_model(qformer_text=True)
    with pytest.raises(ValueError, match="pass qformer_input_ids"):
        model.encode_images(torch.zeros(1, 1, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.float64))


@pytest.mark.parametrize("sampler", ["perceiver", "qformer"])
@torch.no_grad()
def test_latents_stand_in_the_prompt_in_the_images_order(sampler):
    model = tiny_model("concat", concat_tokens="latents", sampler_type=sampler).double()
    config = model.config
    assert config.num_image_tokens == config.num_latents
    pixel_values = torch.randn(1, 2, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.float64)
    input_ids = torch.tensor([[5, *[config.image_token_id] * 2 * config.num_latents, 6, 7]])
    encoded = model.encode_images(pixel_values)
    assert encoded.visual_tokens.shape == (1, 2, config.num_latents, TEXT_WIDTH)
    embeds = insert_visual_tokens(
        input_ids,
        model.get_input_embeddings()(input_ids),
        encoded.visual_tokens,
        torch.tensor([[0, 1]]),
        config.image_token_id,
    )
    expected = model.language_model(inputs_embeds=embeds).logits
    torch.testing.assert_close(model(input_ids=input_ids, pixel_values=pixel_values).logits, expected, **EXACT)
    # Each image's tokens are of its own latents, through the projection.
    for image in range(2):
        alone = model.encode_images(pixel_values[:, image : image + 1]).visual_tokens
        torch.testing.assert_close(alone[:, 0], encoded.visual_tokens[:, image], **EXACT)


@torch.no_grad()
def test_generation_reads_the_latents_once_and_the_text_with_them():
    model = qformer_model(qformer_text=True)
    config = model.config
    inputs = {
        "input_ids": torch.tensor([[*[config.image_token_id] * config.num_latents, 6, 7]]),
        "pixel_values": torch.randn(
            1, 1, 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        ),
        "qformer_input_ids": torch.tensor([[5, 6, 7]]),
        "qformer_attention_mask": torch.tensor([[1, 1, 1]]),
    }
    generated = model.generate(**inputs, max_new_tokens=3, do_sample=False, eos_token_id=-1)
    for _ in range(3):
        following = model(**inputs).logits[:, -1].argmax(dim=-1, keepdim=True)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], following], dim=1)
    assert torch.equal(generated, inputs["input_ids"])
    other = inputs | {"qformer_input_ids": torch.tensor([[9, 6, 7]])}
    assert (model(**other).logits - model(**inputs).logits).abs().max() > 1e-6
