"""The model against its bare text model, an article against its batch, and a loss against its definition."""

import pytest
import torch
import torch.nn.functional as F

from tests.double_precision import EXACT
from tests.modeling_spectra.parity_setup import PLACEHOLDER, alone, bare_text_model, positions, prompts
from tests.tiny import NUM_PATCHES, TEXT_WIDTH, pixels, tiny_model, tokens

BACKBONES = [("siglip", "qwen2"), ("clip", "llama")]
pytestmark = pytest.mark.usefixtures("float64")


@torch.no_grad()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("vision", "text"), BACKBONES)
@pytest.mark.parametrize("fusion", ["sampler", "dvp"])
def test_closed_gates_give_the_text_models_logits_bit_for_bit(fusion, vision, text, attention):
    model = tiny_model(fusion, vision, text, gate=0.0, attention=attention, gate_feed_forward=True)
    bare, inputs = bare_text_model(model), prompts(model, (2, 0, 3))
    values, mask = pixels(2, 0, 3)
    expected = bare(**inputs, position_ids=positions(inputs["attention_mask"])).logits
    assert torch.equal(model(**inputs, pixel_values=values, image_mask=mask).logits, expected)
    assert torch.equal(model(**inputs).logits, expected)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("vision", "text"), BACKBONES)
@pytest.mark.parametrize("fusion", ["sampler", "dvp"])
def test_without_real_images_open_gates_change_nothing(fusion, vision, text, attention):
    model = tiny_model(fusion, vision, text, gate=0.9, attention=attention, gate_feed_forward=True)
    bare, inputs = bare_text_model(model), prompts(model, (0, 0))
    values, mask = pixels(2, 3)
    expected = bare(**inputs, position_ids=positions(inputs["attention_mask"])).logits
    assert torch.equal(model(**inputs, pixel_values=values, image_mask=torch.zeros_like(mask)).logits, expected)
    assert torch.equal(model(**inputs).logits, expected)
    with_images = model(**inputs, pixel_values=values, image_mask=mask).logits
    assert ((with_images - expected).abs().amax((1, 2)) > 0.1).all(), "the images of this test must matter"


@torch.no_grad()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("vision", "text"), BACKBONES)
@pytest.mark.parametrize("fusion", ["concat", "sampler", "dvp"])
def test_a_mixed_left_padded_batch_equals_each_article_alone(fusion, vision, text, attention):
    model = tiny_model(fusion, vision, text, gate=0.9, attention=attention, vrp_context="article_set")
    counts = (0, 1, 3, 5)
    inputs = prompts(model, counts)
    values, mask = pixels(*counts)
    batch = model(**inputs, pixel_values=values, image_mask=mask)
    for row, count in enumerate(counts):
        single = model(**alone(inputs, values, row, count))
        real = inputs["attention_mask"][row].bool()
        torch.testing.assert_close(batch.logits[row, real], single.logits[0], **EXACT)
        if count:
            torch.testing.assert_close(batch.image_embeds[row, :count], single.image_embeds[0], **EXACT)
            torch.testing.assert_close(batch.selection_logits[row, :count], single.selection_logits[0], **EXACT)
            seen = single.summarizer_images[0].tolist()
            assert batch.summarizer_images[row].tolist() == seen + [-1] * (3 - len(seen))
        assert (batch.selection_logits[row, count:] == torch.finfo(batch.selection_logits.dtype).min).all()
        assert (batch.image_embeds[row, count:] == 0).all()
    disturbed = model(**inputs, pixel_values=values + 100.0 * ~mask[..., None, None, None], image_mask=mask)
    real = inputs["attention_mask"].bool()
    assert torch.equal(disturbed.logits[real], batch.logits[real])


@torch.no_grad()
@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("fusion", ["concat", "sampler", "dvp"])
def test_padding_between_images_changes_nothing(fusion, count):
    """A broken image in the middle leaves the others as they are, with or without a reduction to `max_images`."""
    model = tiny_model(fusion, gate=0.9)
    values, _ = pixels(count)
    mask = torch.ones(1, count, dtype=torch.bool)
    mask[0, 1] = False
    real = [image for image in range(count) if image != 1]
    inputs = prompts(model, (count - 1,))
    padded = model(**inputs, pixel_values=values, image_mask=mask)
    alone = model(**inputs, pixel_values=values[:, real])
    torch.testing.assert_close(padded.logits, alone.logits, **EXACT)
    seen = [real[image] for image in alone.summarizer_images[0].tolist()]
    assert padded.summarizer_images[0].tolist() == seen + [-1] * (3 - len(seen))


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["concat", "sampler", "dvp"])
def test_eager_equals_sdpa(fusion):
    counts = (0, 2, 3)
    outputs = {}
    for attention in ("eager", "sdpa"):
        model = tiny_model(fusion, gate=0.9, attention=attention)
        inputs = prompts(model, counts)
        values, mask = pixels(*counts)
        outputs[attention] = model(**inputs, pixel_values=values, image_mask=mask).logits[
            inputs["attention_mask"].bool()
        ]
    torch.testing.assert_close(outputs["eager"], outputs["sdpa"], **EXACT)


