import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_spectra import sentences as rules
from spectra_sum.msmo.closed_world import closed_world_dataset
from spectra_sum.msmo.closed_world_difficulty import DIFFICULTIES
from spectra_sum.sentences import reference_sentences, sentence_spans, split_sentences


@pytest.mark.parametrize(
    "text, sentences",
    [
        ("", []),
        (" \n ", []),
        ("No end mark", ["No end mark"]),
        ("One. Two! Three? 4 men.", ["One.", "Two!", "Three?", "4 men."]),
        (
            "It rose by 3.5 % on site e.g. here. Then it fell.",
            ["It rose by 3.5 % on site e.g. here.", "Then it fell."],
        ),
        (
            "Dr. Ada B. Smith spoke. (Nobody left.) “Why?” He knew.",
            ["Dr. Ada B. Smith spoke.", "(Nobody left.)", "“Why?”", "He knew."],
        ),
        ("A line\nanother line.\n\nÉtude. Übung…  Ende", ["A line", "another line.", "Étude.", "Übung…", "Ende"]),
        ("by Dr.\nNext line", ["by Dr.", "Next line"]),
        ("今天天气好。我们走吧！", ["今天天气好。", "我们走吧！"]),
        ("Wait... what happened? nothing", ["Wait... what happened? nothing"]),
    ],
)
def test_sentences(text, sentences):
    assert split_sentences(text) == sentences
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


def spans_by_whole_sentences(text):
    """The rule with the abbreviation looked for in all of the sentence so far."""
    spans, start = [], 0
    for end in [*(match.end() for match in rules._SENTENCE_END.finditer(text)), len(text)]:
        if text[end : end + 1] in ("", "\n") or not rules._ABBREVIATION.search(text, start, end):
            stripped = re.search(r"\S(?:.*\S)?", text[start:end], re.DOTALL)
            spans += [(start + stripped.start(), start + stripped.end())] if stripped else []
            start = end
    return spans


words = st.sampled_from(
    ["A.", "Prof.", "(Prof.", "“Dr.", "No.", "end.", "End!", "xProf.", "好。", "B.)", " ", "\n", "  ", "4"]
)


@settings(max_examples=500, deadline=None)
@given(st.lists(words, max_size=20))
def test_abbreviations_are_found_as_in_the_whole_sentence(parts):
    for text in ("".join(parts), " ".join(parts)):
        assert sentence_spans(text) == spans_by_whole_sentences(text)


def test_a_long_run_of_abbreviations_takes_linear_time():
    start = time.perf_counter()
    assert sentence_spans("A. " * 20_000) == [(0, 59_999)]
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize(
    ("summary", "sentences"),
    [
        (["Two ships sank.", "A bridge closed."], ["Two ships sank.", "A bridge closed."]),
        (["Two ships sank. A bridge closed."], ["Two ships sank.", "A bridge closed."]),
        (
            ["Two ships sank. A bridge", "closed. Dr. Ash spoke."],
            ["Two ships sank.", "A bridge", "closed.", "Dr. Ash spoke."],
        ),
        (["Two ships sank\nA bridge closed\n"], ["Two ships sank", "A bridge closed"]),
        (["", "  Two ships sank. "], ["Two ships sank."]),
        ([], []),
    ],
)
def test_a_reference_is_split_by_lines_and_then_by_sentences(summary, sentences):
    assert reference_sentences(summary) == sentences


def test_references_of_the_closed_world_are_sentences_already():
    for difficulty in DIFFICULTIES:
        for summary in closed_world_dataset({"test": 20}, seed=1, difficulty=difficulty)["test"]["summary"]:
            assert reference_sentences(summary) == list(summary)
