"""The running app: text that comes in a browser and by HTTP, a visitor who goes, and the endpoint for programs."""

import json
import threading
import time

import gradio_client
import httpx
import pytest

from modeling_spectra import MultimodalSummarizationPipeline
from spectra_sum.app.interface import build_interface, launch
from tests.chromium import EXECUTABLE, Chromium
from tests.tiny import SENTENCES, picture, tiny_model, tiny_processor

SETTINGS = ("default", 1, "none")
RESULT = {
    "summary_text": "The <b>harbour</b> reopened.",
    "selected_images": [],
    "image_probabilities": [],
    "evidence": [],
}


class Gated:
    """A pipeline that writes word by word, each when it is let."""

    def __init__(self):
        self.model, self.processor = tiny_model(), tiny_processor()
        self.words, self.options, self.running = threading.Semaphore(0), [], 0

    def __call__(self, article, streamer=None, **options):
        self.options.append(options)
        self.running += 1
        try:
            for word in ("The ", "<b>harbour</b> ", "reopened."):
                self.words.acquire(timeout=30)
                if streamer is not None:
                    streamer.on_finalized_text(word)
            return RESULT
        finally:
            self.running -= 1


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    pipeline = Gated()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        interface = build_interface(pipeline, model="a_model")
        url = launch(interface, host="127.0.0.1")
        yield pipeline, url.rstrip("/")
        pipeline.words.release(100)
        interface.close(verbose=False)


@pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed")
def test_the_page_shows_the_text_as_it_comes(gated, tmp_path):
    pipeline, server = gated
    browser = Chromium(tmp_path / "profile", tmp_path / "downloads", server)
    text = "document.querySelector('.spectra-writing .spectra-text')?.textContent"
    try:
        browser.viewport(1280, 900)
        browser.visit(server, "document.querySelector('#summarize')")
        browser.click("#text textarea")
        browser.type("An article.")
        # Settings are folded away until they are wanted.
        browser.click("#settings button")
        browser.wait("document.querySelector('#length')")
        assert browser.value("document.querySelector('#length').textContent").count("short (60)") == 1
        browser.click("#length label:nth-of-type(2) input")
        browser.click("#summarize")
        browser.wait("document.querySelector('.spectra-writing')?.textContent.includes('The model is reading')")
        for shown in ("The ", "The <b>harbour</b> "):
            pipeline.words.release()
            browser.wait(f"{text} === {json.dumps(shown)}")
            assert browser.value("document.querySelectorAll('.spectra-writing b, .spectra-summary').length") == 0
        pipeline.words.release()
        browser.wait("document.querySelector('.spectra-summary')")
        assert browser.value("document.querySelector('.spectra-text').textContent") == RESULT["summary_text"]
        assert not browser.value("document.querySelector('.spectra-writing')")
        assert pipeline.options.pop() == {"num_beams": 1, "max_new_tokens": 60, "return_evidence": True}
        assert browser.failures == []
    finally:
        browser.close()


def test_a_visitor_who_goes_makes_room_for_the_next(gated):
    pipeline, server = gated
    place = f"{server}/gradio_api/call/summarize"
    event = httpx.post(place, json={"data": ["", "Gone.", None, None, *SETTINGS]}).json()["event_id"]
    with httpx.stream("GET", f"{place}/{event}", timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "event: generating" and "The model is reading" in next(lines)
    assert pipeline.running == 1
    # The next word finds nobody; the one after it is never written.
    deadline = time.monotonic() + 30
    while pipeline.running and time.monotonic() < deadline:
        pipeline.words.release()
        time.sleep(0.5)
    assert pipeline.running == 0
    pipeline.words = threading.Semaphore(3)
    event = httpx.post(place, json={"data": ["", "Next.", None, None, *SETTINGS]}).json()["event_id"]
    events = httpx.get(f"{place}/{event}", timeout=30).text.strip().split("\n\n")
    assert events[-1].startswith("event: complete") and "&lt;b&gt;harbour" in events[-1]
    assert all(each.startswith("event: generating") for each in events[:-1]) and len(events) > 2


@pytest.fixture(scope="module")
def pipeline():
    return MultimodalSummarizationPipeline(
        tiny_model(gate=0.7, max_selected_images=1), processor=tiny_processor(), device="cpu"
    )


@pytest.fixture(scope="module")
def client(pipeline, tmp_path_factory):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        interface = build_interface(pipeline, model="a_model", max_new_tokens=12)
        client = gradio_client.Client(launch(interface, host="127.0.0.1"), verbose=False, analytics_enabled=False)
        yield client
        client.close()
        interface.close(verbose=False)


def test_programs_get_json(client, pipeline, tmp_path):
    files = []
    for seed in (1, 2):
        picture(seed, (32, 24)).save(tmp_path / f"{seed}.png")
        files.append(gradio_client.handle_file(tmp_path / f"{seed}.png"))
    article = {"text": SENTENCES[0], "title": "Harbour", "images": [picture(seed, (32, 24)) for seed in (1, 2)]}
    for settings, options in (
        ({}, {"max_new_tokens": 12}),
        ({"length": "short", "num_beams": 2}, {"max_new_tokens": 60, "num_beams": 2}),
    ):
        answer = client.predict(
            title="Harbour", text=SENTENCES[0], images=files, **settings, api_name="/summarize_json"
        )
        expected = pipeline(article, return_evidence=True, **options)
        assert answer["summary"] == expected["summary_text"] != ""
        [selected], [chosen] = answer["selected_images"], expected["selected_images"]
        assert (selected["index"], selected["name"]) == (chosen["index"], f"{chosen['index'] + 1}.png")
        assert selected["probability"] == pytest.approx(chosen["probability"], abs=1e-6) == selected["score"]
        assert [sentence["text"] for sentence in answer["sentences"]] == [
            entry["sentence"] for entry in expected["evidence"]
        ]
        assert [image["selected"] for image in answer["images"]].count(True) == 1
        assert any("was stopped at max_new_tokens" in remark for remark in answer["remarks"])


def test_what_is_wrong_is_an_error_with_a_message(client):
    for given, message in (
        ({"text": " "}, "There is no text; paste an article or upload a document."),
        ({"text": "Text.", "length": "endless"}, "not in the list of choices"),
        ({"text": "Text.", "num_beams": 9}, "greater than maximum"),
        ({"text": "Text.", "title": "t" * 301}, "The title has 301 characters; shorten it to 300."),
    ):
        with pytest.raises(gradio_client.exceptions.AppError, match=message):
            client.predict(**given, api_name="/summarize_json")


def test_the_endpoints_are_documented(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/summarize", "/summarize_json"}
    for endpoint in endpoints.values():
        assert [each["parameter_name"] for each in endpoint["parameters"]] == [
            *("title", "text", "document", "images", "length", "num_beams", "captions")
        ]
        assert all(each["parameter_has_default"] for each in endpoint["parameters"])