@torch.no_grad()
def test_concat_puts_the_projected_patches_where_the_placeholders_stand():
    model = tiny_model("concat")
    counts = (2, 0, 1)
    inputs = prompts(model, counts)
    values, mask = pixels(*counts)
    embeds = model.language_model.get_input_embeddings()(inputs["input_ids"])
    patches, _ = model.embed_images(values, mask)
    projector = model.visual_path.projector
    for row, count in enumerate(counts):
        position = int((inputs["input_ids"][row] == PLACEHOLDER).float().argmax())
        for image in range(count):
            projected = projector.linear_2(F.gelu(projector.linear_1(patches[row, image])))
            block = torch.cat([projected, projector.image_newline[None]])
            embeds[row, position : position + NUM_PATCHES + 1] = block
            position += NUM_PATCHES + 1
    options = {"attention_mask": inputs["attention_mask"], "position_ids": positions(inputs["attention_mask"])}
    expected = bare_text_model(model)(inputs_embeds=embeds, **options).logits
    logits = model(**inputs, pixel_values=values, image_mask=mask).logits
    torch.testing.assert_close(logits, expected, **EXACT)


def test_concat_refuses_prompts_whose_placeholders_do_not_fit():
    model = tiny_model("concat")
    inputs = prompts(model, (2, 1))
    values, _ = pixels(2, 2)
    with pytest.raises(ValueError, match=r"\[10, 5\] image placeholders.*\[10, 10\].*processor"):
        model(**inputs, pixel_values=values)
    with pytest.raises(ValueError, match="placeholders in input_ids"):
        model(inputs_embeds=torch.zeros(2, 4, TEXT_WIDTH), pixel_values=values)


@torch.no_grad()
@pytest.mark.parametrize("context", ["none", "article", "article_set"])
@pytest.mark.parametrize("fusion", ["concat", "sampler", "dvp"])
def test_more_images_than_the_limit_are_reduced_to_the_best_in_the_articles_order(fusion, context):
    model = tiny_model(fusion, gate=0.9, vrp_context=context)
    counts = (6, 4)
    values, mask = pixels(*counts)
    inputs = prompts(model, counts)
    output = model(**inputs, pixel_values=values, image_mask=mask)
    assert output.selection_logits.shape == (2, 6)
    kept = []
    for row, count in enumerate(counts):
        scores = output.selection_logits[row, :count].tolist()
        kept.append(sorted(sorted(range(count), key=lambda i, scores=scores: -scores[i])[:3]))
    assert output.summarizer_images.tolist() == kept
    assert kept != [[0, 1, 2]] * 2, "the best images of this test must be others than the first"
    for reduce, chosen in ((True, kept), (False, [[0, 1, 2], [0, 1, 2]])):
        few = torch.stack([values[row, images] for row, images in enumerate(chosen)])
        expected = model(**inputs, pixel_values=few).logits
        result = model(**inputs, pixel_values=values, image_mask=mask, reduce_by_relevance=reduce)
        torch.testing.assert_close(result.logits, expected, **EXACT)
        assert result.summarizer_images.tolist() == chosen


@torch.no_grad()
@pytest.mark.parametrize("count", [0, 7])
def test_no_or_too_many_candidates_are_refused_everywhere(count):
    model = tiny_model()
    values = pixels(7)[0][:, :count]
    for call in (
        lambda: model(input_ids=tokens(1, 5), pixel_values=values),
        lambda: model.generate(input_ids=tokens(1, 5), pixel_values=values, max_new_tokens=1),
        lambda: model.select_images(values),
    ):
        with pytest.raises(ValueError, match=rf"{count} images.*max_candidate_images \(6\)"):
            call()


@torch.no_grad()
@pytest.mark.parametrize("whole", [True, False])
def test_generation_that_continues_does_not_take_the_later_text_for_the_article(whole):
    """Neither all tokens so far nor the new ones alone say what the images were reduced by."""
    model = tiny_model("dvp", gate=0.9, vrp_context="article")
    input_ids, more = tokens(1, 7), tokens(1, 3, seed=9)
    mask = torch.ones(1, 10, dtype=torch.long)
    longer = torch.cat([input_ids, more], dim=1) if whole else more
    options = {"attention_mask": mask, "max_new_tokens": 2, "do_sample": False, "eos_token_id": None}
    few, many = pixels(3)[0], pixels(5)[0]

    first = model(input_ids=input_ids, pixel_values=few, use_cache=True)
    expected = model.generate(torch.cat([input_ids, more], dim=1), pixel_values=few, use_cache=False, **options)
    generated = model.generate(longer, pixel_values=few, past_key_values=first.past_key_values, **options)
    assert torch.equal(generated[:, -2:], expected[:, -2:])

    first = model(input_ids=input_ids, pixel_values=many, use_cache=True)
    with pytest.raises(ValueError, match="pass the visual_key_values of the first call"):
        model.generate(longer, pixel_values=many, past_key_values=first.past_key_values, **options)


