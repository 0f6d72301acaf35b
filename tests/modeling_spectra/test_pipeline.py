"""The pipeline against the model's own methods, called by hand one article at a time."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset
from transformers import pipeline
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.pt_utils import KeyDataset

from modeling_spectra import (
    MultimodalSummarizationPipeline,
    SpectraSumForConditionalGeneration,
    SpectraSumProcessor,
    register_auto_classes,
)
from tests.double_precision import double_precision
from tests.modeling_spectra.pipeline_setup import ARTICLES, NEW_TOKENS, POSITIONS
from tests.tiny import NUM_PATCHES, SENTENCES, picture

TASK = "multimodal-summarization"
pytestmark = pytest.mark.usefixtures("float64")


def by_hand(model, processor, article, num_beams=1):
    """Tokens of the prompt and the summary, text, and probabilities of one article."""
    images = (article.get("images") or [])[:4]
    room = POSITIONS - NEW_TOKENS - min(2, len(images)) * processor.num_image_tokens
    data = processor(
        text=article["text"], title=article.get("title") or "", images=[images], max_length=min(2048, room)
    )
    sequence = model.generate(**data, max_new_tokens=NEW_TOKENS, num_beams=num_beams, do_sample=False)[0]
    summary = sequence[data["input_ids"].shape[1] :]
    probabilities = model.select_images(**data).probabilities[0].tolist() if images else []
    return data, summary, processor.tokenizer.decode(summary, skip_special_tokens=True), probabilities


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_results_are_the_models_own_whatever_the_batch(loaded, batch_size, num_beams):
    model, processor = loaded
    summarizer = MultimodalSummarizationPipeline(model, processor, max_new_tokens=NEW_TOKENS)
    results = summarizer(ARTICLES, batch_size=batch_size, num_beams=num_beams)
    assert len(results) == len(ARTICLES)
    for article, result in zip(ARTICLES, results, strict=True):
        _, _, text, probabilities = by_hand(model, processor, article, num_beams)
        assert set(result) == {"summary_text", "selected_images", "image_probabilities"}
        assert result["summary_text"] == text.strip()
        count = len(article.get("images", []))
        assert result["image_probabilities"][:4] == pytest.approx(probabilities, abs=1e-9)
        assert result["image_probabilities"][4:] == [None] * (count - 4)
        best = sorted(range(len(probabilities)), key=lambda index: -probabilities[index])[:2]
        assert [image["index"] for image in result["selected_images"]] == best
        for image in result["selected_images"]:
            assert image["probability"] == result["image_probabilities"][image["index"]]
    assert len({result["summary_text"] for result in results}) > 2


def test_one_article_a_tuple_and_a_generator_give_the_same(loaded):
    summarizer = MultimodalSummarizationPipeline(*loaded, max_new_tokens=4)
    expected = summarizer(ARTICLES[:3])
    assert [summarizer(article) for article in ARTICLES[:3]] == expected
    assert summarizer(tuple(ARTICLES[:3])) == expected
    assert list(summarizer(article for article in ARTICLES[:3])) == expected
    assert summarizer([]) == []


class Rows(Dataset):
    """A dataset with a length and items by number, and no `__iter__`."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


class Stream(IterableDataset):
    """Has a length, and inherits a `__getitem__` that does not work."""

    def __len__(self):
        return 3

    def __iter__(self):
        return iter(ARTICLES[:3])


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"num_workers": 2, "batch_size": 2}])
def test_datasets_give_the_same(loaded, options):
    summarizer = MultimodalSummarizationPipeline(*loaded, max_new_tokens=4)
    # A batch of another size may round otherwise in the last digits.
    expected = [
        {
            **result,
            "image_probabilities": pytest.approx(result["image_probabilities"], abs=1e-9),
            "selected_images": [pytest.approx(image, abs=1e-9) for image in result["selected_images"]],
        }
        for result in summarizer(ARTICLES[:3])
    ]
    for dataset in (
        Rows(ARTICLES[:3]),
        Subset(Rows(ARTICLES), [0, 1, 2]),
        KeyDataset(Rows([{"article": article} for article in ARTICLES[:3]]), "article"),
    ):
        assert list(summarizer(dataset, **options)) == expected
    assert summarizer(ARTICLES[:3], **options) == expected
    assert list(summarizer(Rows([]))) == []


