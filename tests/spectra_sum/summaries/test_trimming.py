import pytest

from spectra_sum.summaries.trimming import trimmed


@pytest.mark.parametrize(
    "text, expected",
    [
        ("One is whole. Two is not", "One is whole."),
        ("One is whole. Two is, too.", "One is whole. Two is, too."),
        ('He said "yes." Then he', 'He said "yes."'),
        ('Is it? "It is!"', 'Is it? "It is!"'),
        ("It was said by Dr.", None),
        ("One is whole. It was said by Dr.", "One is whole."),
        ("One. Two by J. R.", "One."),
        ("no end at all", None),
        ("", None),
        ("  \n ", None),
        ("Summary:\nThe first sentence that does not", None),
        ("An introduction.\n- one\n- two\n- thr", "An introduction.\n- one\n- two"),
        ("- one\n- two\n- thr", None),
        ("一つ目。二つ目。三つ", "一つ目。二つ目。"),
        ("一つ目。", "一つ目。"),
        ("  Padded. And ", "Padded."),
    ],
)
def test_only_the_sentence_without_an_end_goes(text, expected):
    assert trimmed(text) == expected
