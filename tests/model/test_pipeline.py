"""The pipeline against the model's own methods, called by hand one article at a time."""

import base64
import functools
import http.server
import io
import itertools
import math
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
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
from spectra_sum.documents import Document, DocumentImage
from spectra_sum.local_images import open_local_image
from spectra_sum.pretrained import LoadedModel
from spectra_sum.summarizer import Summarizer
from tests.tiny import NUM_PATCHES, SENTENCES, picture, save_text_folder, save_vision_folder

TASK = "multimodal-summarization"
POSITIONS, NEW_TOKENS = 160, 12
VARIANTS = {
    "dvp": {"fusion": "dvp", "dvp_num_layers": 3, "gate_layers": [1, 3], "num_latents": 2},
    "concat": {"fusion": "concat"},
}
# More images than are scored, more than are seen, none, one; a text that does not fit, an empty one.
ARTICLES = [
    {"text": SENTENCES[0], "images": [picture(seed) for seed in range(6)], "title": "Harbour"},
    {"text": SENTENCES[1]},
    {"text": " ".join(SENTENCES * 6), "images": [picture(7)]},
    {"text": " ".join(SENTENCES * 6), "images": [picture(8), picture(9), picture(10)], "title": None},
    {"text": "", "images": [], "title": "Only a title"},
]


