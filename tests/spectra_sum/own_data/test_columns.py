"""Which of the data's columns is which of the record's."""

import pytest

from spectra_sum.own_data.columns import find_columns, parse_columns
from spectra_sum.own_data.formats import OwnDataError


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (["document", "summary"], {"article": "document", "summary": "summary"}),
        (["text", "highlights", "image"], {"article": "text", "summary": "highlights", "images": "image"}),
        (
            ["body", "abstract", "img_list", "caption"],
            {"article": "body", "summary": "abstract", "images": "img_list", "captions": "caption"},
        ),
        (["ID", "Article Text", "Alt-Text", "url"], {"id": "ID", "article": "Article Text", "alt_texts": "Alt-Text"}),
        # The record's own name is no guess, whatever else there is.
        (["text", "article", "abstract", "summary"], {"article": "article", "summary": "summary"}),
        # As it is written comes before other cases.
        (["Summary", "summary", "text"], {"article": "text", "summary": "summary"}),
    ],
)
def test_usual_names_are_found(known, expected):
    assert find_columns("data", known, {}) == expected


def test_given_columns_win_and_leave_the_rest_to_be_found():
    given = parse_columns(["text=story", "captions=", "summary=abstract"])
    assert given == {"article": "story", "captions": "", "summary": "abstract"}
    known = ["story", "text", "abstract", "summary", "captions", "title"]
    found = find_columns("data", known, given)
    assert found == {"title": "title", "article": "story", "summary": "abstract"}


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["story"], "'story' is no assignment; write NAME=COLUMN, such as article=story."),
        (["body=story"], "an article has no 'body'; it has id, title, article, summary, images"),
        (["text=a", "article=b"], "article is given twice, as 'a' and 'b'"),
        (["article=a", "summary=a"], "'a' is given for two things; one column is one of them"),
    ],
)
def test_wrong_assignments(assignments, message):
    with pytest.raises(OwnDataError, match=message):
        parse_columns(assignments)


@pytest.mark.parametrize(
    ("known", "given", "message"),
    [
        (["text"], {"summary": "gist"}, r"data: there is no column 'gist' \(columns\); it has 'text'."),
        (["text", "body"], {}, "both 'text' and 'body' could be the article; choose with --columns article=text."),
        (["article", "abstract", "highlights"], {}, "both 'highlights' and 'abstract' could be the summary"),
        (["text", "Summary", "SUMMARY"], {}, "both 'Summary' and 'SUMMARY' could be the summary"),
        (["text", "TEXT"], {}, "both 'text' and 'TEXT' could be the article"),
        (["story"], {}, "data: no column is the article; it has 'story'; name it with --columns article=NAME."),
    ],
)
def test_columns_that_cannot_be_told(known, given, message):
    with pytest.raises(OwnDataError, match=message):
        find_columns("data", known, given)
