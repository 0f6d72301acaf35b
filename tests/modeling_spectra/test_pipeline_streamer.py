"""A streamer that the pipeline passes on: the text in pieces, one article at a time."""

from threading import Thread

import pytest
from transformers import TextIteratorStreamer, TextStreamer

from modeling_spectra import MultimodalSummarizationPipeline
from tests.modeling_spectra.pipeline_setup import ARTICLES, NEW_TOKENS


class Pieces(TextStreamer):
    def __init__(self, tokenizer, **options):
        super().__init__(tokenizer, skip_special_tokens=True, **options)
        self.texts = [""]

    def on_finalized_text(self, text, stream_end=False):
        self.texts[-1] += text
        if stream_end:
            self.texts.append("")


@pytest.fixture
def summarizer(loaded):
    return MultimodalSummarizationPipeline(*loaded, max_new_tokens=NEW_TOKENS)


def test_the_pieces_are_the_summary(summarizer):
    article = ARTICLES[0]
    expected = summarizer(article)
    streamer = TextIteratorStreamer(
        summarizer.processor.tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=60
    )
    results = []
    thread = Thread(target=lambda: results.append(summarizer(article, streamer=streamer)))
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert results == [expected] and text.strip() == expected["summary_text"] != ""


def test_several_articles_come_one_after_another(summarizer):
    expected = summarizer(ARTICLES[:3])
    for given in (ARTICLES[:3], (article for article in ARTICLES[:3])):
        streamer = Pieces(summarizer.processor.tokenizer, skip_prompt=True)
        assert list(summarizer(given, streamer=streamer)) == expected
        assert [text.strip() for text in streamer.texts] == [each["summary_text"] for each in expected] + [""]


def test_a_streamer_may_be_the_pipelines_own_and_sees_the_prompt_unless_told_otherwise(loaded):
    streamer = Pieces(loaded[1].tokenizer)
    result = MultimodalSummarizationPipeline(*loaded, max_new_tokens=NEW_TOKENS, streamer=streamer)(ARTICLES[0])
    assert ARTICLES[0]["text"] in streamer.texts[0] and streamer.texts[0].endswith(result["summary_text"])


def test_what_cannot_be_streamed_is_refused_before_any_work(summarizer, monkeypatch):
    def work(*_, **__):
        raise AssertionError("an article was read")

    monkeypatch.setattr(summarizer, "preprocess", work)
    streamer = Pieces(summarizer.processor.tokenizer)
    with pytest.raises(ValueError, match=r"^a streamer follows one article at a time; leave batch_size \(2\) at 1"):
        summarizer(ARTICLES[:2], batch_size=2, streamer=streamer)
    with pytest.raises(ValueError, match=r"^a streamer follows no beams; leave num_beams \(3\) at 1"):
        summarizer(ARTICLES[0], num_beams=3, streamer=streamer)
    with pytest.raises(ValueError, match="^streamer must be a streamer of transformers, not function.$"):
        summarizer(ARTICLES[0], streamer=lambda text: text)
    assert streamer.texts == [""]


def test_defaults_of_the_pipeline_count(loaded):
    given = MultimodalSummarizationPipeline(*loaded, max_new_tokens=2, batch_size=2, num_beams=1)
    streamer = Pieces(loaded[1].tokenizer)
    with pytest.raises(ValueError, match="one article at a time"):
        given(ARTICLES[:2], streamer=streamer)
    # A single article is no batch.
    assert given(ARTICLES[0], streamer=streamer)["summary_text"] in streamer.texts[0]
    beams = MultimodalSummarizationPipeline(*loaded, max_new_tokens=2, num_beams=2)
    with pytest.raises(ValueError, match="follows no beams"):
        beams(ARTICLES[0], streamer=streamer)
