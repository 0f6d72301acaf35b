"""Who is written with whom and when, and what becomes of those that cannot wait or whose clients have gone."""

import gc
import json
import re
import signal
import socket
import time
import weakref

import httpx
import pytest

from spectra_sum.serving.application import create_app
from spectra_sum.serving.running import Server, configuration
from spectra_sum.serving.settings import Settings
from spectra_sum.summaries.options import SummaryOptions
from tests.spectra_sum.serving.live import MODEL, Script, app_of, events_of, in_background, scripted, served

ROUTE = "/v1/summarize"


def post(client, text, **fields):
    return client.post(ROUTE, json={"text": text, **fields})


def waiting(client) -> int:
    return int(float(re.search(r"^spectra_sum_waiting (.*)$", client.get("/metrics").text, re.MULTILINE)[1]))


def hold(script, client):
    """One request is being written, and stays so until `script.go` is set."""
    script.go.clear()
    first = in_background(post, client, "first")
    script.wait_for(lambda script: script.batches == [["first"]])
    return first


def queued(client, *texts, **fields):
    """Requests that wait, in this order."""
    calls = []
    for text in texts:
        before = waiting(client)
        calls.append(in_background(post, client, text, **fields))
        until = time.monotonic() + 10
        while waiting(client) == before:
            assert time.monotonic() < until
    return calls


def test_what_waits_is_written_together_the_oldest_options_first():
    with scripted(max_batch=3, max_wait=0) as (script, client):
        calls = [hold(script, client)]
        calls += queued(client, "a1", "a2")
        calls += queued(client, "b1", options={"length": "short"})
        calls += queued(client, "a3")
        # The default, by its name.
        calls += queued(client, "a4", options={"num_beams": 1})
        calls += queued(client, "b2", options={"length": "short"})
        script.go.set()
        answers = [call.answer() for call in calls]
        assert [answer.json()["summary"] for answer in answers] == [
            f"Summary of {text}." for text in ("first", "a1", "a2", "b1", "a3", "a4", "b2")
        ]
        assert script.batches == [["first"], ["a1", "a2", "a3"], ["b1", "b2"], ["a4"]]


def test_sampled_requests_are_written_alone():
    with scripted(max_wait=0) as (script, client):
        calls = [hold(script, client), *queued(client, "a", "b", options={"do_sample": True})]
        script.go.set()
        assert [call.answer().status_code for call in calls] == [200] * 3
        assert script.batches == [["first"], ["a"], ["b"]]


def test_extracts_are_made_one_by_one_and_do_not_wait_for_others():
    script = Script()
    options = SummaryOptions(mode="extractive")
    app = create_app(script.make, options, Settings(max_wait=20), MODEL)
    with served(app) as url, httpx.Client(base_url=url, timeout=10) as client:
        calls = [hold(script, client), *queued(client, "a", "b")]
        script.go.set()
        assert [call.answer().status_code for call in calls] == [200] * 3
        assert script.batches == [["first"], ["a"], ["b"]]


def test_the_first_waits_for_others_and_not_longer():
    with scripted(max_wait=0.5, max_batch=2) as (script, client):
        started = time.monotonic()
        assert post(client, "alone").status_code == 200
        assert 0.5 <= time.monotonic() - started < 5
        started = time.monotonic()
        calls = [in_background(post, client, text) for text in ("a", "b")]
        assert [call.answer().status_code for call in calls] == [200] * 2
        # A full batch does not wait.
        assert sorted(script.batches[1]) == ["a", "b"] and time.monotonic() - started < 0.5


def test_without_batches():
    with scripted(max_batch=1, max_wait=5) as (script, client):
        calls = [hold(script, client), *queued(client, "a", "b")]
        script.go.set()
        assert [call.answer().status_code for call in calls] == [200] * 3
        assert script.batches == [["first"], ["a"], ["b"]]


def test_a_full_queue_is_told_with_the_time_to_come_back():
    with scripted(max_batch=1, max_wait=0, queue_size=2) as (script, client):
        calls = [hold(script, client)]
        time.sleep(1.2)
        script.go.set()
        calls[0].answer()
        script.go.clear()
        script.batches.clear()
        calls = [hold(script, client), *queued(client, "a", "b")]
        answer = post(client, "c")
        assert answer.status_code == 429 and answer.json()["error"]["code"] == "queue_full"
        # Two wait, one is written: three batches of the 1.2 seconds and a bit that the last one took.
        assert 4 <= int(answer.headers["retry-after"]) <= 12
        assert post(client, "c", stream=True).status_code == 429
        script.go.set()
        assert [call.answer().status_code for call in calls] == [200] * 3
        assert post(client, "c").status_code == 200


def test_the_time_to_come_back_knows_who_is_written_alone():
    with scripted(max_wait=0, queue_size=4) as (script, client):
        first = hold(script, client)
        time.sleep(1.2)
        script.go.set()
        first.answer()
        script.go.clear()
        script.batches.clear()
        calls = [
            hold(script, client),
            *queued(client, "a", "b", options={"do_sample": True}),
            *queued(client, "c", "d"),
        ]
        # The one that is written, two that are sampled, and two together.
        assert 5 <= int(post(client, "e").headers["retry-after"]) <= 15
        script.go.set()
        assert [call.answer().status_code for call in calls] == [200] * 5
        assert script.batches == [["first"], ["a"], ["b"], ["c", "d"]]


