"""The app with models that no pipeline has: the summarizer's results, its remarks, and what the page says of the model."""

import html
import json
import threading

import gradio as gr
import pytest

from spectra_sum import cli
from spectra_sum.app.responding import make_answer, make_show
from spectra_sum.app.settings import RequestSettings
from spectra_sum.app.summarizer_writer import SummarizerWriter
from spectra_sum.app.summary_view import render_model
from spectra_sum.app.writer import as_it_comes
from spectra_sum.documents.parts import Document, DocumentImage
from spectra_sum.models.loading import load_any
from spectra_sum.models.sources import ModelError
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from spectra_sum.uploads.article_input import Limits, read_article
from tests import tiny
from tests.forced_texts import force_texts
from tests.hashing_encoder import HashingEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_text_folder(tmp_path_factory.mktemp("text") / "text", chat=True)


@pytest.fixture
def summarizer(folder):
    return Summarizer(load_any(str(folder)), SummaryOptions(max_new_tokens=6), HashingEncoder())


def test_the_page_shows_what_the_summarizer_finds(summarizer, tmp_path):
    images = [
        DocumentImage("a.png", "", tiny.picture(1, (30, 30)), "Ships"),
        DocumentImage("b.png", "", tiny.picture(2, (30, 30))),
    ]
    document = Document("d", "d", "Ships", tiny.SENTENCES[0], images)
    writer = SummarizerWriter(summarizer)
    result, remarks = writer.write(document, writer.choices.defaults)
    expected = summarizer.summarize(document)
    assert result["summary_text"] == expected.summary and remarks == [str(problem) for problem in expected.problems]
    assert result["image_probabilities"] == [None, None] and result["image_scores"] == expected.scores
    assert [entry["index"] for entry in result["selected_images"]] == expected.selected == [0]
    assert any("neither caption nor alternative text" in remark for remark in remarks)

    tiny.picture(2, (30, 30)).save(tmp_path / "b.png")
    *_, page = make_show(writer, Limits())("Ships", tiny.SENTENCES[0], None, [str(tmp_path / "b.png")])
    assert "not ranked" in page and "not scored" not in page and "0 of 1 selected" in page
    [error] = make_show(writer, Limits())("", "", None, [])
    assert "There is no text" in error


TEXT = "The harbour <b>reopened</b>. Two bridges were closed."


def test_the_text_is_shown_as_it_comes_and_escaped(summarizer, monkeypatch):
    force_texts(monkeypatch, summarizer.processor.tokenizer, [TEXT])
    writer = SummarizerWriter(summarizer.with_options(max_new_tokens=60))
    shown = []
    told = as_it_comes(
        lambda pieces: writer.write(Document("d", "d", "Ships", "Body."), writer.choices.defaults, pieces),
        lambda text: shown.append(text) or text,
    )
    assert len(list(told)) > 0 and shown[-1] == TEXT and all(TEXT.startswith(text) for text in shown)

    first, *pages, last = make_show(writer, Limits())("Ships", "Body.")
    assert "The model is reading" in first and pages and all('aria-busy="true"' in page for page in (first, *pages))
    assert "&lt;b&gt;reopened" in pages[-1] and not any("<b>" in page for page in (*pages, last))
    assert "spectra-summary" in last and "spectra-writing" not in last and "&lt;b&gt;reopened" in last


def test_a_visitor_who_goes_ends_the_writing(summarizer, monkeypatch):
    """After the first piece, and long before the limit: the thread has ended when the generator is closed."""
    tokenizer = summarizer.processor.tokenizer
    force_texts(monkeypatch, tokenizer, ["ship " * 50])
    steps, before = [], threading.active_count()
    decode = tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda *args, **options: steps.append(1) or decode(*args, **options))
    pages = make_show(SummarizerWriter(summarizer.with_options(max_new_tokens=200)), Limits())("", "Body.")
    next(pages), next(pages)
    pages.close()
    assert 0 < len(steps) < 100 and threading.active_count() == before


