"""What generation does not do twice: visual work once per article, decode steps of one token, a static cache, and a decode
step that compiles as one graph."""

import pytest
import torch
import torch.nn.functional as F

from modeling_spectra.pipeline_spectra import MultimodalSummarizationPipeline
from spectra_sum.summaries.prediction import predict_summaries
from tests.modeling_spectra.compiled_decoding import compiled, counting_backend
from tests.tiny import SENTENCES, VOCABULARY, picture, pixels, tiny_model, tiny_processor, tokens, vision_config

COUNTS = (2, 0, 3)
LENGTH, STEPS = 6, 5
OPTIONS = {"max_new_tokens": STEPS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
FUSIONS = ["concat", "sampler", "dvp"]
pytestmark = pytest.mark.usefixtures("float64")


def ragged_inputs(model, counts=COUNTS, seed=4):
    """Left-padded prompts of articles with `counts` images, placeholders first for `fusion="concat"`, and the images."""
    text = tokens(len(counts), LENGTH, seed)
    rows = [
        torch.cat([torch.full((count * model.config.num_image_tokens,), VOCABULARY - 1), text[row, row % 2 :]])
        for row, count in enumerate(counts)
    ]
    width = max(map(len, rows))
    inputs = {
        "input_ids": torch.stack([F.pad(row, (width - len(row), 0)) for row in rows]),
        "attention_mask": torch.stack([F.pad(torch.ones_like(row), (width - len(row), 0)) for row in rows]),
    }
    if max(counts):
        inputs["pixel_values"], inputs["image_mask"] = pixels(*counts)
    return inputs


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@torch.no_grad()
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_visual_work_is_done_once_and_decode_steps_read_one_token(fusion, beams, cache):
    model = tiny_model(fusion, gate=0.9, embedding_vision_config=vision_config("siglip"))
    inputs = ragged_inputs(model)
    calls, steps = [], []

    def counter(name):
        return lambda *_: calls.append(name)

    path = model.visual_path
    watched = {"tower": model.vision_tower, "embedding tower": model.embedding_tower, "sampler": path.sampler}
    watched |= {"processor": path.deep_visual_processor, "projector": path.projector}
    for layer, gate in (path.cross_attentions or {}).items():
        watched |= {f"keys {layer}": gate.attention.k_proj, f"values {layer}": gate.attention.v_proj}
    watched = {name: module for name, module in watched.items() if module is not None}
    for name, module in watched.items():
        module.register_forward_pre_hook(counter(name))
    model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: steps.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    model.generate(**inputs, **OPTIONS, num_beams=beams, cache_implementation=cache)
    # Where no image has to be left out, concat reads no embedding.
    assert sorted(calls) == sorted(watched.keys() - ({"embedding tower"} if fusion == "concat" else set()))
    # 3 images of 4 patches and a newline each in the longest prompt of concat; no visual token in the others.
    prompt = LENGTH + (3 * 5 if fusion == "concat" else 0)
    rows = len(COUNTS) * beams
    assert steps == [(rows, prompt), *[(rows, 1)] * (STEPS - 1)]


@torch.no_grad()
@pytest.mark.parametrize(("images", "runs"), [(3, 0), (4, 1)])
def test_generation_without_pooled_embeddings_needs_them_to_leave_images_out_alone(images, runs):
    """The paper's visual states are of the patches; at most 3 images are seen."""
    fields = {"gate": 0.9, "add_pooled_embedding": False, "embedding_vision_config": vision_config("siglip")}
    model = tiny_model("dvp", **fields)
    inputs, calls = ragged_inputs(model, counts=(images, 1)), []
    model.embedding_tower.register_forward_pre_hook(lambda *_: calls.append(1))
    found = model.generate(**inputs, **OPTIONS)
    assert len(calls) == runs
    embeds = model.pool_images(inputs["pixel_values"], inputs["image_mask"])
    assert torch.equal(found, model.generate(**inputs, **OPTIONS, image_embeds=embeds))


@pytest.mark.parametrize("second_tower", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_summaries_selection_and_evidence_look_at_an_image_once(fusion, second_tower):
    """And what they give is what each of them makes of the pixels."""
    towers = {"embedding_vision_config": vision_config("siglip")} if second_tower else {}
    model = tiny_model(fusion, gate=0.9, vrp_context="article_set", **towers)
    processor = tiny_processor(num_image_tokens=model.config.num_image_tokens, max_candidate_images=6)
    if fusion == "concat":
        model.config.image_token_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    pipeline = MultimodalSummarizationPipeline(model, processor=processor)
    images = [[picture(seed) for seed in range(5)], [picture(7)], []]
    articles = [{"text": text, "images": row} for text, row in zip(SENTENCES, images, strict=False)]
    records = [{"id": str(index), "title": "", "article": row["text"], **row} for index, row in enumerate(articles)]
    data = processor([row["text"] for row in articles], images=images)
    tokens = model.generate(**data, max_new_tokens=4, do_sample=False)
    summaries = processor.decode_summaries(tokens, data["input_ids"].shape[1])
    selection = model.select_images(**data)

    calls = []
    for name, tower in (("patches", model.vision_tower), ("embeddings", model.embedding_tower)):
        if tower is not None:
            tower.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    predictions = predict_summaries(model, processor, records, batch_size=3, progress=False, max_new_tokens=4)
    assert sorted(calls) == sorted({"patches", "embeddings"} if second_tower else {"patches"})
    assert [row["summary"] for row in predictions] == summaries
    assert [row["selected"] for row in predictions] == selection.indices
    for index, count in enumerate((5, 1, 0)):
        assert predictions[index]["probabilities"] == selection.probabilities[index, :count].tolist()

    calls.clear()
    (result,) = pipeline(articles[:1], max_new_tokens=4, return_evidence=True)
    assert result["evidence"] or fusion == "concat"
    # The evidence of a second tower's model reads the patches of the images that the summarizer sees once more.
    assert sorted(calls) == (
        ["embeddings", *["patches"] * (2 - (fusion == "concat"))] if second_tower else ["patches"]
    )


def test_the_processor_gives_gated_variants_the_prompt_of_a_text_only_article():
    images = [torch.zeros(3, 16, 16, dtype=torch.uint8).numpy().transpose(1, 2, 0)] * 3
    processor = tiny_processor(num_image_tokens=0)
    article = {"text": ["The harbour reopened on Monday."], "title": ["Harbour"]}
    with_images = processor(**article, images=[images])
    assert with_images["pixel_values"].shape[1] == 3
    assert torch.equal(with_images["input_ids"], processor(**article)["input_ids"])


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(("attention", "text"), [("sdpa", "qwen2"), ("eager", "llama")])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_static_cache_gives_the_same_tokens(fusion, attention, text, beams):
    model = tiny_model(fusion, text=text, gate=0.9, attention=attention)
    inputs = ragged_inputs(model)
    options = OPTIONS | {"num_beams": beams, "num_return_sequences": beams}
    expected = model.generate(**inputs, **options, use_cache=False)
    # A longer article before leaves a larger cache behind, which the shorter one then gets.
    for case in (ragged_inputs(model, (3, 1, 3), seed=5), inputs):
        static = model.generate(**case, **options, cache_implementation="static")
    assert torch.equal(static, expected)


def two_layer_model(fusion, **fields):
    """Gates before both layers: what takes long to trace is there twice and not more."""
    layers = {"text_fields": {"num_hidden_layers": 2}, "gate_layers": [1, 2], "dvp_num_layers": 2}
    return tiny_model(fusion, gate=0.9, **layers, **fields)


@torch.no_grad()
@pytest.mark.parametrize(
    ("fusion", "attention", "text"),
    [("dvp", "sdpa", "qwen2"), ("sampler", "eager", "llama"), ("concat", "sdpa", "qwen2")],
)
def test_the_decode_step_compiles_as_one_graph(fusion, attention, text):
    model = two_layer_model(fusion, text=text, attention=attention, gate_feed_forward=True)
    assert model._can_compile_fullgraph
    backend, graphs = counting_backend()
    for seed in (4, 5):
        inputs = ragged_inputs(model, seed=seed)
        expected = model.generate(**inputs, **OPTIONS)
        assert torch.equal(model.generate(**inputs, **OPTIONS, **compiled(backend)), expected)
    # One graph for all steps of both batches, with everything in it: fullgraph=True refuses breaks.
    assert len(graphs) == 1
    if attention == "sdpa":
        attentions = [node for node in graphs[0].graph.nodes if "scaled_dot_product" in str(node.target)]
        assert len(attentions) == (2 if fusion == "concat" else 4)


@torch.no_grad()
def test_articles_without_images_get_a_graph_of_their_own():
    model = two_layer_model("sampler")
    backend, graphs = counting_backend()
    for counts in ((2, 1), (0, 0), (2, 1)):
        inputs = ragged_inputs(model, counts)
        generated = model.generate(**inputs, **OPTIONS, **compiled(backend))
        assert torch.equal(generated, model.generate(**inputs, **OPTIONS))
    assert len(graphs) == 2


@torch.no_grad()
def test_the_compiled_decode_step_after_functionalisation():
    """The graph that inductor is handed, whose writes to the cache are functions, computes the same."""
    model = two_layer_model("dvp")
    inputs = ragged_inputs(model)
    expected = model.generate(**inputs, **OPTIONS)
    assert torch.equal(model.generate(**inputs, **OPTIONS, **compiled("aot_eager")), expected)


@torch.no_grad()
@pytest.mark.parametrize("use_cache", [True, False])
def test_concat_hands_its_visual_tokens_to_the_steps_that_need_them(use_cache):
    model = tiny_model("concat")
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs.get("visual_tokens") is not None), with_kwargs=True
    )
    model.generate(**ragged_inputs(model), **OPTIONS, use_cache=use_cache)
    assert seen == [True, *[not use_cache] * (STEPS - 1)]
