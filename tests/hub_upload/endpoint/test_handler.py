"""The handler of Inference Endpoints: the pipeline's own answers, from content alone, and one sentence for the rest."""

import base64
import io
import json

import pytest
from PIL import Image

from hub_upload.endpoint import handler as handler_module
from hub_upload.endpoint.files import add_endpoint_files
from hub_upload.endpoint.handler import EndpointHandler
from modeling_spectra.pipeline_spectra import MultimodalSummarizationPipeline
from tests.tiny import SENTENCES, picture, tiny_model, tiny_processor

LIMITS = {"max_new_tokens": 6}


def encoded(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def own() -> MultimodalSummarizationPipeline:
    model = tiny_model("dvp")
    for module in model.visual_path.cross_attentions.values():
        module.gate.alpha.data.fill_(0.7)
    return MultimodalSummarizationPipeline(model, tiny_processor(model.config))


@pytest.fixture(scope="module")
def handler(own, tmp_path_factory) -> EndpointHandler:
    folder = tmp_path_factory.mktemp("model")
    own.save_pretrained(folder)
    return EndpointHandler(path=str(folder))


@pytest.fixture
def refusing() -> EndpointHandler:
    """What is refused reaches no model."""
    refusing = object.__new__(EndpointHandler)
    refusing.summarize = lambda *articles, **options: pytest.fail("it was to be refused")
    return refusing


def test_an_article_with_images_is_answered_as_by_the_pipeline(own, handler):
    images = [picture(seed=1), picture(seed=2)]
    article = {"title": "Ships", "text": SENTENCES[0]}
    expected = own({**article, "images": images}, **LIMITS, return_evidence=True)
    contents = [encoded(images[0]), "data:image/png;base64," + encoded(images[1])]
    request = {"inputs": {**article, "images": contents}, "parameters": {**LIMITS, "return_evidence": True}}
    answer = handler(json.loads(json.dumps(request)))
    assert answer == json.loads(json.dumps(expected))
    assert len(answer["image_probabilities"]) == 2 and answer["evidence"]
    assert own({**article, "images": images[::-1]}, **LIMITS)["image_probabilities"] != answer["image_probabilities"]


def test_a_text_alone_and_a_list(own, handler):
    assert handler({"inputs": SENTENCES[0], "parameters": LIMITS}) == own({"text": SENTENCES[0]}, **LIMITS)
    articles = [{"text": SENTENCES[1], "images": [encoded(picture(seed=3))]}, SENTENCES[2], {"text": SENTENCES[3]}]
    answers = handler({"inputs": articles, "parameters": LIMITS})
    alone = [handler({"inputs": article, "parameters": LIMITS}) for article in articles]
    assert [answer["summary_text"] for answer in answers] == [answer["summary_text"] for answer in alone]
    assert answers[0]["image_probabilities"] == pytest.approx(alone[0]["image_probabilities"], abs=1e-6)
    assert handler({"inputs": []}) == []


IMAGE = encoded(Image.new("RGB", (4, 4)))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, 'a request has "inputs" and, if it has any, "parameters".'),
        ({"inputs": "x", "options": {}}, "\"parameters\", not 'options'."),
        ({"inputs": 3}, 'the article must be a text, or an object with "text".'),
        ({"inputs": {"text": " "}}, 'the article has a "text"'),
        ({"inputs": ["x", {"body": "x"}]}, "article 1 has a \"text\", and .* if it has them, not 'body'."),
        ({"inputs": ["x"] * 17}, '"inputs": 17 articles are too many; 16 go at a time.'),
        ({"inputs": "x" * 200_001}, "the article has more than 200,000 characters"),
        ({"inputs": {"text": "x", "title": 3}}, '"title" must be a string'),
        ({"inputs": {"text": "x", "images": IMAGE}}, '"images" must be a list of at most 20'),
        ({"inputs": {"text": "x", "images": [IMAGE] * 21}}, '"images" must be a list of at most 20'),
        ({"inputs": {"text": "x", "images": [3]}}, "image 0 must be a string: the file's content in base64"),
        (
            {"inputs": {"text": "x", "images": [IMAGE, "/etc/passwd.png"]}},
            "image 1 .* addresses and paths are not read",
        ),
        ({"inputs": {"text": "x", "images": ["https://example.org/a.png"]}}, "addresses and paths are not read"),
        ({"inputs": {"text": "x", "images": ["A" * 13_333_340]}}, "image 0 has more than 10 MB"),
        ({"inputs": "x", "parameters": [1]}, '"parameters" must be an object'),
        ({"inputs": "x", "parameters": {"do_sample": True}}, "do_sample is unknown; there are max_new_tokens"),
        ({"inputs": "x", "parameters": {"max_new_tokens": 1025}}, "max_new_tokens must be at most 1024, not 1025"),
        ({"inputs": "x", "parameters": {"num_beams": 9}}, "num_beams must be at most 8, not 9"),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_sentence(refusing, request_, message):
    with pytest.raises(ValueError, match=message) as raised:
        refusing(request_)
    assert len(str(raised.value).splitlines()) == 1


def test_a_path_that_is_base64_is_content_all_the_same(handler, tmp_path, monkeypatch):
    """Eight letters are both a file's name and base64."""
    monkeypatch.chdir(tmp_path)
    picture(seed=1).save(tmp_path / "abcdefgh", "PNG")
    with pytest.raises(ValueError, match="image 0 .* cannot be read: it is no image in base64"):
        handler({"inputs": {"text": SENTENCES[0], "images": ["abcdefgh"]}, "parameters": LIMITS})


def test_a_small_file_that_is_a_huge_image_is_refused(handler):
    huge = encoded(Image.new("1", (20_000, 20_000)))
    assert len(huge) < 100_000
    with pytest.raises(ValueError, match="image 0 .* cannot be read: .*pixels"):
        handler({"inputs": {"text": SENTENCES[0], "images": [huge]}, "parameters": LIMITS})


def test_the_requirements_are_the_project_s_own_ranges(tmp_path):
    (tmp_path / "model.py").write_text("import numpy\nfrom PIL import Image\nfrom .other import x\n")
    add_endpoint_files(tmp_path)
    assert (tmp_path / "handler.py").read_bytes() == open(handler_module.__file__, "rb").read()
    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    assert [line.partition("<")[0].partition(">")[0] for line in lines] == ["numpy", "pillow", "torch", "transformers"]
    assert "transformers<6,>=5.23" in lines