def test_a_stream_with_a_length(loaded):
    summarizer = MultimodalSummarizationPipeline(*loaded, max_new_tokens=4)
    assert list(summarizer(Stream())) == summarizer(ARTICLES[:3])


def test_the_articles_of_a_dataset_are_checked_as_they_are_read(loaded):
    results = iter(MultimodalSummarizationPipeline(*loaded, max_new_tokens=2)(Rows([ARTICLES[1], {"text": 3}])))
    next(results)
    with pytest.raises(ValueError, match='article 1: "text" must be a string, not int'):
        next(results)


@pytest.mark.float32
def test_bfloat16(loaded, tmp_path, monkeypatch):
    """The dtype of the pipeline is the model's; its probabilities are those of the model in bfloat16."""
    model, processor = loaded
    monkeypatch.setattr(PIPELINE_REGISTRY, "supported_tasks", dict(PIPELINE_REGISTRY.supported_tasks))
    register_auto_classes()
    MultimodalSummarizationPipeline(model, processor).save_pretrained(tmp_path)
    summarizer = pipeline(
        TASK,
        model=tmp_path,
        pipeline_class=MultimodalSummarizationPipeline,
        dtype=torch.bfloat16,
        max_new_tokens=4,
    )
    assert (
        summarizer.model.dtype == summarizer.model.visual_path.alignment_head.projection.weight.dtype == torch.bfloat16
    )
    result = summarizer(ARTICLES[0], return_evidence=True)
    data = processor(text=SENTENCES[0], title="Harbour", images=[ARTICLES[0]["images"][:4]])
    probabilities = summarizer.model.select_images(**data).probabilities[0].tolist()
    assert result["image_probabilities"][:4] == pytest.approx(probabilities, abs=1e-2)
    with double_precision():
        exact = by_hand(model, processor, ARTICLES[0])[3]
    assert result["image_probabilities"][:4] == pytest.approx(exact, abs=0.1)
    for entry in result["evidence"]:
        assert sum(weight or 0 for weight in entry["image_weights"]) == pytest.approx(1, abs=2e-2)


def test_threshold_and_options_of_the_call_override_those_of_the_pipeline(loaded):
    model, processor = loaded
    summarizer = MultimodalSummarizationPipeline(model, processor, max_new_tokens=4, threshold=2.0)
    assert summarizer(ARTICLES[0])["selected_images"] == []
    scores = sorted(by_hand(model, processor, ARTICLES[0])[3])
    selected = summarizer(ARTICLES[0], threshold=(scores[-1] + scores[-2]) / 2)["selected_images"]
    assert [image["probability"] for image in selected] == pytest.approx(scores[-1:], abs=1e-9)
    longer = summarizer(ARTICLES[0], max_new_tokens=NEW_TOKENS)["summary_text"]
    assert longer == by_hand(model, processor, ARTICLES[0])[2].strip()
    assert longer != summarizer(ARTICLES[0])["summary_text"]


def test_what_is_cut_is_counted(loaded, monkeypatch):
    model, processor = loaded
    messages = []
    monkeypatch.setattr("modeling_spectra.pipeline_spectra.logger.warning", messages.append)
    summarizer = MultimodalSummarizationPipeline(model, processor, max_new_tokens=NEW_TOKENS)
    summarizer(ARTICLES[:4], batch_size=4)
    cut = [message for message in messages if "not read" in message]
    assert len(cut) == 2
    for index, message in zip((2, 3), cut, strict=True):
        prompt = by_hand(model, processor, ARTICLES[index])[0]["input_ids"].shape[1]
        prompt -= min(2, len(ARTICLES[index]["images"])) * processor.num_image_tokens
        whole = processor(text=ARTICLES[index]["text"], max_length=10**6)["input_ids"].shape[1]
        assert message == f"article {index}: the last {whole - prompt} of its {whole} text tokens were not read."
    ended = [by_hand(model, processor, article)[1][-1] in (0, 1) for article in ARTICLES[:4]]
    stopped = [message.partition(":")[0] for message in messages if "stopped at max_new_tokens (12)" in message]
    assert stopped == [f"article {index}" for index in range(4) if not ended[index]]

    messages.clear()
    summarizer(ARTICLES[0], max_length=20)
    frame = processor(text="", title="Harbour")["input_ids"].shape[1]
    body = processor(text=SENTENCES[0], title="Harbour")["input_ids"].shape[1] - frame
    left = 20 - frame
    assert f"the article: the last {body - left} of its {body + frame} text tokens were not read." in messages


