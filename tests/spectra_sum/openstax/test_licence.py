"""Only CC BY is read, and the LICENSE file and the collections must agree."""

import pytest

from spectra_sum.openstax.checkout import OpenStaxError
from spectra_sum.openstax.collection import read_books
from spectra_sum.openstax.licence import named_licences
from tests.spectra_sum.openstax.books import BY, BY_NC_SA, BY_TEXT, SUMMARY, collection, document, make_checkout, only

MODULES = {"m1": document(f"<para>Text.</para>{SUMMARY}")}


@pytest.mark.parametrize(
    ("text", "licences"),
    [
        ("Attribution 4.0 International", {("by", "4.0")}),
        ("Creative Commons Attribution License 4.0", {("by", "4.0")}),
        ("Creative Commons Attribution License", {("by", "")}),
        ("Attribution-NonCommercial-ShareAlike 4.0 International", {("by-nc-sa", "4.0")}),
        ("Creative Commons Attribution NonCommercial ShareAlike License", {("by-nc-sa", "")}),
        ("Attribution-NoDerivs 3.0", {("by-nd", "3.0")}),
        ("http://creativecommons.org/licenses/by-sa/3.0/legalcode", {("by-sa", "3.0")}),
        ("You must give attribution, whatever the license.", set()),
        ("MIT License", set()),
    ],
)
def test_licences_by_name_and_address(text, licences):
    assert named_licences(text) == licences


def test_cc_by_is_read(tmp_path):
    [book] = read_books(only(make_checkout(tmp_path / "osbooks-cells", MODULES)))
    assert (book.name, book.licence) == ("cells", "CC BY 4.0")


NC_TEXT = BY_TEXT.replace("Attribution 4.0", "Attribution-NonCommercial-ShareAlike 4.0")


@pytest.mark.parametrize(
    ("settings", "file", "reason"),
    [
        ({"licence_text": NC_TEXT, "licence": BY_NC_SA}, "osbooks-cells/LICENSE", "CC BY-NC-SA 4.0"),
        ({"licence_text": NC_TEXT}, "osbooks-cells/LICENSE", "CC BY-NC-SA 4.0"),
        ({"licence": BY_NC_SA}, "cells.collection.xml", "CC BY-NC-SA 4.0"),
        ({"words": "Creative Commons Attribution-ShareAlike License 4.0"}, "cells.collection.xml", "CC BY-SA 4.0"),
        ({"licence": BY.replace("4.0", "3.0"), "words": "CC BY"}, "cells.collection.xml", "must agree"),
        ({"licence": "", "words": ""}, "cells.collection.xml", "names no licence"),
        ({"licence_text": "All rights reserved."}, "osbooks-cells/LICENSE", "names no licence"),
        # The address and the words of one collection.
        ({"words": "Creative Commons Attribution License 3.0"}, "cells.collection.xml", "must agree"),
    ],
)
def test_all_others_are_refused_by_the_file_that_says_so(settings, file, reason, tmp_path):
    checkout = only(make_checkout(tmp_path / "osbooks-cells", MODULES, **settings))
    with pytest.raises(OpenStaxError) as error:
        read_books(checkout)
    message = str(error.value)
    assert file in message.partition(": ")[0] and reason in message and "\n" not in message


def test_a_missing_licence_file_is_refused(tmp_path):
    folder = make_checkout(tmp_path / "osbooks-cells", MODULES)
    (folder / "LICENSE").unlink()
    with pytest.raises(OpenStaxError, match="^osbooks-cells/LICENSE: there is no such file"):
        read_books(only(folder))


def test_collections_that_no_list_names_count_too(tmp_path):
    folder = make_checkout(tmp_path / "osbooks-cells", MODULES)
    (folder / "collections" / "other.collection.xml").write_text(collection([["m1"]], "other", BY_NC_SA))
    with pytest.raises(OpenStaxError, match="other.collection.xml: it names CC BY-NC-SA 4.0"):
        read_books(only(folder))