def test_a_reduction_by_context_needs_the_article():
    model = tiny_model(vrp_context="article")
    values, _ = pixels(5)
    embeds = torch.randn(1, 4, TEXT_WIDTH)
    with pytest.raises(ValueError, match="vrp_context='article' needs the article's tokens"):
        model(inputs_embeds=embeds, pixel_values=values)
    cache = model(input_ids=tokens(1, 4), pixel_values=values, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="pass the visual_key_values of the first call"):
        model(input_ids=tokens(1, 1), past_key_values=cache, pixel_values=values)


def test_exactly_one_of_ids_and_embeddings():
    model = tiny_model()
    for inputs in ({}, {"input_ids": tokens(1, 2), "inputs_embeds": torch.zeros(1, 2, TEXT_WIDTH)}):
        with pytest.raises(ValueError, match="input_ids and inputs_embeds"):
            model(**inputs)


@torch.no_grad()
def test_article_embedding_is_the_mean_of_the_articles_tokens_only():
    model = tiny_model("concat")
    input_ids = tokens(2, 6)
    input_ids[0, 2] = PLACEHOLDER
    attention_mask = torch.tensor([[1] * 6, [0, 0, 1, 1, 1, 1]])
    labels = torch.tensor([[-100] * 4 + [7, 7], [-100] * 5 + [9]])
    table = model.language_model.model.embed_tokens.weight
    expected = torch.stack([table[input_ids[0, [0, 1, 3]]].mean(0), table[input_ids[1, 2:5]].mean(0)])
    torch.testing.assert_close(model.article_embeddings(input_ids, attention_mask, labels=labels), expected, **EXACT)
    article_mask = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 1]])
    expected = torch.stack([table[input_ids[0, 1]], table[input_ids[1, 2:4]].mean(0)])
    torch.testing.assert_close(model.article_embeddings(input_ids, attention_mask, article_mask), expected, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("normalised", [False, True])
def test_loss_is_the_cross_entropy_of_the_labelled_tokens(normalised):
    model = tiny_model("dvp", gate=0.9)
    input_ids, labels = tokens(2, 8), torch.full((2, 8), -100)
    labels[0, 5:], labels[1, 7:] = input_ids[0, 5:], input_ids[1, 7:]
    values, mask = pixels(2, 1)
    options = {"num_items_in_batch": torch.tensor(10)} if normalised else {}
    output = model(input_ids=input_ids, labels=labels, pixel_values=values, image_mask=mask, **options)
    terms = [
        -output.logits[row, t - 1].log_softmax(-1)[labels[row, t]]
        for row in range(2)
        for t in range(1, 8)
        if labels[row, t] != -100
    ]
    assert len(terms) == 4
    torch.testing.assert_close(output.loss, sum(terms) / (10 if normalised else 4), **EXACT)
    hidden = model(input_ids=input_ids, pixel_values=values, image_mask=mask, output_hidden_states=True).hidden_states[
        -1
    ]
    for row, start in ((0, 5), (1, 7)):
        z = model.visual_path.alignment_head.projection(hidden[row, start:].mean(0))
        torch.testing.assert_close(output.summary_embeds[row], z / z.norm(), **EXACT)


@torch.no_grad()
def test_the_loss_counts_the_positions_whose_logits_are_kept():
    model = tiny_model("dvp", gate=0.9)
    input_ids = tokens(2, 8)
    labels = torch.where(torch.arange(8) < 4, -100, input_ids)
    inputs = {"input_ids": input_ids, "labels": labels, "pixel_values": pixels(2, 2)[0]}
    whole = model(**inputs)
    scores = whole.logits[:, :-1].log_softmax(-1).gather(-1, input_ids[:, 1:, None]).squeeze(-1)
    # The token at position t is scored by the logits at t − 1.
    for keep, scored in ((5, [3, 4, 5, 6]), (3, [5, 6]), (torch.tensor([0, 3, 6]), [3, 6])):
        output = model(**inputs, logits_to_keep=keep)
        torch.testing.assert_close(output.loss, -scores[:, scored].mean(), **EXACT)
        torch.testing.assert_close(output.summary_embeds, whole.summary_embeds, **EXACT)
    torch.testing.assert_close(whole.loss, -scores[:, [3, 4, 5, 6]].mean(), **EXACT)


@torch.no_grad()
def test_logits_to_keep_and_tuples():
    model = tiny_model("dvp", gate=0.9)
    values, _ = pixels(1)
    inputs = {"input_ids": tokens(1, 6), "pixel_values": values}
    whole = model(**inputs).logits
    torch.testing.assert_close(model(**inputs, logits_to_keep=2).logits, whole[:, -2:], **EXACT)
    torch.testing.assert_close(model(**inputs, return_dict=False)[0], whole, **EXACT)
