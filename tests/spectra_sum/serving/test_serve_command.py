"""`spectra-sum serve` with a tiny model, in a process of its own: answers, keys, and the end; and its messages."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial

import httpx
import openai
import pytest

from spectra_sum import cli
from spectra_sum.commands.serve import add_arguments
from spectra_sum.models import loading
from spectra_sum.models.sources import ModelError, find_minilm
from spectra_sum.serving.keys import KeyFileError, read_keys
from spectra_sum.serving.own_thread import in_own_thread
from tests import tiny

SENTENCES = tiny.SENTENCES
ROUTE = "/v1/summarize"
OPTIONS = ["--length", "short", "--captions", "none", "--long", "cut"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-model"
    tiny.tiny_model(gate=0.8, vrp_context="article", distill_weight=1.0).save_pretrained(folder)
    tiny.tiny_processor(max_candidate_images=6).save_pretrained(folder)
    return folder


@contextmanager
def running(*arguments):
    """The process, and the address that it prints."""
    command = [sys.executable, "-m", "spectra_sum.cli", "serve", "--port", "0", *map(str, arguments)]
    with subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            line = process.stdout.readline()
            match = re.fullmatch(r"(http://[0-9.]+:\d+) \(Ctrl-C ends it\)\n", line)
            assert match, (line, process.stderr.read())
            yield process, match[1]
        finally:
            process.kill()


def ended(process, number) -> str:
    """Standard error of a process that a signal ends."""
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "Stopped.\n"), error
    assert "Traceback" not in error
    return error


def test_answers_are_those_of_summarize_and_all_are_given_before_the_end(model, tmp_path, capsys):
    for seed in (1, 2):
        tiny.picture(seed, (30, 28)).save(tmp_path / f"{seed}.png")
    document = tmp_path / "a.md"
    body = "\n\n".join(SENTENCES)
    document.write_text(f"# News\n\n{body}\n\n![A ship](1.png)\n\n![](2.png)\n")
    output = tmp_path / "out.jsonl"
    assert cli.main(["summarize", str(document), "--model", str(model), "--json", str(output), *OPTIONS]) == 0
    capsys.readouterr()
    expected = json.loads(output.read_text())

    keys = tmp_path / "keys"
    keys.write_text("first\n\n  second  \n")
    with running("--model", model, "--api-key-file", keys, *OPTIONS) as (process, url):
        with httpx.Client(base_url=url, headers={"Authorization": "Bearer second"}, timeout=60) as client:
            files = [("document", ("a.md", document.read_bytes()))]
            files += [("images", (f"{seed}.png", (tmp_path / f"{seed}.png").read_bytes())) for seed in (2, 1)]
            answer = client.post(ROUTE, files=files).json()
            assert answer["summary"] == expected["summary"] and answer["model"] == "tiny-model"
            assert [sentence["text"] for sentence in answer["sentences"]] == [
                sentence["text"] for sentence in expected["sentences"]
            ]
            assert [image["name"] for image in answer["images"]] == ["1.png", "2.png"]
            probabilities = [image["probability"] for image in answer["images"]]
            assert probabilities == pytest.approx(expected["probabilities"], abs=1e-5)
            assert answer["usage"]["completion_tokens"] > 0
            assert client.get("/health", headers={"Authorization": ""}).status_code == 200
            assert httpx.get(f"{url}/v1/models").status_code == 401

        api = openai.OpenAI(base_url=f"{url}/v1", api_key="first", max_retries=0)
        asked = {"model": "tiny-model", "messages": [{"role": "user", "content": body}]}
        whole = api.chat.completions.create(**asked)
        pieces = list(api.chat.completions.create(**asked, stream=True))
        content = "".join(piece.choices[0].delta.content or "" for piece in pieces)
        assert content == whole.choices[0].message.content != ""
        assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason
        assert pieces[-1].model_extra["spectra_sum"]["summary"] == content

        # Requests that have arrived when it is told to end.
        answers = []

        def ask(number):
            answers.append(
                httpx.post(
                    f"{url}{ROUTE}",
                    json={"text": f"{number}. {body}", "options": {"max_new_tokens": 200}, "stream": number % 2 == 0},
                    headers={"Authorization": "Bearer first"},
                    timeout=60,
                )
            )

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        with httpx.Client(base_url=url, headers={"Authorization": "Bearer first"}) as client:
            while True:
                lines = client.get("/metrics").text.splitlines()
                values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
                there = [float(values[f"spectra_sum_{state}"]) for state in ("waiting", "running")]
                done = float(values.get('spectra_sum_requests_total{route="/v1/summarize",status="200"}', 0)) - 1
                if sum(there) + done == 12:
                    break
        error = ended(process, signal.SIGTERM)
        for thread in threads:
            thread.join(10)
        assert [answer.status_code for answer in answers] == [200] * 12
        assert sum("event: summary" in answer.text for answer in answers) == 6
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/ready")
    assert str(model.parent) not in error and "POST /v1/summarize 200" in error and "storm" not in error


def test_extracts_are_served_and_another_machine_may_ask_without_a_key_with_a_warning(model):
    try:
        find_minilm()
    except ModelError as error:
        pytest.skip(str(error))
    with running("--mode", "extractive", "--host", "0.0.0.0") as (process, url):
        text = "\n\n".join(SENTENCES * 3)
        answer = httpx.post(f"{url.replace('0.0.0.0', '127.0.0.1')}{ROUTE}", json={"text": text}, timeout=60).json()
        assert {sentence["origin"] for sentence in answer["sentences"]} == {"extracted"} and answer["usage"] is None
        error = ended(process, signal.SIGINT)
    assert error.startswith(
        "spectra-sum: warning: --host 0.0.0.0 can be reached from other machines, and no key is asked for; pass "
        "--api-key-file\n"
    )


def refused(capsys, *arguments) -> str:
    assert cli.main(["serve", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0].removeprefix("spectra-sum: error: ")


def test_what_is_refused_before_a_model_is_loaded(model, tmp_path, capsys, monkeypatch):
    def load(*arguments, **more):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("spectra_sum.models.loading.load_any", load)
    empty = tmp_path / "empty"
    empty.write_text("\n  \n")
    asked = ("--model", model)
    assert refused(capsys, *asked, "--api-key-file", empty) == f"{empty}: there is no key; write one in each line."
    assert "No such file" in refused(capsys, *asked, "--api-key-file", tmp_path / "none")
    assert refused(capsys, "--mode", "extractive", *asked) == (
        "--model is for summaries that are written; leave it or --mode extractive out."
    )
    assert refused(capsys, *asked, "--temperature", "0.5").startswith("--temperature is for sampling")
    assert refused(capsys, *asked, "--host", "192.0.2.1", "--port", "0") == (
        "--host 192.0.2.1: Cannot assign requested address; use 127.0.0.1."
    )
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert refused(capsys, *asked, "--port", port) == (
            f"--port {port} on 127.0.0.1: Address already in use; choose another port, or leave --port out."
        )
    find_spec = importlib.util.find_spec
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        missing = partial(lambda package, name: None if name == package else find_spec(name), package)
        monkeypatch.setattr(importlib.util, "find_spec", missing)
        assert refused(capsys, *asked) == (
            f"the server needs {package}; install it with: pip install 'spectra-sum[serve]'"
        )


def test_the_thread_that_loads_has_ended_before_the_server_begins(model, monkeypatch):
    seen = []
    load = loading.load_any

    def load_and_tell(*arguments, **more):
        seen.append(threading.current_thread())
        return load(*arguments, **more)

    def serve(app, place, ready):
        seen.append(seen[0].is_alive())

    monkeypatch.setattr(loading, "load_any", load_and_tell)
    monkeypatch.setattr("spectra_sum.serving.running.serve", serve)
    assert cli.main(["serve", "--model", str(model), "--port", "0"]) == 0
    thread, alive = seen
    assert thread is not threading.main_thread() and alive is False


def test_work_in_its_own_thread_returns_or_raises_what_it_does():
    assert in_own_thread(lambda: threading.current_thread().name) == "loading"
    error = ValueError("as it was")
    with pytest.raises(ValueError) as caught:
        in_own_thread(partial(_raise, error))
    assert caught.value is error


def _raise(error):
    raise error


def test_hosts_and_limits_of_the_command_line(capsys):
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    hosts = ["a.example.org", "B.example.org:8080", "[::1]:80"]
    assert parser.parse_args(["--allow-remote", *hosts]).allow_remote == [host.lower() for host in hosts]
    for arguments in (
        ["--allow-remote", "http://a.b"],
        ["--max-batch", "0"],
        ["--port", "70000"],
        ["--timeout", "-1"],
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(arguments)
    help_text = " ".join(parser.format_help().split())
    for text in (
        "bytes of the whole request (default: 32000000)",
        "(default: 50000000)",
        "characters of the text (default: 50000)",
        "characters of the title (default: 300)",
        "characters of a caption or alternative text (default: 5000)",
    ):
        assert text in help_text
    capsys.readouterr()


def test_keys_that_no_header_can_carry(tmp_path):
    file = tmp_path / "keys"
    for content, message in [("a b", "key 1 has a space"), ("good\n\x01", "key 2 has a space"), ("é", "than ASCII")]:
        file.write_text(content, encoding="utf-8")
        with pytest.raises(KeyFileError, match=message) as caught:
            read_keys(file)
        assert "good" not in str(caught.value)
    file.write_text("one\r\n two \n\n", newline="")
    assert read_keys(file) == (b"one", b"two")
