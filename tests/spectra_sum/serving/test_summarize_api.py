"""`POST /v1/summarize`: what is read of JSON and forms, and the answer whole and streamed."""

import base64
import io
import json

import pytest

from tests.spectra_sum.serving.live import events_of, scripted
from tests.tiny import picture

ROUTE = "/v1/summarize"


def png(seed: int = 1, size=(30, 28)) -> bytes:
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, "PNG")
    return buffer.getvalue()


def encoded(seed: int = 1) -> str:
    return base64.b64encode(png(seed)).decode()


@pytest.fixture(scope="module")
def server():
    with scripted(max_wait=0) as (script, client):
        yield script, client


def test_text_and_images_as_json(server):
    script, client = server
    images = [
        encoded(1),
        f"data:image/png;base64,{encoded(2)}",
        {"data": encoded(3), "name": "c.png", "caption": "Sea"},
    ]
    images.append({"url": f"data:image/png;base64,{encoded(4)}", "alt": "A  ship"})
    answer = client.post(ROUTE, json={"title": "News", "text": "It rained.", "images": images})
    assert answer.status_code == 200
    content = answer.json()
    assert content.pop("id") == f"sum-{answer.headers['x-request-id']}"
    timings = content.pop("timings")
    assert 0 <= timings["queued"] <= timings["total"] and 0 <= timings["summarized"] <= timings["total"] < 10
    document = script.documents[-1]
    assert (document.title, document.body) == ("News", "It rained.")
    assert [image.image.tobytes() for image in document.images] == [
        picture(seed, (30, 28)).tobytes() for seed in (1, 2, 3, 4)
    ]
    shown = [("image-1", "", ""), ("image-2", "", ""), ("c.png", "Sea", ""), ("image-4", "", "A ship")]
    ranks = [None, 3, 2, 1]
    assert content == {
        "model": "tiny",
        "revision": "0123abc",
        "summary": "Summary of It rained..",
        "sentences": [
            {"text": "Summary of It rained..", "origin": "written", "images": [3, 2, 1], "image_weights": None}
        ],
        "images": [
            {
                "index": index,
                "name": name,
                "caption": caption,
                "alt": alt,
                "probability": None,
                "score": float(index),
                "selected": ranks[index] is not None,
                "rank": ranks[index],
                "sentence": 0,
            }
            for index, (name, caption, alt) in enumerate(shown)
        ],
        "remarks": [],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def test_a_document_takes_its_images_by_their_names(server):
    script, client = server
    body = {
        "document": {"name": "../x/a.md", "content": "# Rain\n\nIt rained.\n\n![A ship](img/b.png)\n\n![](gone.png)"},
        "images": [{"data": encoded(1), "name": "a.png"}, {"data": encoded(2), "name": "b.png", "caption": "Ours"}],
    }
    answer = client.post(ROUTE, json=body).json()
    assert [(image["name"], image["alt"], image["caption"]) for image in answer["images"]] == [
        ("img/b.png", "A ship", "Ours"),
        ("a.png", "", ""),
    ]
    assert answer["remarks"] == [{"kind": "missing_image", "detail": "gone.png: there is no such file; upload it"}]
    assert (script.documents[-1].title, script.documents[-1].source) == ("Rain", "a.md")


def test_forms(server):
    script, client = server
    files = [("images", ("a.png", png(1))), ("images", ("a.png", png(2))), ("document", ("n.txt", b"It snowed."))]
    fields = {"title": "Snow", "captions": ["One", "Two"], "num_beams": "2", "length": "short", "do_sample": "false"}
    answer = client.post(ROUTE, data=fields, files=files)
    assert answer.status_code == 200, answer.text
    assert [(image["name"], image["caption"]) for image in answer.json()["images"]] == [
        ("a.png", "One"),
        ("a.png", "Two"),
    ]
    assert (script.documents[-1].title, script.documents[-1].body) == ("Snow", "It snowed.")
    options = script.options[-1]
    assert (options.num_beams, options.max_new_tokens, options.do_sample) == (2, 60, False)
    # What a browser sends of a field of files that was left empty.
    body = (
        '--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nHail.\r\n--b\r\nContent-Disposition: form-data; '
        'name="document"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n\r\n--b--\r\n'
    )
    answer = client.post(ROUTE, content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.json()["summary"] == "Summary of Hail.."


def test_options_come_over_the_servers(server):
    script, client = server
    options = {
        "do_sample": True,
        "temperature": 1,
        "top_p": 0.9,
        "seed": 3,
        "repetition_penalty": 1.5,
        "select": "mmr",
    }
    assert client.post(ROUTE, json={"text": "x", "options": {**options, "length": None}}).status_code == 200
    made = script.options[-1].to_dict()
    assert {name: made[name] for name in options} == options and made["max_new_tokens"] == 120


def test_a_stream_has_the_raw_text_and_the_whole_answer(server):
    script, client = server
    form = {"text": (None, "cut short"), "stream": (None, "true")}
    for request in ({"json": {"text": "cut short", "stream": True}}, {"files": form}):
        answer = client.post(ROUTE, **request)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-length" not in answer.headers
        *texts, (kind, last) = events_of(answer.text)
        assert {kind for kind, _ in texts} == {"text"} and kind == "summary"
        assert "".join(json.loads(data)["text"] for _, data in texts) == "Summary of cut short."
        assert json.loads(last)["summary"] == "Summary of cut short."
        assert json.loads(last)["remarks"] == [{"kind": "summary_cut", "detail": "the summary was stopped"}]


def test_errors_of_streams_have_their_status_until_they_begin(server):
    script, client = server
    answer = client.post(ROUTE, json={"text": "fails", "stream": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_article")
    answer = client.post(ROUTE, json={"text": "it breaks", "stream": True})
    assert answer.status_code == 500
    answer = client.post(ROUTE, json={"text": "it breaks"})
    assert answer.status_code == 500 and "breaks" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]


def test_the_servers_other_addresses(server):
    script, client = server
    assert client.get("/health").json() == {"status": "ok"} and client.get("/ready").json() == {"status": "ready"}
    paths = client.get("/openapi.json").json()["paths"]
    body = paths[ROUTE]["post"]["requestBody"]["content"]
    assert body["application/json"]["schema"]["properties"].keys() == {
        *("text", "title", "images", "document", "options", "stream")
    }
    assert {"num_beams", "document", "captions"} <= body["multipart/form-data"]["schema"]["properties"].keys()
    assert "$ref" not in json.dumps(paths[ROUTE]["post"]["requestBody"])
    assert client.get("/docs").status_code == 200


def test_metrics(server):
    with scripted(max_wait=0) as (script, client):
        for _ in range(3):
            client.post(ROUTE, json={"text": "x"})
        client.get("/nothing/here")
        client.post(ROUTE, json={})
        lines = client.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    count = 'spectra_sum_requests_total{route="/v1/summarize",status="%d"}'
    assert (values[count % 200], values[count % 400]) == ("3.0", "1.0")
    assert values['spectra_sum_requests_total{route="other",status="404"}'] == "1.0"
    assert values["spectra_sum_batch_size_sum"] == "3.0" and values["spectra_sum_waiting"] == "0.0"
    assert values['spectra_sum_tokens_total{kind="completion"}'] == "9.0"
    assert float(values["process_resident_memory_bytes"]) > 1e6


@pytest.fixture
def image_host():
    """A host of images: /a.png, a redirection to it, one to elsewhere, one that is too large, and one that is gone."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            moved = {"/moved": "/pictures/a.png", "/away": "http://127.0.0.2:1/a.png", "/round": "/round"}
            if self.path in moved:
                self.send_response(302)
                self.send_header("Location", moved[self.path])
                self.end_headers()
            elif self.path == "/gone":
                self.send_error(404)
            else:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(bytes(300_000) if self.path == "/large" else png(5))

        def log_message(self, *arguments):
            pass

    host = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=host.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{host.server_address[1]}", asked
    host.shutdown()
    host.server_close()


def test_addresses_are_fetched_at_allowed_hosts_alone(image_host):
    from spectra_sum.uploads.article_input import Limits

    host, asked = image_host
    limits = Limits(image_size=200_000)
    with scripted(max_wait=0, remote_hosts=frozenset({host}), limits=limits) as (script, client):

        def send(address):
            return client.post(ROUTE, json={"text": "x", "images": [{"url": address, "caption": "Far"}]})

        for place in ("pictures/a.png", "moved"):
            answer = send(f"http://{host}/{place}")
            assert answer.status_code == 200, answer.text
            assert answer.json()["images"][0]["name"] == "a.png" and answer.json()["images"][0]["caption"] == "Far"
            assert script.documents[-1].images[0].image.tobytes() == picture(5, (30, 28)).tobytes()
        asked.clear()
        for address, status, reason in [
            (f"http://{host}/gone", 400, "status 404"),
            (f"http://{host}/away", 400, "not fetched"),
            (f"http://{host}/round", 400, "redirections"),
            (f"http://{host}/large", 413, "more than 200,000 bytes"),
            (f"http://user:word@{host}/a.png", 400, "no plain http"),
            (f"ftp://{host}/a.png", 400, "no plain http"),
            ("file:///etc/passwd", 400, "no plain http"),
            ("http://127.0.0.1:1/a.png", 400, "not fetched"),
            (f"http://{host.partition(':')[0]}.example.org/a.png", 400, "not fetched"),
            ("http://[::1", 400, "no valid address"),
        ]:
            answer = send(address)
            assert (answer.status_code, reason in answer.json()["error"]["message"]) == (status, True), answer.text
        assert asked == ["/gone", "/away", *["/round"] * 4, "/large"]
