"""A server on loopback in a thread, and a summarizer that records its batches and can be held back."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import uvicorn

from spectra_sum.documents.parts import Document, DocumentError, Problem
from spectra_sum.serving.answers import ServedModel
from spectra_sum.serving.application import create_app
from spectra_sum.serving.running import configuration
from spectra_sum.serving.settings import Settings
from spectra_sum.summaries.document_summary import DocumentSummary, TokenCounts
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summary_sentences import SummarySentence
from spectra_sum.summaries.watching.watcher import WritingStopped

MODEL = ServedModel("tiny", "0123abc")


@dataclass
class Script:
    """
    What the summarizers of a server do, and did.

    A document's summary is "Summary of BODY." for its body, in pieces of a word. A body "fails" is a `DocumentError`, one that
    has "breaks" in it breaks the batch, one that has "cut" is cut at its limit, and one that has "loops" turns out to be
    degenerate. A body "forever" is written until it is stopped.
    """

    batches: list[list[str]] = field(default_factory=list)
    options: list[SummaryOptions] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    # Cleared by a test that holds the writing back.
    go: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self.go.set()

    def make(self, options: SummaryOptions) -> "ScriptedSummarizer":
        return ScriptedSummarizer(self, options.filled(trained=False, ranks=False))

    def wait_for(self, condition, seconds: float = 10) -> None:
        until = time.monotonic() + seconds
        while not condition(self):
            assert time.monotonic() < until, (self.batches, self.stopped)
            time.sleep(0.005)


@dataclass
class ScriptedSummarizer:
    script: Script
    options: SummaryOptions

    def summarize_batch(self, documents, watchers):
        script = self.script
        script.batches.append([document.body for document in documents])
        script.options.append(self.options)
        script.documents += documents
        assert script.go.wait(20)
        results = []
        for document, watcher in zip(documents, watchers, strict=True):
            if "breaks" in document.body:
                raise RuntimeError(document.body)
            results.append(self._result(document, watcher))
        return results

    def _result(self, document, watcher):
        if document.body == "fails":
            return DocumentError(f"{document.source}: the title leaves no room.")
        text = f"Summary of {document.body}."
        for number, word in enumerate(text.split(" ")):
            if watcher.follows_text:
                piece = word if not number else f" {word}"
                watcher.text(piece)
                watcher.standing(piece)
        until = time.monotonic() + 20
        while document.body == "forever" and not watcher.stopped() and time.monotonic() < until:
            time.sleep(0.005)
        if watcher.stopped():
            self.script.stopped.append(document.body)
            return WritingStopped("stopped")
        if "loops" in document.body:
            text = "Another text."
        count = len(document.images)
        selected = list(range(count))[::-1][:3]
        problems = [Problem("summary_cut", "the summary was stopped")] if "cut" in document.body else []
        sentence = SummarySentence(text, images=selected)
        return DocumentSummary(
            text,
            selected,
            [None] * count,
            [],
            problems,
            [sentence],
            [float(index) for index in range(count)],
            [0] * count,
            tokens=TokenCounts(7, 3),
        )


def app_of(script: Script, **settings):
    return create_app(script.make, SummaryOptions(), Settings(**settings), MODEL)


@contextmanager
def served(app) -> Iterator[str]:
    """The address of a running server."""
    place = socket.socket()
    place.bind(("127.0.0.1", 0))
    server = uvicorn.Server(configuration(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive() and time.monotonic() < until
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def scripted(**settings) -> Iterator[tuple[Script, httpx.Client]]:
    """A script, and a client of the server that follows it."""
    script = Script()
    with served(app_of(script, **settings)) as url, httpx.Client(base_url=url, timeout=30) as client:
        try:
            yield script, client
        finally:
            script.go.set()


def in_background(call, *arguments, **more) -> "Background":
    return Background(call, arguments, more)


class Background:
    """A call in a thread of its own; `answer()` waits for its result."""

    def __init__(self, call, arguments, more):
        self._result = self._error = None

        def run():
            try:
                self._result = call(*arguments, **more)
            except Exception as error:
                self._error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def answer(self):
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return self._result


def events_of(text: str) -> list[tuple[str | None, str]]:
    """Type and data of server-sent events."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines.get("event"), lines["data"]))
    return found
