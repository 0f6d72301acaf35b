"""Requests that no client should send: each has its status and one sentence, and the server goes on."""

import base64
import gzip
import socket
import struct
import time
import zlib

import pytest
from PIL import Image

from spectra_sum.uploads.article_input import Limits
from tests.spectra_sum.serving.live import scripted
from tests.spectra_sum.serving.test_summarize_api import encoded, png

ROUTE, CHAT = "/v1/summarize", "/v1/chat/completions"
KEY = "a-key-of-this-server"
LIMITS = Limits(
    text_length=1_000, title_length=50, caption_length=60, images=3, document_size=4_000, image_size=50_000
)
REQUEST_SIZE = 300_000
JSON = "application/json"


@pytest.fixture(scope="module")
def server():
    """One for all: what one request does to it is seen by the next."""
    with pytest.MonkeyPatch.context() as patch:
        # As the command sets it.
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
        settings = {
            "limits": LIMITS,
            "request_size": REQUEST_SIZE,
            "body_timeout": 0.6,
            "keys": (b"other", KEY.encode()),
        }
        with scripted(max_wait=0, **settings) as (script, client):
            client.headers["Authorization"] = f"Bearer {KEY}"
            yield script, client


def bomb(width: int, height: int) -> bytes:
    """A PNG of one colour: a thousand times as many pixels as bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes((width + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def based(data: bytes) -> str:
    return base64.b64encode(data).decode()


def form(*parts: tuple[str, bytes]) -> dict:
    body = b"".join(
        b"--b\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data + b"\r\n"
        for head, data in parts
    )
    return {"content": body + b"--b--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}


def sent(**fields) -> dict:
    return {"json": fields}


def text(**fields) -> dict:
    return {"json": {"text": "It rained.", **fields}}


def raw(content: bytes | str, kind: str | None = JSON, **headers) -> dict:
    return {"content": content, "headers": {**({"Content-Type": kind} if kind else {}), **headers}}


def chat(content, **fields) -> dict:
    return {"json": {"model": "tiny", "messages": [{"role": "user", "content": content}], **fields}}


BAD = {
    # Shape.
    "nothing": (ROUTE, raw(""), 400, "no JSON"),
    "no JSON": (ROUTE, raw("{text: 'x'}"), 400, "no JSON"),
    "a list": (ROUTE, raw("[]"), 400, "must be an object"),
    "no UTF-8": (ROUTE, raw(b'{"text": "\xff\xfe"}'), 400, "no JSON"),
    "UTF-16": (ROUTE, raw('{"text": "x"}'.encode("utf-16"), "application/json; charset=utf-16"), 400, "no JSON"),
    "a lone surrogate": (ROUTE, raw('{"text": "\\ud800 x"}'), 400, "no JSON"),
    "deep nesting": (ROUTE, raw("[" * 20_000 + "]" * 20_000), 413, "more values"),
    "deeper than the parser goes": (ROUTE, raw('{"text":' + "[" * 5_000 + "]" * 5_000 + "}"), 400, "no JSON"),
    "many values": (ROUTE, raw("[" + "0," * 60_000 + "0]"), 413, "more values"),
    "no text": (ROUTE, sent(title="Rain"), 400, "There is no text"),
    "white space": (ROUTE, sent(text=" \n\t "), 400, "There is no text"),
    "text and document": (ROUTE, text(document={"name": "a.md", "content": "x"}), 400, "remove one"),
    "an unknown field": (ROUTE, text(txt="x"), 400, "txt: this field is unknown"),
    "an unknown field within": (ROUTE, text(document={"name": "a.md", "content": "x", "path": "/"}), 400, "document.path"),
    "an unknown option": (ROUTE, text(options={"beams": 2}), 400, "options.beams: this field is unknown"),
    "the mode": (ROUTE, text(options={"mode": "extractive"}), 400, "options.mode"),
    # Types.
    "a number for a text": (ROUTE, sent(text=5), 400, "text: "),
    "a text for a flag": (ROUTE, text(stream="true"), 400, "stream: "),
    "true for a number": (ROUTE, text(options={"num_beams": True}), 400, "options.num_beams"),
    "a fraction for a whole number": (ROUTE, text(options={"max_new_tokens": 1.5}), 400, "options.max_new_tokens"),
    "NaN": (ROUTE, raw('{"text": "x", "options": {"temperature": NaN}}'), 400, "no JSON"),
    "infinity": (ROUTE, raw('{"text": "x", "options": {"top_p": 1e999}}'), 400, ""),
    "a huge number": (ROUTE, raw('{"text": "x", "options": {"seed": %s}}' % ("9" * 5_000)), 400, ""),
    "an unknown length": (ROUTE, text(options={"length": "huge"}), 400, "options.length"),
    "contradicting options": (ROUTE, text(options={"temperature": 0.5}), 400, "temperature is for sampling"),
    "a predictor that is not there": (ROUTE, text(options={"select": "vrp"}), 400, "select vrp needs"),
    "too many tokens": (ROUTE, text(options={"max_new_tokens": 100_000}), 400, "at most 1,024"),
    "too many beams": (ROUTE, text(options={"num_beams": 64}), 400, "at most 8"),
    "images of another type": (ROUTE, text(images=[5]), 400, "images[0]: an image is base64"),
    "an image without content": (ROUTE, text(images=[{"name": "a.png"}]), 400, "images[0]: an image has either"),
    # Images.
    "no base64": (ROUTE, text(images=["%%%"]), 400, "images[0]: this is no valid base64"),
    "base64 with rubbish in it": (ROUTE, text(images=[encoded()[:40] + "\x00é" + encoded()[40:]]), 400, "no valid base64"),
    "base64 of nothing": (ROUTE, text(images=[""]), 400, "no image in one of the formats"),
    "no image": (ROUTE, text(images=[based(b"no image")]), 400, "Image 1, image-1: it is no image"),
    "half an image": (ROUTE, text(images=[encoded(), based(png()[:200])]), 400, "Image 2"),
    "a vector graphic": (ROUTE, text(images=[based(b"<svg xmlns='http://www.w3.org/2000/svg'/>")]), 400, "no image"),
    "a small image": (ROUTE, text(images=[based(png(1, (1, 1)))]), 400, "1 × 1 pixels"),
    "an image of many pixels": (ROUTE, text(images=[based(bomb(1_100, 1_000))]), 413, "more than 1,000,000 pixels"),
    "a decompression bomb": (ROUTE, text(images=[based(bomb(6_000, 5_000))]), 413, "decompression bomb"),
    "an image of many bytes": (ROUTE, text(images=[based(bytes(60_000))]), 413, "more than 50,000 bytes"),
    "many images": (ROUTE, text(images=[encoded()] * 4), 413, "leave at most 3"),
    "an address": (ROUTE, text(images=["http://example.org/a.png"]), 400, "not fetched"),
    "an address of this machine": (ROUTE, text(images=[{"url": "http://127.0.0.1:8000/health"}]), 400, "not fetched"),
    "a file's address": (ROUTE, text(images=[{"url": "file:///etc/hostname"}]), 400, "no plain http"),
    "a data URI without a comma": (ROUTE, text(images=["data:image/png;base64"]), 400, "has no comma"),
    # Sizes.
    "a long text": (ROUTE, sent(text="x" * 1_001), 413, "shorten it to 1,000"),
    "a long title": (ROUTE, text(title="x" * 51), 413, "shorten it to 50"),
    "a long caption": (ROUTE, text(images=[{"data": encoded(), "caption": "x" * 61}]), 413, "caption of image 1"),
    "a long document": (ROUTE, sent(document={"name": "a.txt", "content": "x" * 4_001}), 413, "the limit is"),
    "a long request": (ROUTE, raw(b'{"text": "' + b"x" * REQUEST_SIZE + b'"}'), 413, "longer than 300,000 bytes"),
    "a long request in pieces": (ROUTE, raw(b"x" * 1_000 for _ in range(400)), 413, "longer than 300,000 bytes"),
    # Documents.
    "an unknown type of document": (ROUTE, sent(document={"name": "a.exe", "content": "x"}), 400, "a.exe: this is no document"),
    "a document without a name": (ROUTE, sent(document={"name": "", "content": "x"}), 400, "no document of the types"),
    "NUL in a document": (ROUTE, sent(document={"name": "a.txt", "content": "a\0b"}), 400, "NUL"),
    "a path for a name": (ROUTE, sent(document={"name": "../../etc/passwd", "content": "x"}), 400, "passwd: this is no"),
    "an empty document": (ROUTE, sent(document={"name": "/tmp/a.md", "content": ""}), 400, "a.md: the document is empty"),
    # Types of content, methods, addresses.
    "no type": (ROUTE, raw('{"text": "x"}', None), 415, "content type"),
    "another type": (ROUTE, raw("text=x", "application/x-www-form-urlencoded"), 415, "content type"),
    "compressed": (ROUTE, raw(gzip.compress(b'{"text": "x"}'), **{"Content-Encoding": "gzip"}), 415, "Compressed"),
    "a form to chat": (CHAT, form(('name="text"', b"x")), 415, "content type"),
    "an unknown address": ("/v1/summaries", text(), 404, "no such address"),
    "an address with a path in it": ("/v1/..%2f..%2fetc/passwd", text(), 404, "no such address"),
    # Forms.
    "a form without an end": (ROUTE, {"content": b"--b\r\nContent-Disp", "headers": form()["headers"]}, 400, ""),
    "a form without its last boundary": (
        ROUTE,
        form(('name="text"', b"x"), ('name="images"; filename="a.png"', png()))
        | {"content": form(('name="text"', b"x"), ('name="images"; filename="a.png"', png()))["content"][:-9]},
        400,
        "before its last boundary",
    ),
    "a form in another charset": (
        ROUTE,
        raw(form(('name="text"', b"x"))["content"], "multipart/form-data; boundary=b; charset=undefined"),
        415,
        "must be in UTF-8",
    ),
    "a form without a boundary": (ROUTE, raw(b"--b--", "multipart/form-data"), 400, ""),
    "an unknown field of a form": (ROUTE, form(('name="text"', b"x"), ('name="beam"', b"x")), 400, "beam: this field"),
    "a field twice": (ROUTE, form(('name="text"', b"x"), ('name="text"', b"y")), 400, "text: this field is there twice"),
    "an option that is no number": (ROUTE, form(('name="text"', b"x"), ('name="num_beams"', b"two")), 400, "num_beams"),
    "nan in a form": (ROUTE, form(('name="text"', b"x"), ('name="top_p"', b"nan")), 400, "top_p"),
    "a field of a form that is long": (ROUTE, form(('name="text"', b"x" * 5_000)), 400, "maximum size"),
    "many fields": (ROUTE, form(*[('name="captions"', b"x")] * 60), 400, "Too many fields"),
    "many files": (ROUTE, form(*[('name="images"; filename="a.png"', png())] * 5), 400, "Too many files"),
    "captions without images": (ROUTE, form(('name="text"', b"x"), ('name="captions"', b"x")), 400, "captions: "),
    "a document as a text": (ROUTE, form(('name="document"', b"x")), 400, "document: send a file"),
    "a file of an unknown name": (ROUTE, form(('name="file"; filename="a.md"', b"x")), 400, "file: no file is read here"),
    "an image that is a path": (
        ROUTE,
        form(('name="text"', b"x"), ('name="images"; filename="../../../tmp/evil.png"', b"no image")),
        400,
        "Image 1, evil.png",
    ),
    # OpenAI's shape.
    "a chat without messages": (CHAT, sent(model="tiny"), 400, "messages: this field is missing"),
    "a chat with another model": (CHAT, sent(model="gpt", messages=[]), 404, "no model of this name"),
    "a chat with an unknown part": (CHAT, chat([{"type": "file", "file": {}}]), 400, "messages[0].content[0]"),
    "a chat with an address": (CHAT, chat([{"type": "image_url", "image_url": {"url": "https://a.b/c"}}]), 400, "not fetched"),
    "a chat that is streamed and wrong": (CHAT, chat("", stream=True), 400, "There is no text"),
    "a chat in a wrong role": (CHAT, sent(model="tiny", messages=[{"role": "king", "content": "x"}]), 400, "messages[0].role"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_has_its_status_and_the_server_goes_on(server, name):
    script, client = server
    route, request, status, message = BAD[name]
    known = len(script.batches)
    answer = client.post(route, **request)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and message in error["message"]
    assert "\n" not in error["message"] and len(error["message"]) < 500
    # Neither where anything lies on this machine nor how the code came there.
    assert not [mark for mark in ("Traceback", "site-packages", "/tmp", "/root", ".py") if mark in answer.text]
    assert len(script.batches) == known
    goes_on(client)


def goes_on(client):
    answer = client.post(ROUTE, json={"text": "It snowed."})
    assert (answer.status_code, answer.json()["summary"]) == (200, "Summary of It snowed..")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", ROUTE, 405),
        ("PUT", CHAT, 405),
        ("DELETE", "/health", 405),
        ("GET", "/v1/summarize/", 404),
        ("GET", "/", 404),
    ],
)
def test_other_methods_and_addresses(server, method, path, status):
    _, client = server
    answer = client.request(method, path)
    assert answer.status_code == status and answer.json()["error"]["message"]
    goes_on(client)


@pytest.mark.parametrize(
    "header",
    [None, "", KEY, "Bearer", "Bearer wrong", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}"],
)
def test_without_a_key_nothing_is_read(server, header):
    _, client = server
    for path in (ROUTE, CHAT, "/v1/models", "/metrics", "/docs", "/openapi.json", "/nothing"):
        request = client.build_request("POST", path, content=b"x" * (REQUEST_SIZE * 2))
        del request.headers["Authorization"]
        if header is not None:
            request.headers["Authorization"] = header
        answer = client.send(request)
        assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
    goes_on(client)


def test_all_keys_open_and_states_need_none(server):
    _, client = server
    for key in (KEY, "other"):
        assert client.get("/v1/models", headers={"Authorization": f"bearer  {key}"}).status_code == 200
    for path in ("/health", "/ready"):
        assert client.get(path, headers={"Authorization": ""}).status_code == 200
    twice = [("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {KEY}")]
    request = client.build_request("GET", "/v1/models")
    del request.headers["Authorization"]
    request.headers = request.headers.__class__([*request.headers.multi_items(), *twice])
    assert client.send(request).status_code == 401


def connected(client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=10)


def head(length: int) -> bytes:
    lines = [f"POST {ROUTE} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", f"Content-Type: {JSON}"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def received(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_a_slow_body_is_not_waited_for(server):
    _, client = server
    with connected(client) as connection:
        connection.sendall(head(100) + b'{"text":')
        started = time.monotonic()
        answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 408 ") and 0.3 < time.monotonic() - started < 5
        assert b"did not arrive within 0.6 seconds" in answer
    # A byte now and then does not help.
    with connected(client) as connection:
        connection.sendall(head(100))
        for _ in range(8):
            time.sleep(0.1)
            try:
                connection.sendall(b" ")
            except OSError:
                break
        assert received(connection).startswith(b"HTTP/1.1 408 ")
    goes_on(client)


def test_clients_that_go_in_the_middle(server):
    script, client = server
    known = len(script.batches)
    for part in (b"POST", head(100)[:60], head(100), head(100) + b'{"text": "x"', head(14)[:-2]):
        with connected(client) as connection:
            connection.sendall(part)
    goes_on(client)
    with connected(client) as connection:
        connection.sendall(head(40) + b"x" * 10)
        connection.shutdown(socket.SHUT_WR)
        received(connection)
    goes_on(client)
    assert len(script.batches) == known + 2


def test_what_is_no_http(server):
    _, client = server
    for data in (b"\x16\x03\x01\x02\x00" * 20, b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"x" * 100_000, b"\0" * 70_000):
        with connected(client) as connection:
            try:
                connection.sendall(data + b"\r\n\r\n")
                assert received(connection)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 401", b"")
            except ConnectionError:
                pass
        goes_on(client)
    request = head(10).replace(b"Content-Length: 10", b"Content-Length: 10\r\nContent-Length: 11") + b"x" * 10
    with connected(client) as connection:
        connection.sendall(request)
        assert received(connection).startswith(b"HTTP/1.1 400")
    goes_on(client)


def test_a_body_of_two_lengths_hides_no_second_request(server):
    _, client = server
    hidden = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
    with connected(client) as connection:
        connection.sendall(head(4)[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1
    assert b"both Content-Length and Transfer-Encoding" in answer
    goes_on(client)


def test_a_declared_length_is_refused_before_it_is_sent(server):
    _, client = server
    with connected(client) as connection:
        connection.sendall(head(10**12))
        assert received(connection).startswith(b"HTTP/1.1 413 ")
    goes_on(client)


def test_a_bomb_within_a_page_is_left_out(server):
    _, client = server
    page = f"<p>It rained.</p><img src='data:image/png;base64,{based(bomb(1_300, 1_000))}'>"
    answer = client.post(ROUTE, json={"document": {"name": "a.html", "content": page}}).json()
    assert answer["images"] == [] and answer["summary"] == "Summary of It rained.."
    assert [remark["kind"] for remark in answer["remarks"]] == ["oversized_image"]


def test_hostile_characters_are_shown_harmlessly(server):
    script, client = server
    body = {
        "text": "a\0b \u202e c\x1b[2J\n\nd",
        "images": [{"data": encoded(), "name": "\x1b\u202e../x\n.png", "alt": "\0"}],
    }
    answer = client.post(ROUTE, json=body)
    assert answer.status_code == 200
    document = script.documents[-1]
    assert document.body == "a\ufffdb \ufffd c\ufffd[2J\n\nd"
    assert (document.images[0].name, document.images[0].alt) == ("x\ufffd.png", "\ufffd")


def test_the_log_holds_nothing_of_a_request(server, caplog):
    _, client = server
    caplog.set_level("INFO", "spectra_sum.serving")
    client.post(f"{ROUTE}?password=hidden", json={"text": "it breaks, confidentially", "title": "Confidential"})
    client.post("/v1/%0aforged", json={"text": "confidentially"})
    goes_on(client)
    assert "RuntimeError from" in caplog.text
    lines = [
        record.getMessage()
        for record in caplog.records
        if record.levelname == "INFO" and "POST" in record.getMessage()
    ]
    assert [line.split()[:3] for line in lines][:2] == [["POST", ROUTE, "500"], ["POST", "/v1/\ufffdforged", "404"]]
    shown = caplog.text.lower()
    assert not [word for word in ("hidden", "confidential", KEY, "snowed") if word in shown]
