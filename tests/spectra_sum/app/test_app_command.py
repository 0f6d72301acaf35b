"""`spectra-sum app`: starts, answers, ends; and its messages."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from modeling_spectra import MultimodalSummarizationPipeline
from spectra_sum.app.examples import NEWS, write_examples
from spectra_sum.cli import main
from spectra_sum.documents.reading import read_document
from spectra_sum.msmo.closed_world import generate_articles
from tests.tiny import tiny_config, tiny_model, tiny_processor


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    MultimodalSummarizationPipeline(tiny_model(), processor=tiny_processor()).save_pretrained(folder)
    # None of the folder's code runs.
    for module in folder.glob("*.py"):
        module.write_text("raise RuntimeError('this code ran')")
    return folder


def test_the_server_starts_answers_and_ends_by_ctrl_c(model, tmp_path):
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "spectra_sum.cli", "app", "--model", str(model)]
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells switch interrupts off for what they run in the background, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        line = process.stdout.readline()
        match = re.fullmatch(r"(http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n", line)
        try:
            assert match, (line, process.stderr.read())
            page = httpx.get(match[1])
            assert page.status_code == 200
            assert NEWS[0][0] in page.text and NEWS[1][0] in page.text
        finally:
            process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "Stopped.\n")
    assert "Traceback" not in error


def refused(capsys, *arguments: str) -> str:
    assert main(["app", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0].removeprefix("spectra-sum: error: ")


def test_a_port_that_is_taken(model, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert refused(capsys, "--model", str(model), "--port", str(port)) == (
            f"--port {port} on 127.0.0.1: Address already in use; choose another port, or leave --port out."
        )


def test_a_host_of_another_machine(model, capsys):
    assert refused(capsys, "--model", str(model), "--host", "192.0.2.1") == (
        "--host 192.0.2.1: Cannot assign requested address; use 127.0.0.1."
    )


def test_without_gradio(model, capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else find_spec(name))
    assert refused(capsys, "--model", str(model)) == (
        "the app needs gradio; install it with: pip install 'spectra-sum[app]'"
    )


def test_no_model(capsys, tmp_path):
    assert refused(capsys, "--model", str(tmp_path / "none")).endswith(
        "pass a model's folder, a .gguf file, a Hub id (owner/name), smollm2 or default."
    )


def test_examples_suit_the_model(tmp_path):
    config = tiny_config().to_dict()
    write_examples(tmp_path / "news", config)
    articles = [read_document(path) for path in sorted((tmp_path / "news").glob("*/article.md"))]
    assert [article.title for article in articles] == [title for title, _, _ in NEWS]
    for article, (_, body, drawings) in zip(articles, NEWS, strict=True):
        assert article.body.split() == body.split()
        assert [image.alt for image in article.images] == list(drawings.values())
        assert {image.image.size for image in article.images} == {(480, 320)}
        assert article.problems == []

    config["vision_config"]["image_size"] = 48
    write_examples(tmp_path / "closed", config)
    for article in generate_articles(3, seed=0, split="test"):
        shown = read_document(tmp_path / "closed" / article["id"] / "article.md")
        assert (shown.title, shown.body) == (article["title"], article["article"])
        assert [image.image.tobytes() for image in shown.images] == [image.tobytes() for image in article["images"]]
        # The captions would tell the visual facts.
        assert {image.alt for image in shown.images} == {""}
    assert len(list((tmp_path / "closed").iterdir())) == 3
