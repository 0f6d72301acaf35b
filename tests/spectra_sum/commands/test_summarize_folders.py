"""`spectra-sum summarize` on folders, and going on after an interruption."""

import json
import os

import pytest
from PIL import Image

from spectra_sum.documents.folders import find_documents
from spectra_sum.summaries.records import RecordsError, settings_hash
from tests.spectra_sum.commands.conftest import run


@pytest.fixture
def corpus(place):
    """A folder of documents of each kind, two of them of one name, with everything that is not to be read."""
    folder = place / "corpus"
    for name in ("b", "a", ".hidden", "page_files"):
        (folder / name).mkdir(parents=True)
    (folder / "b" / "same.md").write_text("# Second same\n\nWords of b.\n")
    (folder / "a" / "same.md").write_text("# First same\n\nWords of a. ![](green.png)\n")
    Image.new("RGB", (32, 24), "green").save(folder / "a" / "green.png")
    (folder / "page.html").write_text(
        "<h1>A page</h1><p>Words of the page.</p>"
        "<figure><img src=page_files/blue.png alt=Blue><figcaption>Of the page</figcaption></figure>"
    )
    Image.new("RGB", (32, 24), "blue").save(folder / "page_files" / "blue.png")
    (folder / "page_files" / "advert.html").write_text("<p>Buy this.")
    (folder / "note.txt").write_text("Words of the note.")
    (folder / "alias.txt").symlink_to("note.txt")
    (folder / "broken.md").write_bytes(b"caf\xe9")
    (folder / "data.csv").write_text("1,2")
    (folder / ".hidden" / "x.md").write_text("Hidden.")
    (folder / ".x.md").write_text("Hidden.")
    (folder / "outside.txt").symlink_to(place / "note.txt")
    (folder / "all").symlink_to(place)
    return folder


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_of_documents(place, corpus, model_folder, capsys):
    options = ["--model", model_folder, "--output", "r.html", "--json", "r.jsonl", "--max-new-tokens", 4]
    assert run("corpus/b/same.md", "corpus", *options) == 1
    out, err = capsys.readouterr()
    assert [(record["id"], record["source"], record["title"]) for record in records(place / "r.jsonl")] == [
        ("corpus/b/same.md", "corpus/b/same.md", "Second same"),
        ("corpus/a/same.md", "corpus/a/same.md", "First same"),
        ("alias", "corpus/alias.txt", "alias"),
        ("page", "corpus/page.html", "A page"),
    ]
    assert [[image["name"] for image in record["images"]] for record in records(place / "r.jsonl")] == [
        [],
        ["green.png"],
        [],
        ["page_files/blue.png"],
    ]
    notes = [
        "corpus: symbolic links to folders or out of it are not followed: corpus/all, corpus/outside.txt",
        "corpus: files of other kinds are not read: 1 .csv",
        "corpus: folders saved with a page are not searched for documents: 1",
        "corpus: image files are read where a document shows them: 1",
    ]
    failure = "corpus/broken.md: byte 3 is not UTF-8; save the document as UTF-8 text."
    assert err.splitlines() == [f"spectra-sum: note: {note}" for note in notes] + [f"spectra-sum: error: {failure}"]
    html = (place / "r.html").read_text()
    for text in (
        "Multimodal summary of 4 documents",
        *notes,
        f"Not summarized: {failure}",
        "First same",
        "Blue",
        "Of the page",
    ):
        assert text in html
    assert "page_files/blue.png (Blue – Of the page)" in out
    assert html.count("data:image/png;base64,") >= 2


def test_an_output_among_the_documents_of_a_folder_is_refused(place, corpus, model_folder, no_loading, capsys):
    assert run("corpus", "--model", model_folder, "--output", "corpus/page.html") == 2
    assert "--output corpus/page.html: this is one of the inputs" in capsys.readouterr().err


def test_documents_are_read_one_at_a_time(place, model_folder, monkeypatch):
    """A document that appears broken only when its turn comes does not keep the first from being summarized."""
    (place / "one.txt").write_text("The first words.")
    (place / "two.txt").write_text("The second words.")
    seen = []
    monkeypatch.setattr("spectra_sum.commands.summarize._say", lambda text: seen.append((place / "two.txt").exists()))
    from spectra_sum.commands import summarize

    read = summarize.read_document

    def read_and_remove(path, images):
        document = read(path, images)
        (place / "two.txt").unlink(missing_ok=True)
        return document

    monkeypatch.setattr(summarize, "read_document", read_and_remove)
    assert run("one.txt", "two.txt", "--model", model_folder, "--json", "r.jsonl", "--max-new-tokens", 2) == 1
    assert [record["id"] for record in records(place / "r.jsonl")] == ["one"] and seen == [False]


