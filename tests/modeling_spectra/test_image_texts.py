"""`vrp_image_texts`: the relevance predictor reads each image's caption, in every way in which images are ranked."""

import pytest
import torch
from torch.nn import functional as F

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration
from modeling_spectra.visual_relevance_predictor import VisualRelevancePredictor
from tests.double_precision import EXACT
from tests.tiny import TEXT_WIDTH, VISION_WIDTH, pixels, tiny_config, tiny_model, tiny_processor, tokens

pytestmark = pytest.mark.usefixtures("float64")
TEXTS = {"vrp_context": "article_set", "vrp_image_texts": True}


def image_texts(seed=7):
    """Ids and mask of two articles: six images of which the second has no text, and two."""
    ids = tokens(12, 5, seed=seed).view(2, 6, 5)
    mask = torch.arange(5) < torch.tensor([[3, 0, 5, 1, 2, 4], [2, 5, 0, 0, 0, 0]])[..., None]
    return {"image_text_ids": ids, "image_text_mask": mask}


def inputs(**more):
    values, mask = pixels(6, 2)
    attention_mask = torch.tensor([[1] * 9, [0, 0] + [1] * 7])
    return {
        "input_ids": tokens(2, 9),
        "attention_mask": attention_mask,
        "article_mask": attention_mask.bool() & (torch.arange(9) < 6),
        "pixel_values": values,
        "image_mask": mask,
        **image_texts(),
        **more,
    }


@torch.no_grad()
def test_means_are_those_of_a_loop():
    model = tiny_model(**TEXTS)
    given = image_texts()
    means = model.image_text_embeddings(**given)
    assert means.shape == (2, 6, TEXT_WIDTH)
    table = model.get_input_embeddings().weight
    for row in range(2):
        for image in range(6):
            real = given["image_text_ids"][row, image][given["image_text_mask"][row, image]]
            expected = table[real].mean(0) if len(real) else torch.zeros(TEXT_WIDTH)
            torch.testing.assert_close(means[row, image], expected, **EXACT)
    torch.testing.assert_close(
        model.image_text_embeddings(given["image_text_ids"]), table[given["image_text_ids"]].mean(2), **EXACT
    )
    assert model.image_text_embeddings(None) is None and tiny_model().image_text_embeddings(**given) is None
    with pytest.raises(ValueError, match="image_text_mask has the shape"):
        model.image_text_embeddings(given["image_text_ids"], given["image_text_mask"][:, :3])


@torch.no_grad()
def test_the_predictor_equals_its_transcription():
    """§12: what `article_set` reads, and [c ; c ⊙ a], both of unit variance, 0 without a text."""
    torch.manual_seed(0)
    config = tiny_config(**TEXTS)
    predictor, plain = (
        VisualRelevancePredictor(config).eval(),
        VisualRelevancePredictor(tiny_config(vrp_context="article_set")),
    )
    assert predictor.up_proj.in_features == plain.up_proj.in_features + 2 * TEXT_WIDTH
    embeds, mask = F.normalize(torch.randn(1, 3, VISION_WIDTH), dim=-1), torch.ones(1, 3, dtype=torch.bool)
    article, texts = torch.randn(1, TEXT_WIDTH) * 0.01, torch.randn(1, 3, TEXT_WIDTH) * 0.01
    texts[0, 1] = 0

    def unit(values):
        return (values - values.mean()) / (values.var(unbiased=False) + 1e-5).sqrt()

    # The features before are those of a predictor without texts, which has a test of its own.
    before = []
    hook = plain.up_proj.register_forward_pre_hook(lambda module, args: before.append(args[0]))
    plain.load_state_dict({"article_proj.weight": predictor.article_proj.weight}, strict=False)
    plain.eval()(embeds, mask, article)
    hook.remove()
    own = [torch.cat([unit(texts[0, i]), unit(texts[0, i]) * unit(article[0])]) for i in range(3)]
    assert not own[1].any()
    hidden = F.gelu(predictor.up_proj(torch.cat([before[0][0], torch.stack(own)], dim=-1)))
    expected = predictor.down_proj(hidden).squeeze(-1)
    torch.testing.assert_close(predictor(embeds, mask, article, texts)[0], expected, **EXACT)
    without = predictor(embeds, mask, article)
    torch.testing.assert_close(without[0, 1], expected[1], **EXACT)
    assert (without[0, [0, 2]] - expected[[0, 2]]).abs().min() > 1e-4


