"""The app's server, driven by a real browser and by hand-made requests."""

import json
import threading
import time
from pathlib import Path

import gradio_client
import httpx
import pytest

from modeling_spectra import MultimodalSummarizationPipeline
from spectra_sum.app.interface import build_interface, launch
from spectra_sum.uploads.article_input import Limits
from tests.chromium import EXECUTABLE, Chromium
from tests.tiny import SENTENCES, picture, tiny_model, tiny_processor

LIMITS = Limits(image_size=100_000, document_size=100_000)
OPTIONS = {"max_new_tokens": 12}
# Length, beams and captions of a request by hand.
SETTINGS = ("default", 1, "none")
TITLE = "<img src=x onerror=pwned=1>${pwned=1}{{pwned}}"


@pytest.fixture(scope="module")
def pipeline():
    return MultimodalSummarizationPipeline(
        tiny_model(gate=0.7, max_selected_images=1), processor=tiny_processor(), device="cpu"
    )


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    for number in (1, 2):
        place = folder / f"{number}"
        place.mkdir()
        picture(number, (32, 24)).save(place / "picture.png")
        (place / "article.md").write_text(f"# Example {number}\n\nText {number}.\n\n![](picture.png)\n")
    return folder


@pytest.fixture(scope="module")
def server(pipeline, examples, tmp_path_factory):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        interface = build_interface(pipeline, model="a_model_", examples=examples, limits=LIMITS, **OPTIONS)
        url = launch(interface, limits=LIMITS, host="127.0.0.1")
        yield url.rstrip("/")
        interface.close(verbose=False)


@pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed")
def test_a_visit(server, pipeline, tmp_path):
    images = []
    for seed in (1, 2):
        images.append(tmp_path / f"photo{seed}.png")
        picture(seed, (32, 24)).save(images[-1])
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].read_bytes()[:100])
    expected = pipeline(
        {"text": SENTENCES[0], "title": TITLE, "images": [picture(1, (32, 24)), picture(2, (32, 24))]},
        return_evidence=True,
        **OPTIONS,
    )
    assert expected["summary_text"] and len(expected["selected_images"]) == 1 and expected["evidence"]

    browser = Chromium(tmp_path / "profile", tmp_path / "downloads", server)
    try:
        browser.viewport(1280, 900)
        browser.visit(server, "document.querySelector('#summarize')")
        assert (
            browser.value("document.querySelector('.spectra-welcome').textContent").count("20 images of 0.1 MB") == 1
        )

        # Nothing given: a message.
        browser.click("#summarize")
        browser.wait("document.querySelector('[role=alert]')")
        assert browser.value("document.querySelector('[role=alert]').textContent") == (
            "Nothing was summarized. There is no text; paste an article or upload a document."
        )

        for field, text in (("#title", TITLE), ("#text", SENTENCES[0])):
            browser.click(f"{field} textarea, {field} input")
            browser.type(text)
        browser.upload("#images input[type=file]", *images, broken)
        browser.wait("document.querySelector('#images').textContent.includes('broken')")
        browser.click("#summarize")
        browser.wait("document.querySelector('.spectra-summary')")

        assert browser.value("document.querySelector('.spectra-text').textContent") == expected["summary_text"]
        assert browser.value("document.querySelector('.spectra-title').textContent") == TITLE
        assert browser.value("typeof pwned") == "undefined"
        remarks = browser.value(
            "[...document.querySelectorAll('.spectra-remarks li')].map((item) => item.textContent)"
        )
        assert remarks[0].startswith("broken image: broken.png: ")
        # The pipeline's own warning.
        assert remarks[1:] == ["the article: the summary was stopped at max_new_tokens (12)."]

        probabilities = expected["image_probabilities"]
        chosen = expected["selected_images"][0]["index"]
        cards = browser.value(
            "[...document.querySelectorAll('.spectra-image')].map((card) => ["
            "card.querySelector('.spectra-name').textContent, card.querySelector('.spectra-percent').textContent.trim(),"
            "card.querySelector('.spectra-mark')?.textContent ?? null])"
        )
        assert cards == [
            [f"Image {index + 1} photo{index + 1}.png", f"{100 * probabilities[index]:.1f} %", mark]
            for index, mark in ((chosen, "✓ Selected #1"), (1 - chosen, None))
        ]
        assert browser.value("[...document.querySelectorAll('.spectra img')].every((image) => image.naturalWidth > 0)")
        sentences = browser.value(
            "[...document.querySelectorAll('.spectra-evidence > li > p')].map((item) => item.textContent)"
        )
        assert sentences == [entry["sentence"] for entry in expected["evidence"]]

        for width in (1280, 390):
            browser.viewport(width, 850)
            assert browser.value("document.documentElement.scrollWidth") <= width
        # On a phone, the document's label is one line above the field's icon, and all files are in view.
        assert (
            browser.value(
                "document.querySelector('#document [data-testid=block-label]').getBoundingClientRect().height"
            )
            <= 30
        )
        holder = "document.querySelector('#images .file-preview-holder')"
        assert browser.value(f"{holder}.scrollHeight") == browser.value(f"{holder}.clientHeight") > 160
        # Two columns, and one on a phone.
        left, right = "document.querySelector('#summarize')", "document.querySelector('#output')"
        below = f"{right}.getBoundingClientRect().top > {left}.getBoundingClientRect().bottom"
        assert browser.value(below)
        browser.viewport(1280, 850)
        assert not browser.value(below)

        # An example replaces all of it.
        browser.click("#examples button:nth-of-type(2)")
        browser.wait("document.querySelector('#text textarea').value === 'Text 2.'")
        browser.wait("document.querySelector('#images').textContent.includes('picture')")
        assert not browser.value("document.querySelector('#images').textContent.includes('broken')")
        assert not browser.value("document.querySelector('.spectra-summary')")
        # No request went elsewhere, and no script failed.
        assert browser.failures == []
    finally:
        browser.close()


