"""Summaries that are followed: each row of a batch by itself, without any effect on it or on its neighbours."""

from functools import wraps

import pytest

from modeling_spectra.summarization import prepare_articles
from spectra_sum.documents.parts import DocumentError
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from spectra_sum.summaries.watching.watcher import Watcher, WritingStopped
from tests.forced_texts import force_texts
from tests.hashing_encoder import HashingEncoder
from tests.spectra_sum.summaries.setup import BODY, SENTENCES, document, force_summary, loaded_model

SHIPS, ELEPHANTS = "Engineers counted twelve damaged ships.", "Purple elephants danced on Jupiter."
TEXTS = [f"{SHIPS} Two bridges were closed.", "Ducks.", f"The harbour\n\nreopened, süß. {SENTENCES[3]} Then  the"]


class Recorder(Watcher):
    """`stop_at`: the number of the question that it answers with True."""

    def __init__(self, stop_at=None):
        self.pieces, self.stands, self.asked, self.stop_at = [], [], 0, stop_at

    def text(self, piece):
        self.pieces.append(piece)

    def standing(self, piece):
        self.stands.append(piece)

    def stopped(self):
        self.asked += 1
        return self.asked == self.stop_at


class Mute(Recorder):
    follows_text = False


@pytest.fixture(scope="module")
def loaded():
    return loaded_model(trained=False, kind="causal")


def summarizer_of(loaded, **options):
    return Summarizer(loaded, SummaryOptions(max_new_tokens=80, **options), HashingEncoder())


def documents(count=3):
    return [document(" ".join(SENTENCES[: 1 + index]), name=f"doc{index}") for index in range(count)]


def test_each_row_is_told_as_it_is_told_alone(loaded, monkeypatch):
    tokenizer = loaded.processor.tokenizer
    summarizer = summarizer_of(loaded)
    force_texts(monkeypatch, tokenizer, TEXTS)
    watchers = [Recorder(), Recorder(), Recorder()]
    together = summarizer.summarize_batch(documents(), watchers)
    assert together == summarizer.summarize_batch(documents())
    for index, (text, watcher, summary) in enumerate(zip(TEXTS, watchers, together, strict=True)):
        assert "".join(watcher.pieces) == text == "".join(watcher.stands) == summary.summary
        # Whole words, one after another.
        assert all(piece[-1] in " \n" for piece in watcher.pieces[:-1]) and len(watcher.pieces) >= len(text.split())
        # After each token until the end token, which makes no question.
        assert watcher.asked == 1 + len(tokenizer(text)["input_ids"])
        force_texts(monkeypatch, tokenizer, [text])
        alone = Recorder()
        assert summarizer.summarize(documents()[index], alone) == summary
        assert (alone.pieces, alone.stands) == (watcher.pieces, watcher.stands)
    assert watchers[0].stands == [SHIPS, " Two bridges were closed."]


def test_a_random_model_writes_what_it_writes_unwatched(float64):
    """Tokens of any kind, halves of characters among them; a neighbour without watcher."""
    summarizer = Summarizer(loaded_model(), SummaryOptions(max_new_tokens=12))
    given = documents()
    watchers = [Recorder(), None, Recorder()]
    watched, plain = summarizer.summarize_batch(given, watchers), summarizer.summarize_batch(given)
    assert watched == plain
    for watcher, summary in zip(watchers, watched, strict=True):
        if watcher:
            assert "".join(watcher.stands) == summary.summary
            assert "".join(watcher.pieces).strip().startswith(summary.summary)
            assert watcher.pieces


def test_a_row_that_stops_leaves_the_others_alone(loaded, monkeypatch):
    summarizer = summarizer_of(loaded)
    force_texts(monkeypatch, loaded.processor.tokenizer, TEXTS)
    expected = summarizer.summarize_batch(documents())
    watchers = [Recorder(stop_at=5), Recorder(), Mute()]
    stopped, *others = summarizer.summarize_batch(documents(), watchers)
    assert isinstance(stopped, WritingStopped) and isinstance(stopped, DocumentError)
    assert str(stopped) == "doc0.md: its writing was stopped."
    assert others == expected[1:]
    assert watchers[0].asked == 5 and TEXTS[0].startswith("".join(watchers[0].pieces)) and not watchers[0].stands
    assert watchers[2].asked and not watchers[2].pieces and not watchers[2].stands
    force_texts(monkeypatch, loaded.processor.tokenizer, TEXTS[:1])
    with pytest.raises(WritingStopped):
        summarizer.summarize(documents()[0], Mute(stop_at=1))