def test_settings_reach_the_summarizer(folder, monkeypatch):
    """Against a summarizer that was made with them."""
    document = Document(
        "d", "d", "Ships", " ".join(tiny.SENTENCES), [DocumentImage("a.png", "A ship", tiny.picture(1))]
    )
    loaded = load_any(str(folder))
    writer = SummarizerWriter(Summarizer(loaded, SummaryOptions(max_new_tokens=6), HashingEncoder()))
    assert writer.choices.lengths == {"short": 60, "medium": 120, "long": 240}
    assert (writer.choices.tokens, writer.choices.captions) == (6, ("prompt", "none"))
    for settings, options in (
        (RequestSettings("default", 1, "prompt"), SummaryOptions(max_new_tokens=6)),
        (RequestSettings("short", 1, "prompt"), SummaryOptions(length="short")),
        (RequestSettings("default", 3, "prompt"), SummaryOptions(max_new_tokens=6, num_beams=3)),
        (RequestSettings("default", 1, "none"), SummaryOptions(max_new_tokens=6, captions="none")),
        (RequestSettings("short", 2, "none"), SummaryOptions(length="short", num_beams=2, captions="none")),
    ):
        expected = Summarizer(loaded, options, HashingEncoder())
        got = writer.write(document, settings)
        summary = expected.summarize(document)
        assert got.result["summary_text"] == summary.summary and got.remarks == list(map(str, summary.problems))
        used = writer._with(settings)
        names = ("max_new_tokens", "num_beams")
        assert [getattr(used.options, name) for name in names] == [getattr(expected.options, name) for name in names]
        assert used.processor.captions == expected.processor.captions and used.model is writer.summarizer.model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("endless", 1, "none"), "The length must be one of default, short, medium, long, not 'endless'."),
        (("short", 0, "none"), "The beams must be from 1 to 4, not 0."),
        (("short", 5, "none"), "The beams must be from 1 to 4, not 5."),
        (("short", 1, "all"), "The captions must be one of prompt, none, not 'all'."),
    ],
)
def test_settings_that_are_not_offered_are_refused(summarizer, settings, message):
    writer = SummarizerWriter(summarizer)
    [page] = make_show(writer, Limits())("", "Body.", None, None, *settings)
    assert html.unescape(page).count(message) == 1
    with pytest.raises(gr.Error) as error:
        make_answer(writer, Limits())("", "Body.", None, None, *settings)
    assert error.value.message == message


def test_the_answer_in_json(summarizer, tmp_path):
    paths = []
    for number in (1, 2):
        paths.append(str(tmp_path / f"{number}.png"))
        tiny.picture(number, (30, 30)).save(paths[-1])
    (tmp_path / "a.md").write_text("# Ships\n\nA harbour with ships.\n\n![Ships](1.png)\n\n![](none.png)\n")
    answer = make_answer(SummarizerWriter(summarizer), Limits())(document=str(tmp_path / "a.md"), images=paths)
    article = read_article("", "", str(tmp_path / "a.md"), paths)
    expected = summarizer.summarize(article)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["summary"] == expected.summary
    first = {"index": 0, "name": "1.png", "probability": None, "score": expected.scores[0]}
    assert answer["selected_images"] == [first] and expected.selected == [0]
    assert answer["images"] == [
        {**first, "alt": "Ships", "caption": "", "selected": True},
        {"index": 1, "name": "2.png", "probability": None, "score": None, "alt": "", "caption": "", "selected": False},
    ]
    assert answer["sentences"] == [
        {"text": each.text, "origin": "written", "images": each.images, "image_weights": None}
        for each in expected.sentences
    ]
    assert answer["remarks"] == [*map(str, article.problems), *map(str, expected.problems)]
    assert answer["remarks"][0].startswith("missing image: none.png")


def test_an_encoder_that_cannot_be_loaded_is_told_on_the_page(summarizer):
    def refuse(document, watcher):
        raise ModelError("all-MiniLM-L6-v2: its weights are not installed")

    summarizer.summarize = refuse
    *_, page = make_show(SummarizerWriter(summarizer), Limits())("", "A storm.", None, [])
    assert "Nothing was summarized." in page and "its weights are not installed" in page


def test_the_page_says_what_the_model_is(folder):
    notice = load_any(str(folder)).notice
    assert notice in render_model("m", notice) and "<b>" not in render_model("m", "<b>")
    assert render_model("m") == render_model("m", "")


def test_the_command_takes_any_model_and_says_what_it_is(folder, monkeypatch, capsys):
    pytest.importorskip("gradio", reason="needs the extra [app]")
    shown = []

    def launch(interface, **options):
        shown.append(str(interface.get_config_file()))
        raise OSError("enough")

    monkeypatch.setattr("spectra_sum.app.interface.launch", launch)
    assert cli.main(["app", "--model", str(folder), "--length", "short"]) == 2
    error = capsys.readouterr().err
    assert f"note: {folder} is a pretrained text model (qwen2)" in error and "the server cannot start: enough" in error
    assert "sees no images" in shown[0]
    assert cli.main(["app", "--model", str(folder), "--mode", "extractive"]) == 2
    assert "the app writes summaries; leave --mode out" in capsys.readouterr().err
    assert cli.main(["app", "--model", str(folder), "--select", "vrp"]) == 2
    assert "--select vrp needs a model whose relevance predictor was trained" in capsys.readouterr().err