def test_a_large_upload_is_refused_while_it_comes(server):
    files = {"files": ("large.png", b"0" * (LIMITS.image_size + 1))}
    assert httpx.post(f"{server}/gradio_api/upload", files=files).status_code == 413
    files = {"files": ("small.png", b"0" * LIMITS.image_size)}
    assert httpx.post(f"{server}/gradio_api/upload", files=files).status_code == 200


def test_a_request_with_more_files_than_an_article_can_have_is_refused(server):
    # 20 images and a document, with the form around them.
    allowed = [("files", (f"{number}.png", b"0" * LIMITS.image_size)) for number in range(21)]
    answer = httpx.post(f"{server}/gradio_api/upload", files=allowed)
    assert answer.status_code == 200 and len(answer.json()) == 21
    assert httpx.post(f"{server}/gradio_api/upload", files=allowed * 2).status_code == 413
    body = {"data": ["", "x" * 3_200_000, None, None, *SETTINGS]}
    assert httpx.post(f"{server}/gradio_api/call/summarize", json=body).status_code == 413


def call(server: str, images: list, document: dict | None = None) -> tuple[str, object]:
    """The event and its data that a request made by hand gets in the end."""
    data = ["Title", "" if document else "Text.", document, images, *SETTINGS]
    event = httpx.post(f"{server}/gradio_api/call/summarize", json={"data": data}).json()["event_id"]
    # The last event, after those of the text on its way.
    answer = httpx.get(f"{server}/gradio_api/call/summarize/{event}", timeout=60).text.strip().split("\n\n")[-1]
    answer = answer.splitlines()
    return answer[0].removeprefix("event: "), json.loads(answer[1].removeprefix("data: "))


def test_files_that_were_not_uploaded_are_refused(server, tmp_path):
    picture(1).save(tmp_path / "local.png")
    meta = {"meta": {"_type": "gradio.FileData"}}
    for round_ in range(2):
        event, data = call(server, [{"path": "http://192.0.2.1/picture.png", **meta}])
        assert (event, data["error"]) == ("error", "Addresses are not fetched; upload the file."), round_
    event, data = call(server, [], {"path": "https://192.0.2.1/article.html", **meta})
    assert (event, data["error"]) == ("error", "Addresses are not fetched; upload the file.")
    for file in (
        {"path": str(tmp_path / "local.png"), **meta},
        {"path": str(tmp_path / "local.png")},
        {"path": str(tmp_path / "local.png"), "is_stream": True, **meta},
    ):
        assert call(server, [file])[0] == "error"
    assert call(server, [])[0] == "complete"


def test_too_many_images_and_a_wrong_type(server, tmp_path):
    picture(1).save(tmp_path / "a.png")
    client = gradio_client.Client(server, verbose=False, analytics_enabled=False)
    try:
        image = gradio_client.handle_file(tmp_path / "a.png")
        answer = client.predict("", "Text.", None, [image] * 21, api_name="/summarize")
        assert "There are 21 images; leave at most 20." in answer
        (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4")
        with pytest.raises(gradio_client.exceptions.AppError, match="Invalid file type"):
            client.predict("", "", gradio_client.handle_file(tmp_path / "a.pdf"), None, api_name="/summarize")
        # A name alone is believed by nobody.
        Path(tmp_path / "fake.png").write_bytes(b"%PDF-1.4")
        fake = gradio_client.handle_file(tmp_path / "fake.png")
        assert "broken image: fake.png" in client.predict("", "Text.", None, [fake], api_name="/summarize")
    finally:
        client.close()


def test_one_summary_at_a_time_and_a_queue_that_ends(monkeypatch, examples, pipeline):
    monkeypatch.setattr("spectra_sum.app.interface.QUEUE_SIZE", 2)
    running, most, done, go_on = [], [], [], threading.Event()

    def slow(article, **options):
        running.append(article["text"])
        most.append(len(running))
        go_on.wait(30)
        done.append(running.pop())
        return {"summary_text": "S.", "selected_images": [], "image_probabilities": [], "evidence": []}

    slow.model, slow.processor = pipeline.model, pipeline.processor
    interface = build_interface(slow, model="m", examples=examples)
    try:
        place = launch(interface, host="127.0.0.1").rstrip("/") + "/gradio_api/call/summarize"
        first = httpx.post(place, json={"data": ["", "0", None, None, *SETTINGS]})
        while not running:
            time.sleep(0.05)
        others = [httpx.post(place, json={"data": ["", f"{number}", None, None, *SETTINGS]}) for number in (1, 2, 3)]
        assert [answer.status_code for answer in (first, *others)] == [200, 200, 200, 503]
        assert "full" in others[2].text
        # Those who wait do not keep others from an example.
        assert [fn.queue for fn in interface.fns.values()] == [True, True, False, False]
        go_on.set()
        for answer in (first, *others[:2]):
            assert "event: complete" in httpx.get(f"{place}/{answer.json()['event_id']}", timeout=30).text
    finally:
        go_on.set()
        interface.close(verbose=False)
    assert (most, done) == ([1, 1, 1], ["0", "1", "2"])


def test_the_page_needs_nothing_from_elsewhere(server):
    assert not httpx.get(f"{server}/config").json()["analytics_enabled"]
    page = httpx.get(server).text
    assert "a_model_" in page
    for place in ("fonts.googleapis", "cdnjs", "cdn."):
        assert place not in page