def test_writing_ends_when_all_rows_have_stopped(loaded, monkeypatch):
    steps = []
    forward = loaded.model.forward

    @wraps(forward)
    def counted(*args, **kwargs):
        steps.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(loaded.model, "forward", counted)
    force_texts(monkeypatch, loaded.processor.tokenizer, [TEXTS[0]] * 2)
    results = summarizer_of(loaded).summarize_batch(documents(2), [Recorder(3), Recorder(5)])
    assert all(isinstance(result, WritingStopped) for result in results) and len(steps) == 4


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        (f"{SHIPS}\n\nTwo bridges were closed. {SENTENCES[4]}", [SHIPS, "\n\nTwo bridges were closed.", "..."]),
        (f"{SHIPS}  {ELEPHANTS} Two bridges were closed. Children fed the ducks.", [SHIPS, "..."]),
        (f"{ELEPHANTS} {SHIPS} Two bridges were closed.", ["..."]),
    ],
)
def test_what_is_released_is_the_beginning_of_the_grounded_summary(loaded, monkeypatch, text, stands):
    summarizer = summarizer_of(loaded._replace(support_threshold=0.5))
    force_texts(monkeypatch, loaded.processor.tokenizer, [text])
    watcher = Recorder()
    summary = summarizer.summarize(document(), watcher)
    assert summary == summarizer.summarize(document())
    assert "".join(watcher.pieces) == text
    assert watcher.stands[:-1] == stands[:-1] and "".join(watcher.stands) == summary.summary
    assert (ELEPHANTS in text) == any(sentence.origin == "extracted" for sentence in summary.sentences)


def test_leading_written_sentences_keep_their_own_spacing(loaded, monkeypatch):
    force_summary(monkeypatch, loaded, f"{SHIPS}\n\nTwo bridges were closed.  {ELEPHANTS}\n\nChildren fed the ducks.")
    summary = summarizer_of(loaded._replace(support_threshold=0.5)).summarize(document())
    texts = [sentence.text for sentence in summary.sentences]
    assert [sentence.origin for sentence in summary.sentences] == ["written", "written", "extracted", "written"]
    assert summary.summary == f"{SHIPS}\n\nTwo bridges were closed. {texts[2]} Children fed the ducks."


def test_a_sentence_that_is_left_out_is_not_in_the_text(loaded, monkeypatch):
    force_texts(monkeypatch, loaded.processor.tokenizer, [f"{SHIPS} {ELEPHANTS} Twelve damaged ships."])
    watcher = Recorder()
    checked = summarizer_of(loaded._replace(support_threshold=0.5))
    summary = checked.summarize(document(SENTENCES[1]), watcher)
    assert summary.summary == f"{SHIPS} Twelve damaged ships." == "".join(watcher.stands)
    assert "left_out" in [problem.kind for problem in summary.problems]


def test_a_degenerate_text_gives_way_and_nothing_more_is_told(loaded, monkeypatch):
    text = f"{SHIPS} Two bridges were closed. " + "picture " * 40 + "picture."
    force_texts(monkeypatch, loaded.processor.tokenizer, [text])
    options = SummaryOptions(max_new_tokens=400)
    watcher = Recorder()
    checked = loaded._replace(support_threshold=0.5)
    summary = Summarizer(checked, options, HashingEncoder()).summarize(document(), watcher)
    assert {sentence.origin for sentence in summary.sentences} == {"extracted"}
    assert watcher.stands == [SHIPS] and not summary.summary.startswith(SHIPS)
    # Where nothing stands in, it is the summary after all.
    watcher = Recorder()
    summary = Summarizer(loaded, options, HashingEncoder()).summarize(document(), watcher)
    assert "".join(watcher.stands) == summary.summary == text


def test_a_sentence_that_the_limit_cuts_off_is_never_released(loaded, monkeypatch):
    text = f"{SHIPS} Two bridges were closed until the evening of Monday."
    force_texts(monkeypatch, loaded.processor.tokenizer, [text])
    count = len(loaded.processor.tokenizer(f"{SHIPS} Two bridges")["input_ids"])
    watcher = Recorder()
    summary = Summarizer(loaded, SummaryOptions(max_new_tokens=count), HashingEncoder()).summarize(document(), watcher)
    assert watcher.stands == [SHIPS] and summary.summary == SHIPS
    assert "".join(watcher.pieces) == f"{SHIPS} Two bridges"