@torch.no_grad()
def test_forward_selection_and_generation_read_the_same_texts():
    model, given = tiny_model(gate=0.8, **TEXTS), inputs()
    output, selection = model(**given), model.select_images(**given)
    expected = torch.where(given["image_mask"], output.selection_logits.sigmoid(), 0.0)
    torch.testing.assert_close(selection.probabilities, expected, **EXACT)
    # Another text of one image changes that image's logit alone, and with it which images the summarizer sees.
    other = image_texts(seed=8)
    changed = {**given, "image_text_ids": given["image_text_ids"].clone()}
    changed["image_text_ids"][0, 4] = other["image_text_ids"][0, 4]
    difference = (model(**changed).selection_logits - output.selection_logits).abs()
    assert difference[0, 4] > 1e-4 and difference.sum() == difference[0, 4]
    # Padding of ids changes nothing.
    noise = {**given, "image_text_ids": torch.where(given["image_text_mask"], given["image_text_ids"], 9)}
    assert torch.equal(model(**noise).logits, output.logits)
    ranked = output.selection_logits[0].argsort(descending=True)[:3].sort().values
    assert output.summarizer_images[0].tolist() == ranked.tolist()
    shuffled = {**given, **other}
    assert model(**shuffled).summarizer_images[0].tolist() != ranked.tolist(), "the texts of this test must matter"

    for beams in (1, 3):
        options = {"max_new_tokens": 6, "num_beams": beams, "do_sample": False, "eos_token_id": None}
        written = model.generate(**given, **options)
        assert not torch.equal(written, model.generate(**shuffled, **options))
        assert torch.equal(written, model.generate(**given, use_cache=False, **options))
        features = model.image_features(given["pixel_values"], given["image_mask"])
        cached = {name: value for name, value in given.items() if name != "pixel_values"}
        assert torch.equal(written, model.generate(**cached, **features, **options))
    assert torch.equal(model.select_images(**cached, **features).probabilities, selection.probabilities)
    with pytest.raises(ValueError, match="must be the same in all of"):
        model.select_images(**{**given, "image_text_ids": other["image_text_ids"][:, :4], "image_text_mask": None})


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_predictor_learns_from_texts_alone(checkpointing):
    """Equal images, of which captions say which one is right; the language model's embeddings get no gradient by it."""
    model = tiny_model("sampler", vrp_dropout=0.0, **TEXTS).train()
    model.vision_tower.requires_grad_(False)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    values = pixels(1)[0].repeat(1, 4, 1, 1, 1)
    given = {"input_ids": tokens(1, 6), "pixel_values": values, "image_text_ids": tokens(4, 3)[None]}
    target = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    optimizer = torch.optim.Adam(model.visual_path.relevance_predictor.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        logits = model(**given).selection_logits
        F.binary_cross_entropy_with_logits(logits, target).backward()
        optimizer.step()
    assert ((model(**given).selection_logits > 0) == target.bool()).all()
    assert model.get_input_embeddings().weight.grad is None
    without = model(**{name: value for name, value in given.items() if name != "image_text_ids"}).selection_logits
    torch.testing.assert_close(without, without[:, :1].expand(1, 4), **EXACT)


@torch.no_grad()
def test_models_are_saved_and_loaded_and_others_load_as_before(tmp_path):
    model, given = tiny_model(gate=0.5, **TEXTS), inputs()
    model.save_pretrained(tmp_path / "texts")
    loaded, report = SpectraSumForConditionalGeneration.from_pretrained(tmp_path / "texts", output_loading_info=True)
    assert not any(report.values()) and loaded.config.vrp_image_texts
    assert torch.equal(loaded(**given).selection_logits, model(**given).selection_logits)

    plain = tiny_model(gate=0.5, vrp_context="article_set")
    old = {name for name, _ in tiny_model(gate=0.5, vrp_context="article_set").named_parameters()}
    assert {name for name, _ in plain.named_parameters()} == old == {name for name, _ in model.named_parameters()}
    # As an earlier version saved it: its configuration has no such fields.
    plain.save_pretrained(tmp_path / "plain")
    config = (tmp_path / "plain" / "config.json").read_text()
    lines = [line for line in config.splitlines() if '"captions"' not in line and '"vrp_image_text' not in line]
    assert len(lines) == len(config.splitlines()) - 3
    (tmp_path / "plain" / "config.json").write_text("\n".join(lines))
    loaded, report = SpectraSumForConditionalGeneration.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not any(report.values())
    assert torch.equal(loaded(**given).selection_logits, plain(**given).selection_logits)


def test_the_fields_are_checked():
    with pytest.raises(Exception, match="set vrp_context to 'article_set'"):
        tiny_config(vrp_context="article", vrp_image_texts=True)
    with pytest.raises(Exception, match="vrp_image_text_length is 0"):
        tiny_config(vrp_image_text_length=0)
    with pytest.raises(Exception, match="captions"):
        tiny_config(captions="all")
    assert SpectraSumConfig.from_dict(tiny_config(captions="prompt").to_dict()).captions == "prompt"


def test_the_processor_makes_them(tmp_path):
    processor = tiny_processor(image_text_length=4)
    texts = [["A storm passed over the harbour.", "", "Rain."], ["Two ships."]]
    data = processor(["One.", "Two."], images=[[torch.zeros(3, 9, 9)] * 3, [torch.zeros(3, 9, 9)]], captions=texts)
    ids, mask = data["image_text_ids"], data["image_text_mask"]
    assert ids.shape == mask.shape == (2, 3, 4) and mask.dtype == torch.bool
    assert mask.sum(-1).tolist() == [[4, 0, min(4, len(processor.tokenizer("Rain.")["input_ids"]))], [4, 0, 0]]
    for row, image in ((0, 0), (0, 2), (1, 0)):
        whole = processor.tokenizer(texts[row][image])["input_ids"]
        assert ids[row, image][mask[row, image]].tolist() == whole[:4]
    assert (ids[~mask] == processor.tokenizer.pad_token_id).all()
    # Without a caption in the batch there is nothing to read.
    for captions in (None, [["", "", ""], None]):
        plain = processor(["One.", "Two."], images=[[torch.zeros(3, 9, 9)] * 3, []], captions=captions)
        assert not {"image_text_ids", "image_text_mask"} & set(plain)
    lists = processor("One.", images=[torch.zeros(3, 9, 9)], captions=["Rain."], return_tensors=None)
    assert lists["image_text_ids"][0][0] == processor.tokenizer("Rain.")["input_ids"][:4]
