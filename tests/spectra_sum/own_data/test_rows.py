"""Values of a user's rows, as articles."""

import datetime

import pytest

from spectra_sum.own_data.formats import OwnDataError
from spectra_sum.own_data.images import ImagePlace
from spectra_sum.own_data.rows import RowReader

COLUMNS = {
    name: name for name in ("id", "title", "article", "summary", "images", "captions", "alt_texts", "gold_images")
}
ROW = {
    "id": "a",
    "title": "T",
    "article": "Body.",
    "summary": "One. Two.",
    "images": ["x.png", "y.png"],
    "captions": ["c", ""],
    "alt_texts": None,
    "gold_images": [1],
}


def read(tmp_path, stream=False, without=(), **values):
    columns = {name: theirs for name, theirs in COLUMNS.items() if name not in without}
    reader = RowReader("data", columns, ImagePlace(folder=str(tmp_path)), stream=stream)
    return reader({name: [value] for name, value in {**ROW, **values}.items()})


def value(tmp_path, name, given, **more):
    (found,) = read(tmp_path, **{name: given}, **more)[name]
    return found


def test_an_article_as_it_is_meant(tmp_path):
    assert read(tmp_path) == {
        "id": ["a"],
        "title": ["T"],
        "article": ["Body."],
        "summary": [["One.", "Two."]],
        "images": [[{"bytes": None, "path": str(tmp_path / name)} for name in ("x.png", "y.png")]],
        "captions": [["c", ""]],
        "alt_texts": [["", ""]],
        "gold_images": [[1]],
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("The ship left. It came back at 5 p.m. today.", ["The ship left.", "It came back at 5 p.m. today."]),
        ("First line\nSecond line", ["First line", "Second line"]),
        (["One.  ", None, "", "Two, three."], ["One.", "Two, three."]),
        ('["One.", "Two."]', ["One.", "Two."]),
        # What `pandas` writes of a list.
        ("['One.', \"It's two.\"]", ["One.", "It's two."]),
        ("[no list", ["[no list"]),
        ("[1] was first, [2] was second]", ["[1] was first, [2] was second]"]),
        ("[]", []),
        ("", []),
        (None, []),
        (float("nan"), []),
    ],
)
def test_summaries(tmp_path, given, expected):
    assert value(tmp_path, "summary", given) == expected


def test_texts(tmp_path):
    assert value(tmp_path, "article", ["One. ", "Two."]) == "One.\n\nTwo."
    assert value(tmp_path, "article", " One.\r\n\r\nTwo. ") == "One.\n\nTwo."
    assert value(tmp_path, "title", ["A", "b\nc"]) == "A b c"
    assert value(tmp_path, "title", 1984) == "1984"
    assert value(tmp_path, "title", None) == ""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 0, 1], [0, 1]),
        (0, [0]),
        ("1", [1]),
        ("0;1", [0, 1]),
        ("[1]", [1]),
        (["y.png"], [1]),
        ("y.png", [1]),
        ([1.0], [1]),
        (None, []),
        ("", []),
    ],
)
def test_gold_images_by_number_and_by_name(tmp_path, given, expected):
    assert value(tmp_path, "gold_images", given) == expected


def test_an_article_in_the_cell_of_a_table(tmp_path):
    assert value(tmp_path, "article", '["One. ", "Two."]') == "One.\n\nTwo."
    assert value(tmp_path, "article", "['One.', 'Two.']") == "One.\n\nTwo."
    assert value(tmp_path, "article", "[1, 2] are numbers.") == "[1, 2] are numbers."
    assert value(tmp_path, "title", '["No list"]') == '["No list"]'


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("007", "007"),
        (7, "7"),
        (b"caf\xc3\xa9", "café"),
        (datetime.datetime(2024, 1, 31), "2024-01-31"),
        (datetime.datetime(2024, 1, 31, 8, 30), "2024-01-31T08:30:00"),
        (datetime.date(2024, 1, 31), "2024-01-31"),
    ],
)
def test_ids(tmp_path, given, expected):
    assert value(tmp_path, "id", given) == expected
    if isinstance(given, datetime.date):
        assert value(tmp_path, "title", given) == expected


