"""The app with models that no pipeline has: the summarizer's results, its remarks, and what the page says of the model."""

import pytest

from spectra_sum import cli
from spectra_sum.app.article_input import Limits
from spectra_sum.app.document_pipeline import DocumentPipeline
from spectra_sum.app.interface import make_respond
from spectra_sum.app.summary_view import render_model
from spectra_sum.documents.parts import Document, DocumentImage
from spectra_sum.models.loading import load_any
from spectra_sum.models.sources import ModelError
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from tests import tiny
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
    result, remarks = DocumentPipeline(summarizer).summarize_document(document)
    expected = summarizer.summarize(document)
    assert result["summary_text"] == expected.summary and remarks == [str(problem) for problem in expected.problems]
    assert result["image_probabilities"] == [None, None] and result["image_scores"] == expected.scores
    assert [entry["index"] for entry in result["selected_images"]] == expected.selected == [0]
    assert any("neither caption nor alternative text" in remark for remark in remarks)

    tiny.picture(2, (30, 30)).save(tmp_path / "b.png")
    page = make_respond(DocumentPipeline(summarizer), Limits())(
        "Ships", tiny.SENTENCES[0], None, [str(tmp_path / "b.png")]
    )
    assert "not ranked" in page and "not scored" not in page and "0 of 1 selected" in page
    error = make_respond(DocumentPipeline(summarizer), Limits())("", "", None, [])
    assert "There is no text" in error


def test_an_encoder_that_cannot_be_loaded_is_told_on_the_page(summarizer):
    def refuse(document):
        raise ModelError("all-MiniLM-L6-v2: its weights are not installed")

    pipeline = DocumentPipeline(summarizer)
    pipeline.summarize_document = refuse
    page = make_respond(pipeline, Limits())("", "A storm.", None, [])
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