def interrupt_after(monkeypatch, count):
    """Ends the command, as Ctrl-C does, when `count` documents are summarized; returns the ids that were begun."""
    from spectra_sum.summaries.summarizer import Summarizer

    begun = []
    summarize_batch = Summarizer.summarize_batch

    def counted(self, documents):
        begun.extend(document.id for document in documents)
        if len(begun) > count:
            raise KeyboardInterrupt
        return summarize_batch(self, documents)

    monkeypatch.setattr(Summarizer, "summarize_batch", counted)
    return begun


def test_an_interrupted_run_goes_on(place, corpus, model_folder, monkeypatch, capsys):
    (corpus / "broken.md").unlink()
    options = ["--model", model_folder, "--max-new-tokens", 4]
    assert run("corpus", *options, "--json", "whole.jsonl", "--output", "whole.html") == 0
    with monkeypatch.context() as patch:
        assert interrupt_after(patch, 2) == []
        assert run("corpus", *options, "--json", "r.jsonl", "--resume") == 130
    assert len(records(place / "r.jsonl")) == 2
    with open(place / "r.jsonl", "ab") as file:
        file.write(b'{"id": "cut in the mid')
    capsys.readouterr()
    begun = interrupt_after(monkeypatch, 99)
    assert run("corpus", *options, "--json", "r.jsonl", "--output", "r.html", "--resume") == 0
    assert begun == ["corpus/b/same.md", "page"]
    assert "note: 2 of 4 documents are in r.jsonl already\n" in capsys.readouterr().err
    assert sorted(records(place / "r.jsonl"), key=str) == sorted(records(place / "whole.jsonl"), key=str)
    assert (place / "r.html").read_text() == (place / "whole.html").read_text()
    # All is done: no model is loaded, and the report can still be written.
    monkeypatch.setattr("spectra_sum.commands.summarize._load_summarizer", None)
    assert run("corpus", *options, "--json", "r.jsonl", "--output", "again.html", "--resume") == 0
    assert (place / "again.html").read_text() == (place / "whole.html").read_text()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda place: ["--num-beams", 2], "r.jsonl: line 1 was made by another model or with other options"),
        (
            lambda place: (place / "r.jsonl").write_text("no JSON\n") and [],
            "r.jsonl: line 1 is no record of a summary",
        ),
        (lambda place: (place / "r.jsonl").write_text("[1]\n") and [], "r.jsonl: line 1 is no record of a summary"),
        (lambda place: (place / "note.txt").write_text("New words.") and [], "note.txt: it has changed since"),
    ],
)
def test_a_run_goes_on_only_with_what_it_began(place, model_folder, monkeypatch, capsys, change, message):
    options = ["--model", model_folder, "--json", "r.jsonl", "--max-new-tokens", 2]
    assert run("note.txt", *options) == 0
    more = change(place)
    before = (place / "r.jsonl").read_bytes()
    capsys.readouterr()
    monkeypatch.setattr("spectra_sum.commands.summarize._load_summarizer", None)
    assert run("note.txt", *options, "--resume", *more) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert (place / "r.jsonl").read_bytes() == before


def test_a_resumed_run_knows_a_document_by_any_path_and_counts_the_others(place, model_folder, monkeypatch, capsys):
    options = ["--model", model_folder, "--json", "r.jsonl", "--max-new-tokens", 2]
    (place / "gone.txt").write_text("Words.")
    assert run("doc.md", "note.txt", "gone.txt", *options) == 0
    (place / "gone.txt").unlink()
    (place / "broken.png").unlink()
    monkeypatch.setattr("spectra_sum.commands.summarize._load_summarizer", None)
    before = (place / "r.jsonl").read_bytes()
    capsys.readouterr()
    assert run(place / "doc.md", place / "note.txt", *options, "--resume", "--output", "r.html") == 0
    note = "r.jsonl: 1 of its records are of documents not named now"
    done = "2 of 2 documents are in r.jsonl already"
    assert capsys.readouterr().err == f"spectra-sum: note: {done}\nspectra-sum: note: {note}\n"
    assert (place / "r.jsonl").read_bytes() == before
    html = (place / "r.html").read_text()
    assert note in html and "summary cut: the summary was stopped at 2 tokens" in html
    # The document's own remarks are those of today.
    assert "missing image: broken.png" in html and "broken image: broken.png" not in html


@pytest.mark.parametrize(
    "missing",
    ["summary", "selected", "probabilities", "evidence", "summary_problems", "path_hash", "images", "sentences"],
)
def test_a_record_without_a_key_is_named(place, model_folder, capsys, missing):
    options = ["--model", model_folder, "--json", "r.jsonl", "--max-new-tokens", 2]
    assert run("note.txt", *options) == 0
    [record] = records(place / "r.jsonl")
    del record[missing]
    (place / "r.jsonl").write_text(json.dumps(record) + "\n")
    capsys.readouterr()
    assert run("note.txt", *options, "--resume") == 2
    assert "error: r.jsonl: line 1 is no record of a summary" in capsys.readouterr().err