def test_ids_that_are_made_depend_on_the_content_alone(tmp_path):
    made = value(tmp_path, "id", None)
    assert len(made) == 16 and int(made, 16) >= 0
    assert [value(tmp_path, "id", given) for given in ("", "  ", float("nan"))] == [made] * 3
    assert read(tmp_path, without=["id"])["id"] == [made]
    assert value(tmp_path, "id", None, images=["y.png"], captions=None, gold_images=None) == made
    assert len({made, *(value(tmp_path, "id", None, **{name: "x"}) for name in ("title", "article", "summary"))}) == 4
    assert value(tmp_path, "id", 7) == "7"


def test_columns_that_are_not_there_are_empty(tmp_path):
    rest = ("title", "summary", "images", "captions", "alt_texts", "gold_images")
    found = read(tmp_path, without=rest)
    assert {name: found[name] for name in rest} == {"title": [""]} | {name: [[]] for name in rest[1:]}


def test_a_row_without_a_body_gives_no_article(tmp_path, caplog):
    assert read(tmp_path, article=" \n")["id"] == []
    assert caplog.text == ""
    assert read(tmp_path, article="", stream=True)["id"] == []
    assert "data: article a has no body and is left out" in caplog.text


def test_a_text_for_the_only_image(tmp_path):
    assert value(tmp_path, "captions", "A ship; in port", images=["x.png"], gold_images=None) == ["A ship; in port"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"article": 3.5}, r"data: article a \(column 'article'\): the article is a float; it must be a text"),
        ({"summary": {"a": 1}}, r"\(column 'summary'\): the summary is a dict; it must be a text, or the list"),
        ({"captions": ["c"]}, r"\(column 'captions'\): there are 1 captions and 2 images; give one text per image"),
        ({"alt_texts": [1, 2]}, r"\(column 'alt_texts'\): alt_texts is a list; it must be a list of texts"),
        ({"gold_images": [2]}, r"\(column 'gold_images'\): its gold images are \[2\], but it has 2 images"),
        ({"gold_images": ["z.png"]}, "the gold image 'z.png' is neither the number nor the name of one"),
        ({"images": 5}, r"\(column 'images'\): an image is 5; give a path, the file's bytes, or a feature Image"),
        ({"gold_images": [float("nan")]}, "the gold image nan is neither the number nor the name of one"),
        ({"gold_images": [float("inf")]}, "the gold image inf is neither the number nor the name of one"),
        ({"images": ["x\0.png"]}, r"\(column 'images'\): the image 'x\\x00.png' is no path: it has a zero byte"),
        # Of an array Python would join both to one text.
        ({"summary": "['One.' 'Two.']"}, r"\(column 'summary'\): \"\['One.' 'Two.'\]\" is no list that can be read"),
        ({"captions": "['c', '']!]"}, r"\(column 'captions'\): there are 1 captions and 2 images"),
        ({"id": ["1", "2"]}, r"data \(column 'id'\): an id is a list; .* each article a row of its own"),
        ({"id": b"\xff\xfe"}, r"data \(column 'id'\): an id is bytes that are no text"),
        ({"id": None, "images": ["../x.png"]}, "data: the article that begins with 'Body.' .*may lie outside"),
    ],
)
def test_values_that_cannot_be_read_are_told_with_article_and_column(tmp_path, values, message):
    with pytest.raises(OwnDataError, match=message):
        read(tmp_path, **values)


def test_a_stream_stops_at_an_article_without_a_summary(tmp_path):
    assert read(tmp_path, summary=None)["summary"] == [[]]
    with pytest.raises(OwnDataError, match=r"article a \(column 'summary'\): it has no summary; training needs one"):
        read(tmp_path, summary=None, stream=True)
