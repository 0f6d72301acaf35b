"""Which file of its folder a document names: other Unicode forms, Windows paths, uploads; never one outside."""

import os
import unicodedata

import pytest

from spectra_sum.documents.linked_files import LinkedFiles
from spectra_sum.documents.local_images import ImageError
from spectra_sum.documents.reading import read_document
from tests.spectra_sum.documents.pages import kinds, save_image

COMPOSED, DECOMPOSED = "caf\u00e9.png", "cafe\u0301.png"


def test_the_two_names_are_those_of_unicode():
    assert COMPOSED != DECOMPOSED and unicodedata.normalize("NFD", COMPOSED) == DECOMPOSED


@pytest.mark.parametrize("stored", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("named", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("content", ["Text. ![]({})", "Text. ![[{}]]", "<p>Text.<img src='{}'>"])
def test_a_name_in_another_unicode_form(tmp_path, stored, named, content):
    save_image(tmp_path / stored, "red")
    path = tmp_path / ("doc.html" if "<p>" in content else "doc.md")
    path.write_text(content.format(named), encoding="utf-8")
    document = read_document(path)
    assert len(document.images) == 1 and document.problems == []


def test_folders_have_unicode_forms_too(tmp_path):
    save_image(tmp_path / "e\u0301te\u0301" / DECOMPOSED, "red")
    for address in (f"\u00e9t\u00e9/{COMPOSED}", f"e\u0301t\u00e9/{COMPOSED}", f"\u00e9t\u00e9\\{COMPOSED}"):
        assert LinkedFiles(tmp_path).find(address) == tmp_path / "e\u0301te\u0301" / DECOMPOSED


def test_the_exact_name_wins_and_several_equal_ones_are_none(tmp_path):
    # Three orders of the same two accents; the canonical one is the middle one.
    names = ["a\u0323\u0302.png", "\u1ead.png", "a\u0302\u0323.png"]
    assert len({unicodedata.normalize("NFC", name) for name in names}) == 1
    for name in names[:2]:
        save_image(tmp_path / name, "red")
    assert LinkedFiles(tmp_path).find(names[0]) == tmp_path / names[0]
    (tmp_path / "doc.md").write_text(f"Text. ![]({names[2]})", encoding="utf-8")
    document = read_document(tmp_path / "doc.md")
    assert document.images == [] and kinds(document) == {"missing_image": 1}
    assert "2 files have this name in other Unicode forms; rename them" in str(document.problems[0])


@pytest.mark.parametrize(
    "address", ["pictures\\a.png", ".\\pictures\\a.png", "pictures%5Ca.png", "pictures\\..\\a.png"]
)
def test_a_windows_path(tmp_path, address):
    save_image(tmp_path / "pictures" / "a.png", "red")
    save_image(tmp_path / "a.png", "red")
    assert LinkedFiles(tmp_path).find(address) == tmp_path / ("a.png" if ".." in address else "pictures/a.png")


def test_a_file_whose_name_has_a_backslash_comes_first(tmp_path):
    save_image(tmp_path / "b" / "a.png", "red")
    save_image(tmp_path / "b\\a.png", "red")
    assert LinkedFiles(tmp_path).find("b\\a.png") == tmp_path / "b\\a.png"


@pytest.mark.parametrize(
    "address", ["other/caf\u00e9.png", "../caf\u00e9.png", "..\\caf\u00e9.png", "link/caf\u00e9.png", "C:\\a.png"]
)
@pytest.mark.parametrize("by_name", [False, True])
def test_no_other_form_leads_out_of_the_folder(tmp_path, address, by_name):
    folder = tmp_path / "folder"
    folder.mkdir()
    save_image(tmp_path / DECOMPOSED, "red")
    # "link", decomposed nowhere, and a folder link whose name is equal to that of the address only after normalisation.
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ImageError) as error:
        LinkedFiles(folder, by_name=by_name).find(address)
    assert error.value.kind == ("missing_image" if address.startswith("other") else "outside_folder")
    (folder / "e\u0301").symlink_to(tmp_path)
    with pytest.raises(ImageError) as error:
        LinkedFiles(folder, by_name=by_name).find("\u00e9/" + COMPOSED)
    assert error.value.kind == "outside_folder"


@pytest.mark.parametrize(
    "address",
    [
        *("a.png", "page_files/a.png", "../a.png", "/var/a.png", "C:\\Users\\me\\a.png", "page_files\\a.png"),
        *("https://example.org/img/a.png?w=3", "//example.org/a.png", "file:///home/me/a.png", "x/%61.png#y"),
    ],
)
def test_uploads_are_found_by_their_names(tmp_path, address):
    save_image(tmp_path / "a.png", "red")
    assert LinkedFiles(tmp_path, by_name=True).find(address) == tmp_path / "a.png"


@pytest.mark.parametrize(
    ("address", "kind"),
    [("https://example.org/b.png", "remote_image"), ("../b.png", "outside_folder"), ("x/b.png", "missing_image")]
    + [("https://example.org/", "remote_image"), ("x/..", "missing_image"), ("..", "outside_folder")],
)
def test_what_was_not_uploaded_is_refused_as_ever(tmp_path, address, kind):
    save_image(tmp_path / "a.png", "red")
    with pytest.raises(ImageError) as error:
        LinkedFiles(tmp_path, by_name=True).find(address)
    assert error.value.kind == kind


def test_a_folder_is_listed_once(tmp_path, monkeypatch):
    listed = []
    list_folder = os.listdir
    monkeypatch.setattr(os, "listdir", lambda place: (listed.append(place), list_folder(place))[1])
    files = LinkedFiles(tmp_path)
    for number in range(5):
        with pytest.raises(ImageError):
            files.find(f"none-{number}.png")
    assert listed == [tmp_path]