def test_evidence_in_a_batch_is_the_articles_own_attention(loaded):
    model, processor = loaded
    summarizer = MultimodalSummarizationPipeline(model, processor, max_new_tokens=NEW_TOKENS)
    results = summarizer(ARTICLES, batch_size=5, return_evidence=True)
    assert model.config._attn_implementation == "sdpa"
    if model.config.fusion == "concat":
        assert [result["evidence"] for result in results] == [[]] * 5
        return
    openings = [math.tanh(0.7), math.tanh(0.3)]
    for article, result in zip(ARTICLES, results, strict=True):
        data, summary, text, _ = by_hand(model, processor, article)
        assert [entry["sentence"] for entry in result["evidence"]] == ([text.strip()] if article.get("images") else [])
        if not article.get("images"):
            continue
        ends = [place for place, token in enumerate(summary.tolist()) if token == processor.tokenizer.eos_token_id]
        summary = summary[: (ends or [len(summary)])[0]]
        # Tokens before the first character, such as ids that the tokenizer has no text for, are in no sentence.
        own = [place for place in range(len(summary)) if processor.tokenizer.decode(summary[: place + 1]).strip()]
        assert text == text.rstrip() and own
        prompt = data["input_ids"].shape[1]
        model.set_attn_implementation("eager")
        outputs = model(
            input_ids=torch.cat([data["input_ids"], summary[None]], dim=1),
            article_mask=data["article_mask"],
            pixel_values=data["pixel_values"],
            image_mask=data["image_mask"],
            output_attentions=True,
        )
        model.set_attn_implementation("sdpa")
        seen = outputs.summarizer_images[0].tolist()
        weights = result["evidence"][0]["image_weights"]
        assert [index for index, weight in enumerate(weights) if weight is not None] == seen
        assert len(weights) == len(article["images"])
        for place, image in enumerate(seen):
            terms = [
                opening * gate[0, head, prompt + token, 2 * place + latent].item()
                for opening, gate in zip(openings, outputs.cross_attentions, strict=True)
                for head, token, latent in itertools.product(range(gate.shape[1]), own, range(2))
            ]
            heads = outputs.cross_attentions[0].shape[1]
            assert weights[image] == pytest.approx(sum(terms) / (sum(openings) * heads * len(own)), abs=1e-9)
        if len(seen) > 1:
            assert max(weights[index] for index in seen) - min(weights[index] for index in seen) > 1e-2


@pytest.mark.parametrize(
    "article, message",
    [
        ("a text", r"article 1 must be a dict .* not str"),
        ({"images": []}, r'article 1: "text" must be a string, not NoneType'),
        ({"text": ["a"]}, r'article 1: "text" must be a string, not list'),
        ({"text": "a", "image": []}, r"article 1 has unknown keys \['image'\]"),
        ({"text": "a", "title": 3}, r'article 1: "title" must be a string, not int'),
        ({"text": "a", "images": "x.png"}, r'article 1: "images" must be a list, not str'),
        ({"text": "a", "images": [picture(1), None]}, r"article 1: image 1 must be a PIL image.* not NoneType"),
    ],
)
def test_all_articles_are_checked_before_the_first_is_summarized(summarizer, monkeypatch, article, message):
    monkeypatch.setattr(summarizer.model, "generate", lambda **_: pytest.fail("summarized"))
    with pytest.raises(ValueError, match=message):
        summarizer([ARTICLES[0], article])


def test_other_inputs_and_options_are_refused(summarizer):
    for inputs in ("a text", 3):
        with pytest.raises(ValueError, match='an article is a dict with "text" and "images"'):
            summarizer(inputs)
    with pytest.raises(TypeError, match="temperature"):
        summarizer(ARTICLES[0], temperature=0.5)
    with pytest.raises(ValueError, match="processor=…"):
        MultimodalSummarizationPipeline(summarizer.model)
    with pytest.raises(ValueError, match=r"article 0: title, max_length \(2048\).*no room.*shorten the title"):
        summarizer([{"text": "a", "title": "t " * POSITIONS}])


