import pytest

from spectra_sum.sentences import sentence_spans, split_sentences


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