def test_a_record_of_an_earlier_version_is_named(place, model_folder, monkeypatch, capsys):
    options = ["--model", model_folder, "--json", "r.jsonl", "--max-new-tokens", 2]
    assert run("doc.md", *options) == 0
    [record] = records(place / "r.jsonl")
    record["images"] = [image["name"] for image in record["images"]]
    for name in ("sentences", "remarks", "model", "options"):
        del record[name]
    (place / "r.jsonl").write_text(json.dumps(record) + "\n")
    capsys.readouterr()
    monkeypatch.setattr("spectra_sum.commands.summarize._load_summarizer", None)
    assert run("doc.md", *options, "--resume") == 2
    err = capsys.readouterr().err
    assert "error: r.jsonl: line 1 was written by an earlier version, whose lines have other fields" in err
    assert "--overwrite" in err and err.count("\n") == 1


def test_a_batch_gives_the_lines_of_one_by_one(place, corpus, model_folder, monkeypatch, capsys):
    options = ["--model", model_folder, "--max-new-tokens", 4]
    assert run("corpus", "doc.md", "note.txt", *options, "--json", "one.jsonl") == 1
    assert run("corpus", "doc.md", "note.txt", *options, "--json", "batch.jsonl", "--batch-size", 2) == 1
    assert capsys.readouterr().err.count("broken.md") == 2
    one, batch = records(place / "one.jsonl"), records(place / "batch.jsonl")
    assert [record["id"] for record in one] == [record["id"] for record in batch] and len(one) == 6
    assert [set(record) for record in one] == [set(record) for record in batch]
    # Batch by batch it is the same run: an interrupted one goes on with another size.
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4)
        assert run("corpus", "doc.md", "note.txt", *options, "--json", "r.jsonl", "--batch-size", 2) == 130
    kept = records(place / "r.jsonl")
    assert len(kept) == 4
    assert run("corpus", "doc.md", "note.txt", *options, "--json", "r.jsonl", "--resume") == 1
    again = records(place / "r.jsonl")
    assert again[:4] == kept and sorted(each["id"] for each in again) == sorted(each["id"] for each in one)


def test_records_that_are_there_are_replaced_only_with_overwrite(place, model_folder, monkeypatch, capsys):
    options = ["--model", model_folder, "--json", "r.jsonl", "--max-new-tokens", 2]
    (place / "r.jsonl").touch()
    assert run("note.txt", *options) == 0
    before = (place / "r.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("spectra_sum.commands.summarize._load_summarizer", None)
        capsys.readouterr()
        assert run("doc.md", *options) == 2
        error = capsys.readouterr().err
        assert error.startswith("spectra-sum: error: --json r.jsonl: ") and error.count("\n") == 1
        assert "--resume" in error and "--overwrite" in error
        assert run("doc.md", *options, "--resume", "--overwrite") == 2
    assert (place / "r.jsonl").read_bytes() == before
    assert run("doc.md", *options, "--overwrite") == 0
    assert [record["id"] for record in records(place / "r.jsonl")] == ["doc"]


def test_the_model_is_part_of_the_settings(tmp_path, monkeypatch):
    for name in ("model", "adapter", "base"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    adapter = {"base_model_name_or_path": str(tmp_path / "base"), "revision": None}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(adapter))
    for name in ("model", "adapter"):
        before = settings_hash(tmp_path / name, {})
        assert before == settings_hash(tmp_path / name, {}) != settings_hash(tmp_path / name, {"num_beams": 2})
        changed = tmp_path / ("base" if name == "adapter" else name) / "model.safetensors"
        changed.write_text("weights")
        assert settings_hash(tmp_path / name, {}) != before
    commits = {("a/b", "config.json"): "/cache/snapshots/1111/config.json"}
    monkeypatch.setattr(
        "spectra_sum.summaries.records.try_to_load_from_cache",
        lambda model, name, revision=None: commits.get((model, name)),
    )
    before = settings_hash("a/b", {})
    commits["a/b", "config.json"] = "/cache/snapshots/2222/config.json"
    assert settings_hash("a/b", {}) != before
    with pytest.raises(RecordsError, match="x/y: it is not in the local cache"):
        settings_hash("x/y", {})


def test_ids_are_unique(tmp_path):
    names = ["a.md", "sub/a.md", "a.md.txt", "b.txt"]
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).write_text(f"Words of {name}.")
    previous = os.getcwd()
    os.chdir(tmp_path)
    try:
        assert list(find_documents(names).ids.values()) == ["a.md", "sub/a.md", "a.md.txt", "b"]
    finally:
        os.chdir(previous)