@pytest.mark.parametrize(
    "option",
    [
        {"num_beams": 0},
        {"num_beams": 1.5},
        {"max_new_tokens": 0},
        {"max_new_tokens": True},
        {"max_length": -1},
        {"max_length": "20"},
        {"threshold": "a"},
        {"threshold": math.nan},
        {"timeout": 0},
        {"timeout": "1"},
    ],
)
def test_options_out_of_range_are_refused(summarizer, monkeypatch, option):
    monkeypatch.setattr(summarizer.model, "generate", lambda **_: pytest.fail("summarized"))
    [name] = option
    for inputs in (ARTICLES[0], ARTICLES[:2], (article for article in ARTICLES)):
        with pytest.raises(ValueError, match=f"^{name} must be "):
            summarizer(inputs, **option)
    with pytest.raises(ValueError, match=f"^{name} must be "):
        MultimodalSummarizationPipeline(summarizer.model, summarizer.processor, **option)
    assert summarizer._sanitize_parameters(num_beams=np.int64(2), threshold=np.float32(0.5), timeout=1)


def test_the_smaller_limit_of_model_and_processor_counts(loaded):
    model, processor = loaded
    summarizer = MultimodalSummarizationPipeline(model, processor, max_new_tokens=3)
    try:
        for limit, scored in ((3, 3), (9, 4)):
            processor.max_candidate_images = limit
            images = [picture(seed) for seed in range(scored)] + ["missing.png"] * (6 - scored)
            result = summarizer({"text": "a", "images": images}, return_evidence=True)
            assert [value is None for value in result["image_probabilities"]] == [False] * scored + [True] * (
                6 - scored
            )
            assert all(len(entry["image_weights"]) == 6 for entry in result["evidence"])
    finally:
        processor.max_candidate_images = 4


def test_images_beyond_the_limit_are_not_read(summarizer):
    images = [picture(1)] * 4 + ["missing.png"]
    probabilities = summarizer({"text": "a", "images": images})["image_probabilities"]
    assert probabilities[4:] == [None] and None not in probabilities[:4]


def test_a_length_for_each_article(loaded):
    _, processor = loaded
    data = processor(text=SENTENCES[:2], max_length=[16, 18])
    assert data["attention_mask"].sum(dim=1).tolist() == [16, 18]
    with pytest.raises(ValueError, match=r"max_length must be a list with one entry per article \(2\)"):
        processor(text=SENTENCES[:2], max_length=[20])


def test_dropout_is_off(loaded):
    model, processor = loaded
    summarizer = MultimodalSummarizationPipeline(model.train(), processor, max_new_tokens=3)
    assert not model.training
    assert summarizer(ARTICLES[0]) == summarizer(ARTICLES[0])


def test_the_task_is_known_to_an_installation(loaded, tmp_path, monkeypatch):
    """By name for models in memory, and without running a folder's code when the class is given."""
    model, processor = loaded
    monkeypatch.setattr(PIPELINE_REGISTRY, "supported_tasks", dict(PIPELINE_REGISTRY.supported_tasks))
    monkeypatch.setattr(
        "transformers.pipelines.base.logger.warning", lambda *message: pytest.fail(f"warned: {message}")
    )
    register_auto_classes()
    register_auto_classes()
    by_name = pipeline(TASK, model=model, processor=processor, max_new_tokens=4)
    assert type(by_name) is MultimodalSummarizationPipeline
    expected = by_name(ARTICLES[0])
    by_name.save_pretrained(tmp_path)
    from_folder = pipeline(TASK, model=tmp_path, pipeline_class=MultimodalSummarizationPipeline, max_new_tokens=4)
    assert type(from_folder.model) is SpectraSumForConditionalGeneration
    assert type(from_folder.processor) is SpectraSumProcessor
    assert from_folder(ARTICLES[0]) == expected
    assert processor.num_image_tokens == (NUM_PATCHES + 1 if model.config.fusion == "concat" else 0)
