"""`spectra-sum data openstax`: from checkouts to a folder in the MSMO layout."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from spectra_sum.cli import main
from spectra_sum.documents.folders import find_documents
from spectra_sum.msmo.builder import MSMO
from spectra_sum.msmo.layout import SPLIT_FOLDERS, parse_article
from spectra_sum.openstax import conversion
from tests.spectra_sum.openstax.books import BY_NC_SA, SUMMARY, document, figure, make_checkout


def run(*arguments):
    return main(["data", "openstax", *map(str, arguments)])


def module_id(module, book="cells"):
    return hashlib.sha1(f"{book}/{module}".encode()).hexdigest()


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


FOUR = (
    f"<para>Cells (<link target-id='f2'/>) divide.</para>{figure('f1', 'One. (credit: © A. Painter)')}"
    f"{figure('f2', 'A cell. (credit: A/flickr, CC BY-SA 4.0)', 'A round cell.')}{figure('f3', '', '')}"
    f"{figure('f4', image='../../media/f2.png')}{SUMMARY}"
)


@pytest.fixture
def folder(tmp_path):
    """A book of four chapters, of which one has no summary."""
    modules = {
        "m1": document(FOUR, "How Cells Divide"),
        "m2": document(f"<para>Text.</para>{figure('f5')}{SUMMARY}"),
        "m3": document("<para>Text.</para>"),
        "m4": document(f"<para>Text.</para>{figure('f4')}{SUMMARY}"),
        "m5": document(f"<para>Text.</para>{SUMMARY}"),
    }
    images = {f"f{number}.png": (600, 300) for number in range(1, 6)}
    chapters = [["m1", "m2"], ["m3"], ["m4"], ["m5"]]
    return make_checkout(tmp_path / "osbooks-cells", modules, chapters=chapters, images=images)


def test_sections_in_the_layout(folder, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(folder, "--output", output) == 0
    printed = capsys.readouterr().out
    assert "cells: A Book: cells, CC BY 4.0, commit unknown, as there is no .git\n" in printed
    assert (
        "4 sections; 4 figures, 1 with a caption, 3 with an alternative text; 1 under a share-alike licence of their own "
        "(see their credit)\n"
        "modules left out: 1 without a summary at their end\n"
        "figures left out: 1 under somebody else's copyright, or not for all uses; 1 shown before in their section\n"
    ) in printed
    name = module_id("m1")
    split = next(output.glob(f"*_data/article/{name}.txt")).parents[1]
    text = (split / "article" / f"{name}.txt").read_text()
    assert text == "@title\nHow Cells Divide\n\n@body\nCells (Figure 1) divide.\n\n@summary\nCells divide.\n"
    assert (split / "caption" / f"{name}_0.caption").read_text() == "A cell.\n"
    assert (split / "alt" / f"{name}_0.alt").read_text() == "A round cell.\n"
    assert not (split / "caption" / f"{name}_1.caption").exists() and not (split / "alt" / f"{name}_1.alt").exists()
    with Image.open(split / "img" / f"{name}_0.jpg") as image:
        assert image.size == (384, 192)
    rows = [row.split("\t") for row in (split / "sources.tsv").read_text().splitlines()]
    assert rows[0] == ["image", "book", "commit", "module", "file", "credit"]
    assert [f"{name}_0.jpg", "cells", "", "m1", "f2.png", "(credit: A/flickr, CC BY-SA 4.0)"] in rows
    assert [row[0] for row in rows[1:]] == sorted(row[0] for row in rows[1:])
    # Three chapters with a summary, one for each split.
    parts = {frozenset(path.stem for path in (output / name / "article").iterdir()) for name in SPLIT_FOLDERS.values()}
    assert parts == {frozenset(map(module_id, modules)) for modules in (["m1", "m2"], ["m4"], ["m5"])}
    notice = (output / "NOTICE").read_text()
    assert "A Book: cells (cells, commit unknown): CC BY 4.0, https://creativecommons.org/licenses/by/4.0\n" in notice
    # The notice is no document.
    assert {path.stem for path in find_documents([output]).ids} == set(map(module_id, ("m1", "m2", "m4", "m5")))
    assert {path.name for path in output.iterdir()} == {"train_data", "valid_data", "test_data", "NOTICE"}


def test_the_dataset_builder_reads_it_without_a_finding(folder, tmp_path):
    run(folder, "--output", tmp_path / "out")
    builder = MSMO(tmp_path / "out", cache_dir=tmp_path / "cache", verify="full")
    builder.download_and_prepare()
    assert not builder.integrity_report().counts
    records = {row["id"]: row for split in builder.as_dataset().values() for row in split}
    assert set(records) == {module_id(module) for module in ("m1", "m2", "m4", "m5")}
    first = records[module_id("m1")]
    assert (first["captions"], first["alt_texts"], first["gold_images"]) == (
        ["A cell.", ""],
        ["A round cell.", ""],
        [0],
    )
    assert records[module_id("m5")]["gold_images"] == []


def test_a_checkout_that_is_not_cc_by_is_refused_in_one_line(tmp_path, capsys):
    folder = make_checkout(tmp_path / "osbooks-cells", {"m1": document(FOUR)}, licence=BY_NC_SA)
    assert run(folder, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "spectra-sum: error: osbooks-cells/collections/cells.collection.xml: it names CC BY-NC-SA 4.0"
    )
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><a>&c;</a>'
NC_MODULE = f'<md:license url="{BY_NC_SA}"/>'


@pytest.mark.parametrize(
    ("content", "told", "named"),
    [
        (BOMB, "modules left out: 1 that cannot be read", "m2/index.cnxml: it declares the entity 'b'"),
        ("<document>", "modules left out: 1 that cannot be read", "m2/index.cnxml: it is not well-formed"),
        (None, "modules left out: 1 that cannot be read", "m2/index.cnxml: there is no such file"),
        (document(SUMMARY), "modules left out: 1 without a title or text", ""),
        (document(FOUR, metadata=NC_MODULE), "modules left out: 1 under another licence", ""),
    ],
)
def test_modules_that_are_left_out(content, told, named, tmp_path, capsys):
    modules = {"m1": document(f"<para>Text.</para>{SUMMARY}"), "m2": content or ""}
    folder = make_checkout(tmp_path / "osbooks-cells", modules)
    if content is None:
        (folder / "modules" / "m2" / "index.cnxml").unlink()
    assert run(folder, "--output", tmp_path / "out") == (1 if named else 0)
    captured = capsys.readouterr()
    assert "1 sections; 0 figures" in captured.out and told in captured.out
    assert named in captured.err and captured.err.count("left out:") == bool(named)


@pytest.mark.parametrize(
    ("address", "told", "damaged"),
    [
        ("../../media/absent.png", "1 whose file is missing", True),
        ("../../media/a%00b.png", "1 whose file is missing", True),
        ("../../media/broken.png", "1 whose file cannot be decoded", True),
        ("../../../secret.png", "1 whose path leads out of the checkout", True),
        ("/etc/passwd", "1 whose path leads out of the checkout", True),
        ("../../media/link.png", "1 whose path leads out of the checkout", True),
        ("https://example.org/a.png", "1 on another computer", False),
        ("file:///etc/passwd", "1 on another computer", False),
        ("//example.org/a.png", "1 on another computer", False),
    ],
)
def test_figures_that_are_left_out(address, told, damaged, tmp_path, capsys):
    content = f"<para>Text (<link target-id='f2'/>).</para>{figure('f1', image=address)}{figure('f2')}{SUMMARY}"
    folder = make_checkout(tmp_path / "osbooks-cells", {"m1": document(content)}, images={"f2.png": (32, 32)})
    Image.new("RGB", (32, 32)).save(tmp_path / "secret.png")
    (folder / "media" / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "media" / "broken.png").write_bytes((folder / "media" / "f2.png").read_bytes()[:60])
    assert run(folder, "--output", tmp_path / "out") == int(damaged)
    captured = capsys.readouterr()
    assert f"figures left out: {told}\n" in captured.out
    assert captured.err.count("spectra-sum: left out: osbooks-cells/modules/m1/index.cnxml: ") == damaged
    assert [path.name for path in (tmp_path / "out" / "train_data" / "img").iterdir()] == [f"{module_id('m1')}_0.jpg"]
    assert "Text (Figure 1)." in (tmp_path / "out" / "train_data" / "article" / f"{module_id('m1')}.txt").read_text()


def test_a_module_of_two_books_is_read_once(tmp_path, capsys):
    folder = make_checkout(tmp_path / "osbooks-bio-bundle", {"m1": document(FOUR)})
    first = folder / "collections" / "bio-bundle.collection.xml"
    first.with_name("zoo.collection.xml").write_text(first.read_text().replace("bio-bundle", "zoo"))
    (folder / "META-INF" / "books.xml").unlink()
    run(folder, "--output", tmp_path / "out")
    assert "modules left out: 1 that stand in another book, too, and were read there\n" in capsys.readouterr().out
    run(folder, "--output", tmp_path / "zoo", "--books", "zoo")
    assert (tmp_path / "zoo" / "train_data" / "article" / f"{module_id('m1', 'zoo')}.txt").is_file()


def test_a_book_without_summaries_is_an_error(tmp_path, capsys):
    folder = make_checkout(tmp_path / "osbooks-cells", {"m1": document("<para>Text.</para>")})
    assert run(folder, "--output", tmp_path / "out") == 2
    assert "no module has a summary at its end; modules left out: 1 without" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["osbooks-cells"]


def test_markers_of_the_layout_in_a_text_are_refused(tmp_path, capsys):
    folder = make_checkout(tmp_path / "osbooks-cells", {"m1": document(f"<para>@summary of it</para>{SUMMARY}")})
    assert run(folder, "--output", tmp_path / "out") == 2
    assert "cells/m1: a paragraph begins with @title, @body or @summary" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["osbooks-cells"]


def test_what_is_there_is_replaced_only_with_overwrite(folder, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    assert run(folder, "--output", output) == 0
    before = files(output)
    assert run(folder, "--output", output) == 2
    assert "the folder is not empty; name a new one, or replace it with --overwrite" in capsys.readouterr().err
    (output / "train_data" / "article" / "old.txt").write_text("old")
    assert run(folder, "--output", output, "--overwrite") == 0
    assert files(output) == before
    (output / "notes.txt").write_text("mine")
    assert run(folder, "--output", output, "--overwrite") == 2
    assert "it holds notes.txt, which no earlier run has written" in capsys.readouterr().err
    assert (output / "notes.txt").read_text() == "mine"


def test_outputs_that_cannot_be_written(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for output, reason in (
        ("file", "a file or a link"),
        ("link", "a file or a link"),
        ("no/such", "there is no folder"),
    ):
        assert run(folder, "--output", tmp_path / output) == 2
        assert reason in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_run_that_ends_early_leaves_what_was_there(error, folder, tmp_path, monkeypatch):
    output = tmp_path / "out"
    run(folder, "--output", output)
    before = files(output)

    def fail(*_):
        raise error

    monkeypatch.setattr(conversion, "write_splits", fail)
    assert run(folder, "--output", output, "--overwrite") in (2, 130)
    assert files(output) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["osbooks-cells", "out"]


needs_data = pytest.mark.skipif(
    "SPECTRA_DATA" not in os.environ, reason="SPECTRA_DATA names no folder of real articles"
)


@needs_data
def test_a_real_book_gives_the_sections_of_msmo_openstax(tmp_path):
    data = Path(os.environ["SPECTRA_DATA"])
    book = "introduction-anthropology"
    assert run(data / "openstax_raw" / f"osbooks-{book}", "--output", tmp_path / "out") == 0
    made = {path.stem: path.parents[1] for path in (tmp_path / "out").glob("*_data/article/*.txt")}
    assert len(made) == 19
    known = {
        name: path.parents[1] for name in made for path in (data / "msmo_openstax").glob(f"*_data/article/{name}.txt")
    }
    assert set(known) == set(made)
    images = 0
    for name, folder in made.items():
        texts = [(place / "article" / f"{name}.txt").read_text() for place in (folder, known[name])]
        articles = [parse_article(text) for text in texts]
        assert articles[0].title == articles[1].title and articles[0].summary == articles[1].summary
        # The bodies differ where links, nested lists and film notes are cleaner, LOG.md says how.
        words = [set(article.body.split()) for article in articles]
        assert len(words[0] & words[1]) > 0.97 * len(words[0] | words[1])
        for kind in ("img", "caption", "alt"):
            ours, theirs = (
                {path.name: path for path in (place / kind).glob(f"{name}_*")} for place in (folder, known[name])
            )
            assert set(ours) == set(theirs)
            for file in ours:
                if kind == "img":
                    images += 1
                    assert_same_picture(ours[file], theirs[file])
                else:
                    assert ours[file].read_text() == theirs[file].read_text()
        for file in ("image_annotation.txt", "sources.tsv"):
            rows = [lines_of(place / file, name) for place in (folder, known[name])]
            # The commit is that of the checkout that was read, which has no .git here.
            assert [row.replace("\t418eedd9be\t", "\t\t") for row in rows[1]] == rows[0]
    assert images == 56


def lines_of(file, name):
    return [line for line in file.read_text().splitlines() if name in line]


def assert_same_picture(ours, theirs):
    """The bytes are equal with equal versions of Pillow and libjpeg; any other encoder differs little."""
    if ours.read_bytes() == theirs.read_bytes():
        return
    with Image.open(ours) as first, Image.open(theirs) as second:
        assert first.size == second.size
        pairs = zip(first.tobytes(), second.tobytes(), strict=True)
        assert sum(abs(left - right) for left, right in pairs) < 3 * 3 * first.width * first.height


@needs_data
def test_a_real_book_under_another_licence_is_refused(tmp_path, capsys):
    source = Path(os.environ["SPECTRA_DATA"], "openstax_raw", "osbooks-introduction-anthropology")
    folder = tmp_path / source.name
    for name in ("META-INF", "collections", "modules"):
        shutil.copytree(source / name, folder / name, copy_function=shutil.copyfile)
    text = (source / "LICENSE").read_text()
    (folder / "LICENSE").write_text(text.replace("Attribution 4.0", "Attribution-NonCommercial-ShareAlike 4.0"))
    assert run(folder, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "spectra-sum: error: osbooks-introduction-anthropology/LICENSE: it names CC BY-NC-SA 4.0; only books"
    )
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()
