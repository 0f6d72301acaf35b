"""`spectra-sum evaluate` of pretrained models and of baselines by words: the summarizer's own summaries, kept and counted."""

import json

import pytest

from spectra_sum import cli
from spectra_sum.extraction.extract import extract
from spectra_sum.models.loading import load_any
from spectra_sum.records.record_documents import document_of
from spectra_sum.selection.after_summary import ImageRanker
from spectra_sum.sentences import split_sentences
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from tests import tiny
from tests.hashing_encoder import HashingEncoder
from tests.tiny_llava_onevision import save_llava_onevision_folder, save_siglip_folder

OPTIONS = {"max_new_tokens": 8, "repetition_penalty": 1.5, "captions": "prompt", "select": "relevance"}
ARGUMENTS = ("--max-new-tokens", 8, "--repetition-penalty", 1.5, "--select", "relevance", "--batch-size", 3)


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    """In the place of all-MiniLM-L6-v2, which is a package of its own."""
    encoder = HashingEncoder()
    encoder.revision = "hashing"
    for place in ("models.text_encoder", "evaluation.systems.sources"):
        monkeypatch.setattr(f"spectra_sum.{place}.load_text_encoder", lambda name: encoder)
    monkeypatch.setattr("spectra_sum.commands.evaluate.check_text_encoder", lambda name: None)
    return encoder


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory):
    return tiny.save_text_folder(tmp_path_factory.mktemp("text") / "text", chat=True)


def evaluate(*arguments: object) -> int:
    return cli.main(["evaluate", *map(str, arguments)])


def results(folder):
    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    return json.loads((folder / "metrics.json").read_text()), predictions


def test_a_text_model_summarizes_as_the_summarizer_does(
    text_folder, data_folder, records, encoder, tmp_path, monkeypatch
):
    arguments = ("--model", text_folder, "--data", data_folder, "--output", tmp_path / "o", *ARGUMENTS)
    assert evaluate(*arguments) == 0
    metrics, predictions = results(tmp_path / "o")
    summarizer = Summarizer(load_any(str(text_folder)), SummaryOptions(**OPTIONS), encoder)
    documents = [document_of(record).document for record in records]
    # One by one: what is written does not depend on the batch.
    expected = [summarizer.summarize(document) for document in documents]
    assert [prediction["summary"] for prediction in predictions] == [summary.summary for summary in expected]
    assert [prediction["selected"] for prediction in predictions] == [summary.selected for summary in expected]
    assert any(prediction["selected"] for prediction in predictions)
    assert metrics["selection"] == "after-summary" and metrics["variant"] is None and metrics["weights"] is None
    assert metrics["source"] == {"kind": "model", "name": str(text_folder), "text_only": False}
    assert metrics["notes"][0].startswith(f"{text_folder} is a pretrained text model (qwen2)")
    settings = metrics["settings"]
    assert {name: settings[name] for name in OPTIONS} == OPTIONS
    assert settings["no_repeat_ngram_size"] == 4 and settings["selection"] == {"method": "after-summary", "count": 3}
    cut = sum(any(problem.kind == "summary_cut" for problem in summary.problems) for summary in expected)
    assert metrics["dropped"].get("summaries_cut", 0) == cut
    words = [len(summary.summary.split()) for summary in expected]
    assert metrics["text_statistics"]["words"]["articles"] == len(words)
    assert {"repeats_itself", "novelty"} <= set(metrics["text_statistics"]) | set(metrics["not_computed"])
    assert json.loads((tmp_path / "o" / "run.json").read_text())["seconds_per_article"] > 0

    # A second run takes what is there; with other options nothing is mixed.
    monkeypatch.setattr(Summarizer, "summarize_batch", None)
    assert evaluate(*arguments) == 0
    assert results(tmp_path / "o") == (metrics, predictions)
    assert evaluate(*arguments, "--no-repeat-ngram-size", 2) == 2


def test_without_images_nothing_written_about_them_is_read(text_folder, data_folder, records, encoder, tmp_path):
    arguments = ("--model", text_folder, "--data", data_folder, "--limit", 2, "--text-only", "--selection", "random")
    assert evaluate(*arguments, "--output", tmp_path / "o", "--max-new-tokens", 8) == 0
    summarizer = Summarizer(load_any(str(text_folder)), SummaryOptions(max_new_tokens=8), encoder)
    expected = [summarizer.summarize(document_of(records[row], use_images=False).document).summary for row in range(2)]
    assert [prediction["summary"] for prediction in results(tmp_path / "o")[1]] == expected


