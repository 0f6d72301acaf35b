"""The app with a pipeline: its results, its text as it comes, and pipelines of earlier versions."""

import json
import threading

import pytest

from modeling_spectra import MultimodalSummarizationPipeline
from spectra_sum.app.pipeline_writer import PipelineWriter
from spectra_sum.app.responding import make_answer, make_show
from spectra_sum.app.settings import RequestSettings
from spectra_sum.app.writer import as_it_comes
from spectra_sum.documents.parts import Document, DocumentImage
from spectra_sum.sentences import split_sentences
from spectra_sum.uploads.article_input import Limits
from tests.forced_texts import force_texts
from tests.tiny import SENTENCES, picture, tiny_model, tiny_processor

TEXT = "The harbour reopened. Two bridges <i>were closed."


def pipeline_of(**fields):
    model = tiny_model(gate=0.7, max_selected_images=2)
    return MultimodalSummarizationPipeline(model, processor=tiny_processor(**fields), device="cpu")


@pytest.fixture(scope="module")
def pipeline():
    return pipeline_of()


@pytest.fixture
def article():
    images = [DocumentImage(f"{seed}.png", f"Alt {seed}", picture(seed), "A caption" * (seed == 1)) for seed in (1, 2)]
    return Document("d", "d", "Harbour", SENTENCES[0], images)


def given(article, **fields):
    return {"text": article.body, "title": article.title, "images": [each.image for each in article.images], **fields}


def test_the_text_comes_before_the_summary(pipeline, monkeypatch):
    force_texts(monkeypatch, pipeline.processor.tokenizer, [TEXT])
    writer = PipelineWriter(pipeline, max_new_tokens=60)
    first, *pages, last = make_show(writer, Limits())("", SENTENCES[0])
    assert "The model is reading" in first and pages
    assert "Two bridges &lt;i&gt;were closed." in pages[-1] and "spectra-writing" in pages[-1]
    assert "Two bridges &lt;i&gt;were closed." in last and "spectra-summary" in last and "<i>" not in last
    # With beams there is nothing on the way.
    first, last = make_show(writer, Limits())("", SENTENCES[0], num_beams=2)
    assert "spectra-summary" in last


def test_settings_are_the_pipelines(pipeline, article):
    writer = PipelineWriter(pipeline, max_new_tokens=5)
    assert (writer.choices.tokens, writer.choices.captions) == (5, ("none",))
    for settings, options in (
        (RequestSettings(), {"max_new_tokens": 5}),
        (RequestSettings("short", 1), {"max_new_tokens": 60}),
        (RequestSettings("default", 3), {"max_new_tokens": 5, "num_beams": 3}),
    ):
        expected = pipeline(given(article), return_evidence=True, **options)
        assert writer.write(article, settings).result == expected
        told = as_it_comes(lambda pieces, settings=settings: writer.write(article, settings, pieces), str)
        *_, text = [*told, expected["summary_text"]]
        assert text.strip() == expected["summary_text"]
    # Of 512 positions half are left to the article.
    assert set(writer.choices.lengths) == {"short", "medium", "long"}
    short = tiny_model(text_fields={"max_position_embeddings": 200})
    small = PipelineWriter(MultimodalSummarizationPipeline(short, processor=tiny_processor(), device="cpu"))
    assert set(small.choices.lengths) == {"short"}


def test_captions_are_read_where_the_model_reads_them(article):
    pipeline = pipeline_of(captions="prompt")
    writer = PipelineWriter(pipeline, max_new_tokens=8)
    assert writer.choices.captions == ("prompt", "none")
    seen = []
    preprocess = pipeline.preprocess
    pipeline.preprocess = lambda article, **options: seen.append(article["captions"]) or preprocess(article, **options)
    for captions, read in (("prompt", ["A caption", "Alt 2"]), ("none", [])):
        got = writer.write(article, RequestSettings(captions=captions)).result
        assert seen.pop() == read
        assert got == pipeline(given(article, captions=read), return_evidence=True, max_new_tokens=8)
        seen.clear()


class Earlier(MultimodalSummarizationPipeline):
    """A pipeline from before there were streamers."""

    __module__ = MultimodalSummarizationPipeline.__module__

    def _sanitize_parameters(self, max_new_tokens=None, num_beams=None, return_evidence=None):
        return super()._sanitize_parameters(
            max_new_tokens=max_new_tokens, num_beams=num_beams, return_evidence=return_evidence
        )


def test_a_pipeline_of_an_earlier_version_shows_its_summary_at_once(pipeline):
    earlier = Earlier(pipeline.model, processor=pipeline.processor, device="cpu")
    reading, last = make_show(PipelineWriter(earlier, max_new_tokens=6), Limits())("", SENTENCES[0])
    *_, expected = make_show(PipelineWriter(pipeline, max_new_tokens=6), Limits())("", SENTENCES[0])
    assert last == expected and "The model is reading" in reading


def test_a_visitor_who_goes_ends_the_writing(pipeline, monkeypatch):
    tokenizer = pipeline.processor.tokenizer
    force_texts(monkeypatch, tokenizer, ["ship " * 60])
    steps, before = [], threading.active_count()
    decode = tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda *args, **options: steps.append(1) or decode(*args, **options))
    pages = make_show(PipelineWriter(pipeline, max_new_tokens=200), Limits())("", SENTENCES[0])
    next(pages), next(pages)
    pages.close()
    assert 0 < len(steps) < 100 and threading.active_count() == before


def test_the_answer_in_json(pipeline, article, tmp_path):
    paths = []
    for image in article.images:
        paths.append(str(tmp_path / image.name))
        image.image.resize((32, 32)).save(paths[-1])
    answer = make_answer(PipelineWriter(pipeline, max_new_tokens=20), Limits())("Harbour", SENTENCES[0], None, paths)
    images = [picture(seed).resize((32, 32)) for seed in (1, 2)]
    expected = pipeline(
        {"text": SENTENCES[0], "title": "Harbour", "images": images}, max_new_tokens=20, return_evidence=True
    )
    assert json.loads(json.dumps(answer)) == answer and answer["summary"] == expected["summary_text"]
    assert [(each["index"], each["probability"]) for each in answer["selected_images"]] == [
        (each["index"], each["probability"]) for each in expected["selected_images"]
    ]
    assert [each["probability"] for each in answer["images"]] == expected["image_probabilities"]
    assert [each["score"] for each in answer["images"]] == expected["image_probabilities"]
    assert [each["text"] for each in answer["sentences"]] == split_sentences(expected["summary_text"])
    weights = [each["image_weights"] for each in answer["sentences"]]
    assert weights == [each["image_weights"] for each in expected["evidence"]] and weights
    for index in (each["index"] for each in expected["selected_images"]):
        strongest = max(range(len(weights)), key=lambda place: weights[place][index])
        assert [index in each["images"] for each in answer["sentences"]] == [
            place == strongest for place in range(len(weights))
        ]
    assert any("was stopped at max_new_tokens (20)" in remark for remark in answer["remarks"])
