"""Reading answers: every error line, and who is left out."""

import json

import pytest

from spectra_sum.human_eval.answers import KeyEntry, filter_answers, read_answers, read_key
from spectra_sum.human_eval.questions import HumanEvalError

HEADER = "item_id,worker_id,text_quality,image_relevance,image_diversity,overall"
KEY = {
    "i1": KeyEntry("s", "x", None),
    "i2": KeyEntry("s", "y", None),
    "c1": KeyEntry("s", "z", 1),
    "c2": KeyEntry("s", "u", 2),
}


def read(tmp_path, *texts: str):
    paths = []
    for number, text in enumerate(texts, start=1):
        paths.append(tmp_path / f"a{number}.csv")
        paths[-1].write_bytes(text.encode())
    return read_answers(paths, KEY)


def test_several_files_other_columns_other_order_and_a_byte_order_mark(tmp_path):
    first = f"\ufeff{HEADER}\r\ni1,w1,1,2,3,4\r\n"
    second = 'when,overall,item_id,text_quality,image_diversity,image_relevance,worker_id\n"a\nb",5, i1 ,1,2,3,w2\n\n'
    answers = read(tmp_path, first, second)
    assert [(a.item_id, a.worker_id, list(a.ratings.items())) for a in answers] == [
        ("i1", "w1", [("text_quality", 1), ("image_relevance", 2), ("image_diversity", 3), ("overall", 4)]),
        ("i1", "w2", [("text_quality", 1), ("image_relevance", 3), ("image_diversity", 2), ("overall", 5)]),
    ]


@pytest.mark.parametrize(
    ("texts", "place", "message"),
    [
        ([f"{HEADER}\ni1,w,1,2,3,4\nnone,w,1,2,3,4\n"], "a1.csv, row 3: ", "no item 'none'"),
        ([f"{HEADER}\ni1,w,1,2,3,6\n"], "a1.csv, row 2: ", "overall is '6'; it must be 1, 2, 3, 4 or 5"),
        ([f"{HEADER}\ni1,w,0,2,3,4\n"], "a1.csv, row 2: ", "text_quality is '0'"),
        ([f"{HEADER}\ni1,w,1,,3,4\n"], "a1.csv, row 2: ", "image_relevance is ''"),
        ([f"{HEADER}\ni1,w,1,2,3.5,4\n"], "a1.csv, row 2: ", "image_diversity is '3.5'"),
        ([f"{HEADER}\ni1,w,1,2,٣,4\n"], "a1.csv, row 2: ", "image_diversity is '٣'"),
        ([f"{HEADER}\ni1,,1,2,3,4\n"], "a1.csv, row 2: ", "worker_id is empty"),
        ([f"{HEADER}\ni1,w,1,2,3\n"], "a1.csv, row 2: ", "5 cells for 6 columns"),
        ([f"{HEADER}\ni1,w,1,2,3,4\n\ni1,w,1,2,3,4\n"], "a1.csv, row 4: ", "answered 'i1' already (%s/a1.csv, row 2)"),
        (
            [f"{HEADER}\ni1,w,1,2,3,4\n", f"{HEADER}\ni2,w,1,2,3,4\ni1,w,5,5,5,5\n"],
            "a2.csv, row 3: ",
            "answered 'i1' already (%s/a1.csv, row 2)",
        ),
        (
            ["item_id,worker_id,overall\ni1,w,1\n"],
            "a1.csv, row 1: ",
            "text_quality, image_relevance, image_diversity are missing",
        ),
        ([HEADER.replace(",", ";")], "a1.csv, row 1: ", "are missing"),
        ([f"{HEADER},overall\ni1,w,1,2,3,4,4\n"], "a1.csv, row 1: ", "column overall stands there twice"),
        ([""], "a1.csv, row 1: ", "are missing"),
        ([HEADER], "a1.csv: ", "holds no answers"),
        ([f'{HEADER}\n"i1"x,w,1,2,3,4\n'], "a1.csv, line 2: ", "no valid CSV"),
    ],
)
def test_bad_answers_get_one_line_with_file_and_row(tmp_path, texts, place, message):
    with pytest.raises(HumanEvalError) as error:
        read(tmp_path, *texts)
    text = str(error.value)
    assert text.startswith(f"{tmp_path}/{place}") and "\n" not in text
    assert message.replace("%s", str(tmp_path)) in text