def test_llava_onevision(data_folder, records, encoder, tmp_path):
    folder = save_llava_onevision_folder(tmp_path / "llava", save_siglip_folder(tmp_path / "siglip"))
    arguments = ("--model", folder, "--data", data_folder, "--limit", 2, "--output", tmp_path / "o", *ARGUMENTS)
    assert evaluate(*arguments) == 0
    metrics, predictions = results(tmp_path / "o")
    summarizer = Summarizer(load_any(str(folder)), SummaryOptions(**OPTIONS), encoder)
    expected = [summarizer.summarize(document_of(records[row]).document).summary for row in range(2)]
    assert [prediction["summary"] for prediction in predictions] == expected
    assert "not trained to summarize: it sees the first 5 images" in metrics["notes"][0]


def test_baselines_of_so_many_words(data_folder, records, encoder, tmp_path):
    def size(text):
        return len(text.split())

    for name in ("lead", "centroid", "lexrank"):
        arguments = ("--baseline", name, "--baseline-words", 20, "--data", data_folder, "--output", tmp_path / name)
        assert evaluate(*arguments, "--selection", "after-summary", "--select", "mmr") == 0
        metrics, predictions = results(tmp_path / name)
        assert metrics["system"] == f"{name}-20w + after-summary images" and metrics["settings"]["words"] == 20
        ranker = ImageRanker(encoder, None, "mmr", 3)
        for prediction, record in zip(predictions, records, strict=True):
            if name == "lead":
                expected = " ".join(record["article"].split()[:20])
            else:
                chosen = extract(record["article"], encoder, 20, size, method=name, headings=False)
                expected = " ".join(chosen.sentences)
            assert prediction["summary"] == expected and 0 < size(expected) <= 20
            images = document_of(record).document.images
            ranking = ranker.rank(
                split_sentences(expected),
                [image.image for image in images],
                [image.caption for image in images],
                [image.alt for image in images],
            )
            assert prediction["selected"] == ranking.selected
    assert metrics["settings"]["text_encoder_revision"] == "hashing"
    assert metrics["settings"]["after_summary"] == {
        "select": "mmr",
        "text_encoder": "all-MiniLM-L6-v2",
        "vision": None,
    }


def test_a_record_as_a_document():
    image = tiny.picture()
    record = {"id": "a", "title": "Ships", "article": "They sail.", "images": [image, b"", image]}
    record |= {"captions": [" At sea ", "broken", None]}
    document, read = document_of(record)
    assert [(each.name, each.caption, each.alt) for each in document.images] == [
        ("image 1", "At sea", ""),
        ("image 3", "", ""),
    ]
    assert [(each.index, each.article) for each in read.broken] == [(1, "a")]
    assert document_of(record, use_images=False).document.images == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--baseline", "lead", "--length", "short"),
            "--length does nothing for this system: it is for pretrained models",
        ),
        (
            ("--baseline", "oracle", "--baseline-words", 9),
            "--baseline-words does nothing for this system: it belongs to",
        ),
        (
            ("--baseline", "lead", "--select", "mmr"),
            "--select does nothing for this system: it says how --selection after",
        ),
        (
            ("--baseline", "lead", "--vision", "x"),
            "--vision does nothing for this system: it belongs to --selection after",
        ),
        (("--baseline", "lead", "--quantize", "language-model"), "--quantize puts a trained model in 4 bits"),
        (
            ("--model", "TEXT", "--mode", "extractive"),
            "--mode does nothing for this system: extracts are --baseline centroid",
        ),
        (("--model", "TEXT", "--max-length", 99), "--max-length does nothing for this system: it is for a trained"),
        (("--model", "TEXT", "--selection", "vrp"), "this model sees no images or has no trained predictor"),
        (("--model", "TEXT", "--text-only"), "--text-only withholds the images and their texts; choose --selection"),
        (
            ("--model", "TRAINED", "--captions", "prompt"),
            "--captions does nothing for this system: it is for pretrained",
        ),
        (("--model", "TEXT", "--temperature", 2), "--temperature is for sampling; add --do-sample"),
        (("--model", "TEXT", "--threshold", 0.5), "--threshold is a probability of a trained relevance predictor"),
    ],
)
def test_options_that_would_do_nothing(arguments, message, text_folder, model_folder, data_folder, tmp_path, capsys):
    places = {"TEXT": text_folder, "TRAINED": model_folder}
    arguments = [places.get(argument, argument) for argument in arguments]
    assert evaluate(*arguments, "--data", data_folder, "--output", tmp_path / "o") == 2
    line = capsys.readouterr().err.strip().split("\n")[-1]
    assert line.startswith("spectra-sum: error: ") and message in line


def test_text_model_is_deprecated(data_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("spectra_sum.commands.evaluate.check_any", lambda name: name)
    monkeypatch.setattr("spectra_sum.models.loading.find_kind", lambda name: (_ for _ in ()).throw(ValueError(name)))
    with pytest.raises(ValueError, match="^smollm2$"):
        evaluate("--text-model", "smollm2", "--data", data_folder, "--output", tmp_path / "o")
    assert "note: --text-model is deprecated; pass --model smollm2" in capsys.readouterr().err
