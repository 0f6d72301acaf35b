"""Batches: the summaries of documents one by one, in order; an error or an interruption costs no other document."""

from pathlib import Path

import pytest
import torch

from spectra_sum.documents.parts import DocumentError
from spectra_sum.summaries.batches import WINDOW, Entry, summarize_in_batches
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from tests.spectra_sum.summaries.setup import SENTENCES, document, loaded_model


def documents(count):
    """Of many lengths and numbers of images; those without images, too."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for index in range(count):
        order = torch.randperm(len(SENTENCES), generator=generator)[: 1 + index % len(SENTENCES)].tolist()
        images = [("An alt text", f"Caption {index} of a ship")] * (index % 4)
        made.append(document(" ".join(SENTENCES[place] for place in order), images, name=f"doc{index}"))
    return made


OPTIONS = {
    "greedy": SummaryOptions(max_new_tokens=6),
    "beams": SummaryOptions(max_new_tokens=6, num_beams=3, no_repeat_ngram_size=2),
    "penalty": SummaryOptions(max_new_tokens=6, repetition_penalty=1.4),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_batch_gives_what_one_by_one_gives(float64, options):
    summarizer = Summarizer(loaded_model(), options)
    given = documents(4)
    together = summarizer.summarize_batch(given)
    assert len({summary.summary for summary in together}) > 2
    for one, summary in zip(given, together, strict=True):
        alone = summarizer.summarize(one)
        assert (summary.summary, summary.selected) == (alone.summary, alone.selected)
        assert summary.problems == alone.problems and summary.sentences == alone.sentences
        assert summary.probabilities == pytest.approx(alone.probabilities, abs=1e-9)
        for got, expected in zip(summary.evidence, alone.evidence, strict=True):
            assert got.sentence == expected.sentence
            assert got.image_weights == pytest.approx(expected.image_weights, abs=1e-9)


def test_sampling_depends_on_seed_and_document_alone(float64):
    loaded = loaded_model()
    options = {"max_new_tokens": 6, "do_sample": True, "temperature": 0.9}
    given = documents(3)

    def summaries(seed, chosen):
        summarizer = Summarizer(loaded, SummaryOptions(seed=seed, **options))
        return [summary.summary for summary in summarizer.summarize_batch(chosen)]

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = summaries(0, given)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert summaries(0, given[::-1]) == first[::-1]
    assert summaries(0, given[1:2]) == first[1:2]
    assert summaries(1, given) != first
    greedy = Summarizer(loaded, SummaryOptions(max_new_tokens=6)).summarize_batch(given)
    assert [summary.summary for summary in greedy] != first
    # Of so small a share the most probable token alone is left.
    narrow = Summarizer(loaded, SummaryOptions(max_new_tokens=6, do_sample=True, top_p=1e-9)).summarize_batch(given)
    assert [summary.summary for summary in narrow] == [summary.summary for summary in greedy]


def test_an_error_loses_its_document_alone():
    summarizer = Summarizer(loaded_model(), SummaryOptions(max_new_tokens=4))
    good = documents(2)
    results = summarizer.summarize_batch([good[0], document(title="title " * 600, name="long"), good[1]])
    assert isinstance(results[1], DocumentError) and "long.md: the title leaves no room" in str(results[1])
    assert [results[0].summary, results[2].summary] == [summarizer.summarize(one).summary for one in good]


class Recorder:
    """Stands for a summarizer; the summary of a document is its name. `interrupted` ends a batch that holds it."""

    def __init__(self, interrupted=None):
        self.batches = []
        self.interrupted = interrupted

    def summarize_batch(self, batch):
        self.batches.append([one.id for one in batch])
        if self.interrupted in self.batches[-1]:
            raise KeyboardInterrupt
        return [one.id for one in batch]


def entries(lengths, broken=()):
    for index, length in enumerate(lengths):
        path = Path(f"{index}.md")
        if index in broken:
            yield Entry(path, None, DocumentError(f"{index} is broken"))
        else:
            yield Entry(path, document("x" * length, name=str(index)))


def test_documents_of_a_like_length_are_written_together_and_come_in_order():
    lengths = [5, 1, 9, 3, 7, 2, 8, 4, 6, 10]
    recorder = Recorder()
    got = list(summarize_in_batches(entries(lengths, broken={3}), recorder, batch_size=2))
    assert [entry.path.stem for entry in got] == [str(index) for index in range(10)]
    assert [str(entry.result) for entry in got] == ["0", "1", "2", "3 is broken", *"456789"]
    # A window of eight, the longest first; then the rest.
    assert WINDOW == 4
    assert recorder.batches == [["2", "6"], ["4", "0"], ["7", "5"], ["1"], ["9", "8"]]


def test_one_by_one_nothing_waits():
    read = []

    def source():
        for entry in entries([1, 2, 3]):
            read.append(entry.path.stem)
            yield entry

    recorder = Recorder()
    stream = summarize_in_batches(source(), recorder)
    for index in range(3):
        assert next(stream).result == str(index)
        assert read == [str(place) for place in range(index + 1)]


def test_an_interrupted_batch_loses_no_other():
    recorder = Recorder(interrupted="1")
    got = []
    with pytest.raises(KeyboardInterrupt):
        for entry in summarize_in_batches(entries([5, 1, 9, 3, 7, 2, 8, 4]), recorder, batch_size=2):
            got.append(entry.path.stem)
    # 1 and 5 are the shortest, and written last.
    assert recorder.batches[-1] == ["5", "1"]
    assert got == ["0", "2", "3", "4", "6", "7"]