@pytest.fixture(scope="module", params=VARIANTS)
def loaded(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    model, processor = SpectraSumForConditionalGeneration.from_backbones(
        str(save_vision_folder(root / "vision")),
        str(save_text_folder(root / "text", max_position_embeddings=POSITIONS)),
        vrp_context="article_set",
        max_images=2,
        max_candidate_images=4,
        max_selected_images=2,
        **VARIANTS[request.param],
    )
    # Weights of the usual size would make attention so even that a mistake could hide.
    with torch.no_grad():
        for parameter in model.visual_path.parameters():
            parameter.mul_(8) if parameter.dim() > 1 else None
        for place, module in enumerate((model.visual_path.cross_attentions or {}).values()):
            module.gate.alpha.fill_(0.7 - 0.4 * place)
    return model, processor


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
        assert result["image_probabilities"][:4] == pytest.approx(probabilities, abs=1e-5)
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
    # A batch of another size may round otherwise in the seventh digit, on some processors.
    expected = [
        {
            **result,
            "image_probabilities": pytest.approx(result["image_probabilities"], abs=1e-5),
            "selected_images": [pytest.approx(image, abs=1e-5) for image in result["selected_images"]],
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
    assert result["image_probabilities"][:4] == pytest.approx(by_hand(model, processor, ARTICLES[0])[3], abs=0.1)
    for entry in result["evidence"]:
        assert sum(weight or 0 for weight in entry["image_weights"]) == pytest.approx(1, abs=2e-2)


def test_threshold_and_options_of_the_call_override_those_of_the_pipeline(loaded):
    model, processor = loaded
    summarizer = MultimodalSummarizationPipeline(model, processor, max_new_tokens=4, threshold=2.0)
    assert summarizer(ARTICLES[0])["selected_images"] == []
    scores = sorted(by_hand(model, processor, ARTICLES[0])[3])
    selected = summarizer(ARTICLES[0], threshold=(scores[-1] + scores[-2]) / 2)["selected_images"]
    assert [image["probability"] for image in selected] == pytest.approx(scores[-1:])
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
            assert weights[image] == pytest.approx(sum(terms) / (sum(openings) * heads * len(own)), abs=1e-5)
        if len(seen) > 1:
            assert max(weights[index] for index in seen) - min(weights[index] for index in seen) > 1e-2


@pytest.fixture
def summarizer(loaded):
    return MultimodalSummarizationPipeline(*loaded, max_new_tokens=3)


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


def test_an_unreadable_image_is_named(summarizer, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    whole = io.BytesIO()
    picture(1, (200, 200)).save(whole, "PNG")
    (tmp_path / "truncated.png").write_bytes(whole.getvalue()[:2000])
    (tmp_path / "text.png").write_text("no image")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/a.png"
    for image in (tmp_path / "truncated.png", str(tmp_path / "text.png"), tmp_path / "missing.png", url):
        with pytest.raises(ValueError, match="^article 0: image 1 .* cannot be read: ") as error:
            summarizer([{"text": "a", "images": [picture(1), image]}])
        assert str(image) in str(error.value)


def test_paths_and_urls_are_read_like_the_image_itself(summarizer, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    image = picture(5).convert("RGBA")
    # Over white it is another image than without its transparency.
    image.putalpha(picture(6, mode="L"))
    image.save(tmp_path / "a.png")
    assert summarizer({"text": SENTENCES[0], "images": [image.convert("RGB")]}) != summarizer(
        {"text": SENTENCES[0], "images": [image]}
    )
    expected = summarizer({"text": SENTENCES[0], "images": [image]})
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for source in (
                tmp_path / "a.png",
                str(tmp_path / "a.png"),
                f"http://127.0.0.1:{server.server_port}/a.png",
            ):
                assert summarizer({"text": SENTENCES[0], "images": [source]}) == expected
            with pytest.raises(ValueError, match="image 0 .*nothing.png.* cannot be read"):
                summarizer({"text": "a", "images": [f"http://127.0.0.1:{server.server_port}/nothing.png"]})
        finally:
            server.shutdown()
            thread.join()
    assert summarizer({"text": SENTENCES[0], "images": [Image.new("RGB", (9, 9))]}) != expected


def special_images(folder):
    """A file of each kind whose pixels are easily misread, by name."""
    noise = picture(21, (40, 30))
    hidden = noise.convert("RGBA")
    hidden.putalpha(picture(22, (40, 30), "L").point(lambda value: 255 * (value > 128)))
    grey = Image.fromarray(np.arange(0, 1200 * 50, 50, dtype=np.uint16).reshape(30, 40))
    few = noise.quantize(8)
    few.info["transparency"] = bytes([0, 255, 0, 255, 90, 255, 0, 255])
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {
        "ordinary.jpg": (noise, {}),
        "ordinary.png": (noise, {}),
        "transparent.png": (hidden, {}),
        "grey_alpha.png": (hidden.convert("LA"), {}),
        "sixteen_bit.png": (grey, {}),
        "palette.png": (few, {}),
        "cmyk.jpg": (noise.convert("CMYK"), {}),
        "turned.jpg": (noise, {"exif": exif}),
        "large.jpg": (picture(23, (300, 200)).resize((1500, 1000)), {}),
    }
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return [folder / name for name in made]


def test_the_pipeline_and_the_command_lines_summarizer_agree(loaded, tmp_path):
    """On the pixels that a file is read as, and so on everything."""
    model, processor = loaded
    summarizer = MultimodalSummarizationPipeline(model, processor, max_new_tokens=NEW_TOKENS)
    documents = Summarizer(LoadedModel(model, processor, trained=True), max_new_tokens=NEW_TOKENS)
    probabilities = {}
    for path in special_images(tmp_path):
        other = tmp_path / "ordinary.png"
        images = [DocumentImage(file.name, "", open_local_image(file)) for file in (path, other)]
        expected = documents.summarize(Document("a", "a.md", "Harbour", SENTENCES[0], images))
        content = path.read_bytes()
        uri = f"data:image/{path.suffix[1:]};base64,{base64.b64encode(content).decode()}"
        with Image.open(path) as opened:
            for source in (path, str(path), opened, uri, base64.b64encode(content).decode()):
                article = {"text": SENTENCES[0], "title": "Harbour", "images": [source, other]}
                result = summarizer(article, return_evidence=True)
                assert result["summary_text"] == expected.summary
                assert result["image_probabilities"] == expected.probabilities
                assert [image["index"] for image in result["selected_images"]] == expected.selected
                assert [tuple(entry.values()) for entry in result["evidence"]] == [
                    (entry.sentence, entry.image_weights) for entry in expected.evidence
                ]
        probabilities[path.name] = expected.probabilities[0]
    # What a file is not read as: its hidden colours, and white.
    for name, wrong in (("transparent.png", other), ("sixteen_bit.png", Image.new("RGB", (40, 30), "white"))):
        result = summarizer({"text": SENTENCES[0], "title": "Harbour", "images": [wrong, other]})
        assert abs(result["image_probabilities"][0] - probabilities[name]) > 1e-3


def test_an_image_is_waited_for_as_long_as_asked(summarizer, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    released = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            released.wait(30)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            start = time.monotonic()
            with pytest.raises(ValueError, match="image 0 .*slow.png.* cannot be read: timed out"):
                summarizer({"text": "a", "images": [f"http://127.0.0.1:{server.server_port}/slow.png"]}, timeout=0.2)
            assert time.monotonic() - start < 10
        finally:
            released.set()
            server.shutdown()
            thread.join()


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