def test_beams_and_extracts_come_in_one_piece(loaded, monkeypatch):
    beams = summarizer_of(loaded, num_beams=3)
    force_texts(monkeypatch, loaded.processor.tokenizer, TEXTS[:2])
    watchers = [Recorder(), Recorder(stop_at=2)]
    summary, stopped = beams.summarize_batch(documents(2), watchers)
    assert (watchers[0].pieces, watchers[0].stands) == ([], [TEXTS[0]]) and summary.summary == TEXTS[0]
    assert watchers[0].asked > 2
    assert isinstance(stopped, WritingStopped) and watchers[1].asked == 2 and watchers[1].stands == []

    watchers = [Recorder(), Mute()]
    extracts = Summarizer(None, SummaryOptions(mode="extractive", length="short"), HashingEncoder())
    summaries = extracts.summarize_batch([document(), document()], watchers)
    assert (watchers[0].pieces, watchers[0].stands) == ([], [summaries[0].summary]) and BODY.startswith(SENTENCES[0])
    assert watchers[1].stands == [] and [summary.tokens for summary in summaries] == [None, None]


@pytest.mark.parametrize("mode", ["write", "extractive"])
def test_a_document_that_is_stopped_is_not_read(loaded, mode):
    read = []

    class Encoder(HashingEncoder):
        def embed(self, texts):
            read.extend(texts)
            return super().embed(texts)

    options = SummaryOptions(mode=mode, max_new_tokens=8 if mode == "write" else None, length="short")
    summarizer = Summarizer(loaded if mode == "write" else None, options, Encoder())
    long = [document(" ".join(f"{name} {one}" for one in SENTENCES * 40)) for name in ("First", "Second")]
    watchers = [Recorder(stop_at=1), Recorder()]
    stopped, summary = summarizer.summarize_batch(long, watchers)
    assert isinstance(stopped, WritingStopped) and summary.summary
    assert any(text.startswith("Second") for text in read) and not any(text.startswith("First") for text in read)


def test_sampled_rows_are_followed_too():
    summarizer = Summarizer(loaded_model(), SummaryOptions(max_new_tokens=6, do_sample=True))
    watchers = [Recorder(), Recorder(stop_at=2), Recorder()]
    first, second, third = summarizer.summarize_batch(documents(), watchers)
    assert [first, third] == [summarizer.summarize(documents()[index]) for index in (0, 2)]
    assert isinstance(second, WritingStopped)
    assert "".join(watchers[0].stands) == first.summary and "".join(watchers[2].stands) == third.summary


def test_the_parts_of_a_long_document_are_not_told_but_can_be_stopped(loaded, monkeypatch):
    long = document("\n\n".join(f"Part {number}\n\n{BODY} {BODY}" for number in range(3)))
    options = SummaryOptions(max_new_tokens=20, long="sections")
    summarizer = Summarizer(loaded, options, HashingEncoder())
    force_texts(monkeypatch, loaded.processor.tokenizer, ["A part."])
    watcher = Recorder()
    summary = summarizer.summarize(long, watcher)
    assert any("summaries of its" in problem.detail for problem in summary.problems)
    assert "".join(watcher.stands) == summary.summary == "A part." == "".join(watcher.pieces)
    with pytest.raises(WritingStopped, match=r"^doc\.md: its writing was stopped\.$"):
        summarizer.summarize(long, Recorder(stop_at=2))


def test_tokens_are_counted(loaded, monkeypatch):
    summarizer = summarizer_of(loaded)
    processor = summarizer.processor
    force_texts(monkeypatch, processor.tokenizer, TEXTS[:2])
    given = documents(2)
    for one, text, summary in zip(given, TEXTS[:2], summarizer.summarize_batch(given), strict=True):
        inputs, _ = prepare_articles(loaded.model, processor, [one.body], [one.title], [[]], 80)
        assert summary.tokens.read == inputs["input_ids"].shape[1]
        assert summary.tokens.written == len(processor.tokenizer(text)["input_ids"]) + 1
    force_texts(monkeypatch, processor.tokenizer, TEXTS[:1])
    [cut] = Summarizer(loaded, SummaryOptions(max_new_tokens=3), HashingEncoder()).summarize_batch(given[:1])
    assert cut.tokens.written == 3


def test_as_many_watchers_as_documents(loaded):
    with pytest.raises(ValueError, match="2 documents and 1 `watchers`"):
        summarizer_of(loaded).summarize_batch(documents(2), [Recorder()])