def test_time_is_limited_in_the_queue_and_while_it_is_written():
    with scripted(max_wait=0, timeout=0.7) as (script, client):
        script.go.clear()
        first = in_background(post, client, "forever")
        script.wait_for(lambda script: script.batches)
        [late] = queued(client, "late")
        for call in (first, late):
            answer = call.answer()
            assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout_error")
        assert waiting(client) == 0
        script.go.set()
        script.wait_for(lambda script: script.stopped == ["forever"])
        assert post(client, "next").status_code == 200
        assert script.batches == [["forever"], ["next"]]
        streamed = post(client, "forever", stream=True)
        *texts, (kind, data) = events_of(streamed.text)
        assert streamed.status_code == 200 and len(texts) == 3 and kind == "error"
        assert json.loads(data)["error"]["code"] == "timeout"
        assert 'spectra_sum_stopped_total{reason="timeout"} 3.0' in client.get("/metrics").text


def raw_request(client, text, **fields) -> socket.socket:
    connection = socket.create_connection((client.base_url.host, client.base_url.port), timeout=20)
    body = json.dumps({"text": text, **fields}).encode()
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_a_client_that_goes_leaves_the_queue_and_stops_its_row_alone():
    with scripted(max_wait=0) as (script, client):
        first = hold(script, client)
        goes = raw_request(client, "goes")
        until = time.monotonic() + 10
        while waiting(client) != 1:
            assert time.monotonic() < until
        stays = queued(client, "stays")
        goes.close()
        while waiting(client) != 1:
            assert time.monotonic() < until
        script.go.set()
        assert first.answer().status_code == stays[0].answer().status_code == 200
        assert script.batches == [["first"], ["stays"]]

        script.batches.clear()
        for stream in (False, True):
            script.go.clear()
            first = in_background(post, client, "first", options={"length": "long"})
            script.wait_for(lambda script: script.batches)
            stays = queued(client, "stays")
            goes = raw_request(client, "forever", stream=stream)
            while waiting(client) != 2:
                assert time.monotonic() < until
            script.go.set()
            script.wait_for(lambda script: script.batches[-1] == ["stays", "forever"])
            if stream:
                assert b"event: text" in goes.recv(4096)
            goes.close()
            answer = stays[0].answer()
            assert answer.json()["summary"] == "Summary of stays." and first.answer().status_code == 200
            assert script.stopped == ["forever"]
            script.stopped.clear()
            script.batches.clear()
        assert 'spectra_sum_stopped_total{reason="client"} 3.0' in client.get("/metrics").text


def test_a_document_that_breaks_its_batch_breaks_no_other(caplog):
    with scripted(max_wait=0) as (script, client):
        calls = [hold(script, client), *queued(client, "a", "it breaks", "b")]
        script.go.set()
        assert [call.answer().status_code for call in calls] == [200, 200, 500, 200]
        assert [call.answer().json().get("summary") for call in calls][1::2] == ["Summary of a.", "Summary of b."]
        assert script.batches == [["first"], ["a", "it breaks", "b"], ["a"], ["it breaks"], ["b"]]
    # Where it came from, without what the request held.
    assert "RuntimeError from" in caplog.text and "it breaks" not in caplog.text


def test_nothing_of_a_request_stays_when_it_is_answered():
    with scripted(max_wait=0) as (script, client):
        assert post(client, "a").status_code == 200
        document = weakref.ref(script.documents.pop())
        until = time.monotonic() + 10
        while document() is not None:
            assert time.monotonic() < until
            gc.collect()


def test_a_stream_in_silence_sends_comments():
    with scripted(max_wait=0, silence=0.1) as (script, client):
        first = hold(script, client)
        with client.stream("POST", ROUTE, json={"text": "x", "stream": True}) as answer:
            lines = answer.iter_lines()
            assert next(lines) == ": waiting"
            count = 'spectra_sum_first_text_seconds_count{route="/v1/summarize"}'
            assert count not in client.get("/metrics").text
            script.go.set()
            assert any(line == "event: summary" for line in lines)
        first.answer()
        assert f"{count} 1.0" in client.get("/metrics").text


@pytest.fixture
def ending():
    """A server whose signals a test gives itself."""
    script = Script()
    app = app_of(script, max_wait=0)
    server = Server(configuration(app), app, lambda: None)
    with served(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield script, client, server
        script.go.set()


def test_a_server_that_ends_is_not_ready_and_answers_what_it_has(ending):
    script, client, server = ending
    first = hold(script, client)
    server.handle_exit(signal.SIGTERM, None)
    assert client.get("/ready").status_code == 503 and client.get("/health").status_code == 200
    assert server.should_exit and not server.force_exit
    script.go.set()
    assert first.answer().status_code == 200


def test_at_a_second_signal_what_is_not_finished_is_given_up(ending):
    script, client, server = ending
    first = in_background(post, client, "forever")
    script.wait_for(lambda script: script.batches)
    calls = [first, *queued(client, "a"), *queued(client, "b", options={"length": "short"})]
    for _ in range(2):
        server.handle_exit(signal.SIGINT, None)
    answers = [call.answer() for call in calls]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(503, "stopped")] * 3
    assert post(client, "c").status_code == 503 and script.batches == [["forever"]]
    assert not server.force_exit
    server.handle_exit(signal.SIGINT, None)
    assert server.force_exit