def test_answers_that_are_no_utf8(tmp_path):
    (tmp_path / "a.csv").write_bytes(HEADER.encode() + b"\ni1,\xff,1,2,3,4\n")
    with pytest.raises(HumanEvalError, match="a.csv: this is no UTF-8 text"):
        read_answers([tmp_path / "a.csv"], KEY)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"items": []}', '{"items": {"i": {"system": "s"}}}', '{"items": {"i": 3}}']
)
def test_no_key(tmp_path, text):
    (tmp_path / "key.json").write_text(text)
    with pytest.raises(HumanEvalError, match="key.json: this is no key; pass the key.json that the export wrote."):
        read_key(tmp_path / "key.json")


def test_key_with_an_impossible_check(tmp_path):
    entry = {"system": "s", "article_id": "x", "attention_check": True, "expected": 7}
    (tmp_path / "key.json").write_text(json.dumps({"items": {"i": entry}}))
    with pytest.raises(HumanEvalError, match="'i' has no system, or expects a rating outside 1..5"):
        read_key(tmp_path / "key.json")


ANSWERS = f"""{HEADER}
i1,both,4,4,4,4
c1,both,1,1,1,1
c2,both,2,2,2,2
i1,one,4,4,4,4
c1,one,1,1,1,1
i1,half,4,4,4,4
c1,half,1,1,1,1
c2,half,2,2,2,1
i1,none,4,4,4,4
i2,none,4,4,4,4
"""


@pytest.mark.parametrize(
    ("least", "kept", "failing", "without", "items_without"),
    [
        (None, {"both", "one"}, 1, 1, 1),
        (0, {"both", "one", "half", "none"}, 0, 0, 0),
        (1, {"both", "one", "half"}, 0, 1, 1),
        (2, {"both"}, 2, 1, 1),
    ],
)
def test_who_is_left_out(tmp_path, least, kept, failing, without, items_without):
    filtered = filter_answers(read(tmp_path, ANSWERS), KEY, least)
    assert {a.worker_id for a in filtered.answers} == kept
    assert {name for name, worker in filtered.workers.items() if worker.kept} == kept
    assert all(a.item_id in ("i1", "i2") for a in filtered.answers)
    assert filtered.dropped == {
        "workers_failing_checks": failing,
        "workers_without_check": without,
        "answers_of_dropped_workers": 5 - len(filtered.answers),
        "answers_to_attention_checks": 5,
        "items_without_answers": items_without,
    }
    half = filtered.workers["half"]
    assert (half.answered, half.passed) == (2, 1)


def test_everybody_stays_without_checks(tmp_path):
    key = {name: entry for name, entry in KEY.items() if entry.expected is None}
    answers = [a for a in read(tmp_path, ANSWERS) if a.item_id in key]
    assert len(filter_answers(answers, key).answers) == 5


def test_more_checks_demanded_than_there_are(tmp_path):
    with pytest.raises(HumanEvalError, match="--min-checks-passed 3: the key has 2 attention checks"):
        filter_answers(read(tmp_path, ANSWERS), KEY, 3)


def test_nobody_is_left(tmp_path):
    answers = read(tmp_path, f"{HEADER}\ni1,w,4,4,4,4\nc1,w,4,4,4,4\n")
    with pytest.raises(
        HumanEvalError, match="no answer is left: 1 to rated items came from 1 workers, of whom 0 passed"
    ):
        filter_answers(answers, KEY)
