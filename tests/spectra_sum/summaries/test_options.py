"""SummaryOptions: what they refuse, and the defaults of each kind of model."""

import pytest

from spectra_sum.summaries.options import OptionsError, SummaryOptions


@pytest.mark.parametrize(
    "options, message",
    [
        ({"length": "tiny"}, "`length` must be one of short, medium, long, not 'tiny'."),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be at least 1, not 0."),
        ({"temperature": 0.0, "do_sample": True}, "`temperature` must be over 0, not 0.0."),
        ({"top_p": 1.5, "do_sample": True}, "`top_p` must be over 0 and at most 1, not 1.5."),
        ({"top_p": float("nan"), "do_sample": True}, "`top_p` must be over 0 and at most 1, not nan."),
        ({"no_repeat_ngram_size": -1}, "`no_repeat_ngram_size` must be at least 0, not -1."),
        ({"threshold": 2.0}, "`threshold` must be between 0 and 1, not 2.0."),
        ({"temperature": 0.7}, "`temperature` is for sampling; add `do_sample`, or leave it out."),
        ({"top_p": 0.7}, "`top_p` is for sampling; add `do_sample`, or leave it out."),
        ({"seed": 0}, "`seed` is for sampling; add `do_sample`, or leave it out."),
        ({"mode": "extractive", "num_beams": 2}, "`num_beams` is for summaries that are written"),
        ({"mode": "extractive", "do_sample": True}, "`do_sample` is for summaries that are written"),
        ({"mode": "extractive", "long": "cut"}, "`long` is for summaries that are written"),
        ({"mode": "extractive", "select": "vrp"}, "`select` vrp needs a trained model"),
        ({"threshold": 0.5, "select": "mmr"}, "`threshold` is a probability of the model's own predictor"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(OptionsError) as error:
        SummaryOptions(**options)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_trained_model_keeps_what_it_did():
    assert SummaryOptions().filled(trained=True, ranks=True).to_dict() == {
        "max_new_tokens": 128,
        "num_beams": 1,
        "do_sample": False,
        "long": "cut",
        "mode": "write",
        "select": "vrp",
    }


def test_a_pretrained_model_does_not_babble():
    assert SummaryOptions().filled(trained=False, ranks=False).to_dict() == {
        "max_new_tokens": 120,
        "num_beams": 1,
        "do_sample": False,
        "repetition_penalty": 1.1,
        "no_repeat_ngram_size": 4,
        "long": "select",
        "captions": "prompt",
        "mode": "write",
        "select": "dpp-map",
    }


@pytest.mark.parametrize("trained", [True, False])
def test_what_is_given_stays(trained):
    given = {
        "max_new_tokens": 7,
        "num_beams": 3,
        "do_sample": True,
        "seed": 4,
        "temperature": 0.5,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "long": "cut" if not trained else "select",
        "select": "relevance",
        "captions": "none",
        "mode": "write",
        "length": "long",
    }
    assert SummaryOptions(**given).filled(trained=trained, ranks=trained).to_dict() == given


@pytest.mark.parametrize("length, tokens, words", [("short", 60, 45), ("medium", 120, 90), ("long", 240, 180)])
def test_lengths(length, tokens, words):
    for trained in (True, False):
        filled = SummaryOptions(length=length).filled(trained=trained, ranks=False)
        assert (filled.max_new_tokens, filled.extract_words) == (tokens, words)
    assert SummaryOptions(length=length, max_new_tokens=8).filled(trained=True, ranks=True).max_new_tokens == 8


def test_what_a_model_cannot_do():
    with pytest.raises(OptionsError, match="`select` vrp needs a model whose relevance predictor was trained"):
        SummaryOptions(select="vrp").filled(trained=True, ranks=False)
    with pytest.raises(OptionsError, match="`threshold` is a probability of a trained relevance predictor"):
        SummaryOptions(threshold=0.5).filled(trained=False, ranks=False)
