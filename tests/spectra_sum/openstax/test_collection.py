"""Checkouts: books, chapters, commits, and paths that lead elsewhere."""

import pytest

from spectra_sum.openstax.checkout import OpenStaxError, find_checkouts
from spectra_sum.openstax.collection import read_books
from spectra_sum.openstax.conversion import find_books
from tests.spectra_sum.openstax.books import SUMMARY, collection, document, make_checkout, only

MODULES = {f"m{number}": document(f"<para>Text.</para>{SUMMARY}") for number in range(5)}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path):
    return make_checkout(tmp_path / "osbooks-cells", MODULES, chapters=[["m0", "m1"], ["m2"]])


def write_collection(folder, content):
    file = folder / "collections" / "cells.collection.xml"
    head, _, tail = file.read_text().partition("<content>")
    file.write_text(f"{head}<content>{content}</content></col:collection>")


def test_chapters_in_units_and_modules_outside_of_all(folder):
    module = '<module document="{}"/>'.format
    chapter = "<subcollection><content>{}</content></subcollection>".format
    unit = chapter(chapter(module("m1") + module("m2")) + chapter(module("m3")))
    write_collection(folder, module("m0") + unit + module("m4"))
    [book] = read_books(only(folder))
    assert [tuple(chapter) for chapter in book.chapters] == [(1, ["m0"]), (2, ["m1", "m2"]), (3, ["m3"]), (4, ["m4"])]


@pytest.mark.parametrize("name", ["../m0", "..", "/etc", "m0/../m1", ""])
def test_a_module_is_a_plain_name(name, folder):
    write_collection(folder, f'<module document="{name}"/>')
    with pytest.raises(OpenStaxError, match="cells.collection.xml: the module .* is no name of a folder"):
        read_books(only(folder))


def test_a_list_of_books_that_leads_out_is_refused(folder, tmp_path):
    (tmp_path / "private.xml").write_text(collection([["m0"]], "private"))
    books = folder / "META-INF" / "books.xml"
    books.write_text(books.read_text().replace("../collections/cells.collection.xml", "../../private.xml"))
    with pytest.raises(OpenStaxError, match="leads out of the checkout"):
        read_books(only(folder))


def test_links_that_lead_out_are_refused(folder, tmp_path):
    (tmp_path / "private").mkdir()
    (folder / "modules" / "m9").symlink_to(tmp_path / "private")
    write_collection(folder, '<module document="m9"/>')
    with pytest.raises(OpenStaxError, match="'m9' is no name"):
        read_books(only(folder))


def test_a_broken_collection_is_refused(folder):
    (folder / "collections" / "cells.collection.xml").write_text("<collection>")
    with pytest.raises(OpenStaxError, match="^osbooks-cells/collections/cells.collection.xml: it is not well-formed"):
        read_books(only(folder))


@pytest.mark.parametrize(
    ("folder_name", "slugs", "names"),
    [
        # The repository's name is older than the edition in the slug.
        ("osbooks-psychology", ["psychology-2e"], ["psychology"]),
        ("osbooks-biology-bundle", ["biology-2e", "concepts-biology"], ["biology-2e", "concepts-biology"]),
        ("my-clone", ["psychology-2e"], ["psychology-2e"]),
    ],
)
def test_names_of_books(folder_name, slugs, names, tmp_path):
    folder = make_checkout(tmp_path / folder_name, MODULES)
    for file in (folder / "collections").iterdir():
        file.unlink()
    entries = ""
    for slug in slugs:
        (folder / "collections" / f"{slug}.collection.xml").write_text(collection([["m0"]], slug))
        entries += f'<book slug="{slug}" href="../collections/{slug}.collection.xml"/>'
    container = f'<container xmlns="https://openstax.org/namespaces/book-container">{entries}</container>'
    (folder / "META-INF" / "books.xml").write_text(container)
    assert [book.name for book in find_books([folder])] == names
    assert [book.slug for book in find_books([folder], wanted=slugs[-1:])] == slugs[-1:]
    with pytest.raises(OpenStaxError, match="^--books physics: no checkout has this book"):
        find_books([folder], wanted=["physics"])


def test_without_a_list_all_collections_are_read(folder):
    (folder / "META-INF" / "books.xml").unlink()
    assert [book.name for book in find_books([folder])] == ["cells"]


def test_two_checkouts_of_one_book_are_refused(folder, tmp_path):
    other = make_checkout(tmp_path / "again" / "osbooks-cells", MODULES)
    with pytest.raises(OpenStaxError, match="has the book cells, which .*osbooks-cells has, too"):
        find_books([folder, other])


@pytest.mark.parametrize("kind", ["loose", "packed", "detached"])
def test_the_commit_of_a_checkout(kind, folder):
    git = folder / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text(f"{COMMIT}\n" if kind == "detached" else "ref: refs/heads/main\n")
    if kind == "loose":
        (git / "refs" / "heads" / "main").write_text(f"{COMMIT}\n")
    if kind == "packed":
        (git / "packed-refs").write_text(
            f"# pack-refs with: peeled\n{'f' * 40} refs/heads/other\n{COMMIT} refs/heads/main\n"
        )
    assert only(folder).commit == COMMIT[:10]


def test_no_commit_is_read_from_elsewhere(folder, tmp_path):
    (tmp_path / "secret").write_text(f"{COMMIT}\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref: ../../secret\n")
    assert only(folder).commit == ""


def test_a_folder_of_checkouts(folder, tmp_path):
    make_checkout(tmp_path / "osbooks-birds", MODULES)
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("")
    assert [checkout.name for checkout in find_checkouts(tmp_path)] == ["birds", "cells"]
    assert [book.name for book in find_books([tmp_path], wanted=["cells"])] == ["cells"]


def test_what_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(OpenStaxError, match="there is no such folder"):
        find_checkouts(tmp_path / "absent")
    with pytest.raises(
        OpenStaxError, match="no checkout of an OpenStax book, which has the folders collections and modules"
    ):
        find_checkouts(tmp_path)
