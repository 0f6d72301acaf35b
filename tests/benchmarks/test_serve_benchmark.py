"""The benchmark of the server on a tiny model, and its figures on hand-made answers."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks import serve
from benchmarks.closed_loop import Answer, figures, run_clients
from tests import tiny


class Scripted(BaseHTTPRequestHandler):
    """Streams a summary after a while; text "bad" is refused, and of "cut" the stream ends too early."""

    lock, running, most = threading.Lock(), 0, 0

    def do_POST(self):
        with self.lock:
            Scripted.running += 1
            Scripted.most = max(Scripted.most, Scripted.running)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(0.05)
        self.send_response(400 if body["text"] == "bad" else 200)
        self.end_headers()
        self.wfile.write(b': waiting\n\nevent: text\ndata: {"text": "The "}\n\n')
        if body["text"] != "cut":
            self.wfile.write(b'event: summary\ndata: {"summary": "The end."}\n\n')
        with self.lock:
            Scripted.running -= 1

    def log_message(self, *arguments):
        pass


@pytest.fixture
def url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Scripted.most = 0
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_as_many_requests_are_on_their_way_as_there_are_clients(url):
    told = []
    bodies = [{"text": "good"}, {"text": "bad"}, {"text": "cut"}]
    answers, seconds = run_clients(url, bodies, clients=3, requests=9, timeout=10, answered=told.append)
    assert told == answers and Scripted.most == 3
    assert sorted(answer.status for answer in answers) == [0, 0, 0, 200, 200, 200, 400, 400, 400]
    assert all(0.05 <= answer.seconds <= seconds for answer in answers)
    assert all(answer.first_text is not None for answer in answers if answer.status == 200)


def test_the_load_goes_to_loopback_alone():
    with pytest.raises(ValueError, match="servers on loopback alone"):
        run_clients("http://192.168.0.1", [{}], clients=1, requests=1, timeout=1)


def test_figures_of_answers():
    answers = [Answer(200, float(seconds), seconds / 10) for seconds in range(1, 100)]
    answers += [Answer(200, 100.0, None), Answer(429, 0.5, None, "full"), Answer(0, 0.5, None, "lost")]
    found = figures(answers, 50.0)
    assert (found["requests"], found["errors"], found["first_error"], found["per_second"]) == (102, 2, "full", 2.0)
    # Of 1 to 100 the median lies between 50 and 51, and a percentile at its share of the 99 steps.
    assert found["seconds"] == pytest.approx({"p50": 50.5, "p95": 95.05, "p99": 99.01})
    assert found["first_text"]["p50"] == pytest.approx(5.0)
    assert figures([Answer(500, 1.0, None)], 1.0)["seconds"] is None


def row(clients: int, per_second: float) -> dict:
    times = {"p50": 1.0, "p95": 2.0, "p99": 3.0}
    return {
        "clients": clients,
        "requests": 8,
        "errors": 0,
        "per_second": per_second,
        "seconds": times,
        "first_text": None,
    }


def test_ratios_are_to_the_server_without_batches_and_as_many_clients():
    rows = {"alone": row(1, 9.0), "batch-1-clients-4": row(4, 0.5), "batch-8-clients-4": row(4, 1.25)}
    rows["batch-8-clients-16"] = row(16, 2.0)
    assert serve.ratios(rows) == {"batch-8-clients-4": 2.5}


@pytest.mark.parametrize(("per_second", "verdict"), [(1.25, "met (2.50 ×)"), (0.75, "missed (1.50 ×)")])
def test_the_table_says_whether_the_goal_is_met(per_second, verdict):
    rows = {"alone": row(1, 0.4), "batch-1-clients-4": row(4, 0.5), "batch-8-clients-4": row(4, per_second)}
    soak = {**row(4, 1.0), "memory": [1_000_000_000, 1_100_000_000, 1_050_000_000]}
    text = serve.render(
        {
            "rows": rows,
            "soak": soak,
            "ratios": serve.ratios(rows),
            "goal": 2.0,
            "settings": {"model": "default", "documents": 4, "clients": [4], "new_tokens": None},
            "hardware": {"processor": "A", "cores": 2, "threads": 2},
            "versions": {"torch": "2"},
            "commit": "abc",
        }
    )
    assert verdict in text and "| no server | 1 | 8 | 0 | 0.400 |  | 1.00 s |" in text
    assert "1,000 MB before, 1,100 MB half-way, 1,050 MB after; most 1,100 MB" in text


def write_section(folder, name: str, text: str) -> None:
    for kind in ("article", "img", "caption"):
        (folder / "test_data" / kind).mkdir(parents=True, exist_ok=True)
    article = f"@title\nShips\n@body\n{text}\n@summary\n{text}\n"
    (folder / "test_data" / "article" / f"{name}.txt").write_text(article)
    tiny.picture(len(name), (30, 28)).save(folder / "test_data" / "img" / f"{name}_0.jpg")
    (folder / "test_data" / "caption" / f"{name}_0.caption").write_text("A ship")


def test_a_tiny_model_under_load_and_what_was_measured_is_kept(tmp_path, monkeypatch, capsys):
    tiny.tiny_model(gate=0.8, vrp_context="article", distill_weight=1.0).save_pretrained(tmp_path / "model")
    tiny.tiny_processor(max_candidate_images=6).save_pretrained(tmp_path / "model")
    for number, text in enumerate(tiny.SENTENCES[:2]):
        write_section(tmp_path / "data", f"section{number}", text)
    argv = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "runs"), "--model", str(tmp_path / "model")]
    argv += ["--documents", "2", "--requests", "4", "--clients", "2", "--batches", "2", "--new-tokens", "4"]
    argv += ["--soak", "3", "--result", str(tmp_path / "serve.json")]
    serve.main(argv)
    result = json.loads((tmp_path / "serve.json").read_text())
    assert set(result["rows"]) == {"alone", "batch-2-clients-2"} and result["ratios"] == {}
    assert [row["first_error"] for row in result["rows"].values()] == [None, None]
    assert result["rows"]["batch-2-clients-2"]["requests"] == 4 and result["soak"]["requests"] == 3
    assert min(result["soak"]["memory"]) > 100_000_000
    monkeypatch.setattr(serve, "server", lambda *arguments: pytest.fail("all was measured"))
    serve.main(argv)
    assert json.loads((tmp_path / "serve.json").read_text())["rows"] == result["rows"]
    with pytest.raises(SystemExit, match="other settings"):
        serve.main([*argv, "--requests", "5"])
