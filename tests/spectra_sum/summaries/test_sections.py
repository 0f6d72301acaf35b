"""Documents that are summarized by their parts."""

import pytest

from spectra_sum.sentences import split_sentences
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.sections import Section, sections, summarized_by_sections
from spectra_sum.summaries.summarizer import Summarizer
from tests.hashing_encoder import HashingEncoder
from tests.spectra_sum.summaries.setup import SENTENCES, document, force_summary, kinds, loaded_model

BODY = """It opens here without a heading.

First part

One two three four five. Six seven eight nine ten.

Eleven twelve thirteen fourteen.

Second part

A last word here."""


def words(text: str) -> int:
    return len(text.split())


def test_parts_begin_at_headings_and_long_ones_are_halved():
    assert sections(BODY, 16, words) == [
        Section("", "It opens here without a heading."),
        Section(
            "First part", "One two three four five. Six seven eight nine ten.\n\nEleven twelve thirteen fourteen."
        ),
        Section("Second part", "A last word here."),
    ]
    # 16 words with the heading: two parts of at most 12, whose target is 8.
    assert sections(BODY, 12, words)[1:3] == [
        Section("First part", "One two three four five. Six seven eight nine ten."),
        Section("First part", "Eleven twelve thirteen fourteen."),
    ]


@pytest.mark.parametrize("budget", range(3, 30))
def test_nothing_is_lost_and_no_part_is_too_long(budget):
    parts = sections(BODY, budget, words)
    assert all(words(part.body) <= budget for part in parts)
    kept = [word for part in parts for word in part.text.split()]
    assert kept == [word for word in BODY.split() if word not in ("First", "part", "Second")]


def test_summaries_stand_under_their_headings_and_short_parts_stay():
    seen = []

    def summarize(parts):
        seen.extend((part.title, part.body, part.images) for part in parts)
        return ["Ten numbers." for _ in parts]

    given = document(BODY, [("A ship", "")])
    body, count = summarized_by_sections(given, 16, words, 6, summarize)
    assert count == 3
    assert seen == [
        (
            "A title",
            "First part\n\nOne two three four five. Six seven eight nine ten.\n\nEleven twelve thirteen fourteen.",
            [],
        )
    ]
    assert body.split("\n\n") == [
        "It opens here without a heading.",
        "First part",
        "Ten numbers.",
        "Second part",
        "A last word here.",
    ]


def test_too_long_summaries_are_summarized_in_their_turn():
    rounds = []

    def halved(parts):
        rounds.append(len(parts))
        return [" ".join(part.body.split()[: words(part.body) // 2]) for part in parts]

    long = " ".join(f"Sentence {number} has five words." for number in range(64))
    body, count = summarized_by_sections(document(long), 40, words, 5, halved)
    # 320 words in parts of 40, then 160, 80, 40.
    assert (count, rounds, words(body)) == (8, [8, 4, 2], 40)


def test_what_does_not_get_shorter_ends():
    calls = []

    def echo(parts):
        calls.append(len(parts))
        return [part.body for part in parts]

    body, _ = summarized_by_sections(document(" ".join(SENTENCES * 4)), 40, words, 5, echo)
    assert len(calls) == 1 and words(body) > 40


LONG = "\n\n".join(" ".join(f"{sentence[:-1]} on day {day}." for sentence in SENTENCES) for day in range(8))


@pytest.fixture(scope="module")
def loaded():
    return loaded_model(trained=False, kind="causal")


def test_the_model_reads_summaries_of_the_parts(loaded, monkeypatch):
    force_summary(monkeypatch, loaded, "Engineers counted the ships.")
    options = SummaryOptions(max_new_tokens=8, long="sections", captions="none")
    summarizer = Summarizer(loaded, options, HashingEncoder())
    read = []
    write = summarizer._write
    monkeypatch.setattr(
        summarizer,
        "_write",
        lambda documents, readings, watchers: (
            read.append([one.body for one in readings]) or write(documents, readings, watchers)
        ),
    )
    result = summarizer.summarize(document(LONG))
    *parts, [whole] = read
    assert len(parts) >= 2 and [sentence for [part] in parts for sentence in split_sentences(part)] == split_sentences(
        LONG
    )
    assert whole == "\n\n".join(["Engineers counted the ships."] * len(parts))
    [problem] = [problem for problem in result.problems if problem.kind == "long_document"]
    assert problem.detail == f"the model read summaries of its {len(parts)} parts"
    assert "body_cut" not in kinds(result)


def test_a_part_whose_summary_repeats_itself_gives_its_own_sentences(loaded, monkeypatch):
    force_summary(monkeypatch, loaded, "The ship was red. " * 6)
    summarizer = Summarizer(loaded, SummaryOptions(max_new_tokens=30, long="sections"), HashingEncoder())
    [text] = summarizer._summaries_of_parts([document(LONG)], at_once=1, watcher=None)
    assert split_sentences(text) and all(sentence in LONG for sentence in split_sentences(text))
