"""
A server under load, with batches and without, beside summarizing one document after the other:

    python benchmarks/serve.py --data $SPECTRA_DATA/msmo_openstax --output runs/serve --result benchmarks/results/serve.json

Each server is a process of its own on loopback, `spectra-sum serve`, which writes at most `--batches` requests at once. 1, 4 and
16 clients send sections of the test split with their figures, captions and alternative texts; each sends its next one when
the last is answered. The answers are streams, so that the time to the first text is measured, too. With `--soak N` the last
server then answers N requests more, and its memory is read beside. `alone` is the library in this process, without a server.

What is measured stays in the output folder: interrupt it, and the same command goes on. Give it a quiet machine and, by
OMP_NUM_THREADS, all of its cores.
"""

import argparse
import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, and the project may not be installed.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import httpx
from tqdm.auto import tqdm

from benchmarks.closed_loop import Answer, figures, run_clients
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.documents.parts import Document, DocumentError, DocumentImage
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.models.loading import load_any
from spectra_sum.own_data.loading import load_split
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer

ALONE, SOAK = "alone", "soak"
CLIENTS = (1, 4, 16)
GOAL = 2.0
PACKAGES = ("torch", "transformers", "fastapi", "uvicorn")
# Requests between two looks at the server's memory.
LOOK = 10
SECONDS = 600
MEMORY = re.compile(r"^process_resident_memory_bytes (\S+)$", re.MULTILINE)
READY = re.compile(r"(http://[0-9.]+:\d+) \(Ctrl-C ends it\)\n")


def documents_of(data: Path, limit: int) -> list[Document]:
    """The first sections of the test split."""
    records = load_split(data, "test")
    return [
        Document(
            id=row["id"],
            source=row["id"],
            title=row["title"],
            body=row["article"],
            images=[
                DocumentImage(f"image {place}", alt, image.convert("RGB"), caption)
                for place, (image, caption, alt) in enumerate(
                    zip(row["images"], row["captions"], row["alt_texts"], strict=True), start=1
                )
            ],
        )
        for row in records.select(range(min(limit, len(records))))
    ]


def request_of(document: Document, options: Mapping[str, Any]) -> dict[str, Any]:
    """A document as the JSON of a request."""
    images = []
    for image in document.images:
        file = io.BytesIO()
        image.image.save(file, "JPEG", quality=90)
        data = base64.b64encode(file.getvalue()).decode()
        images.append({"data": data, "name": image.name, "caption": image.caption, "alt": image.alt})
    return {"title": document.title, "text": document.body, "images": images, "options": dict(options)}


@contextmanager
def server(options: argparse.Namespace, most: int) -> Iterator[str]:
    """A server that writes at most `most` requests at once; its address."""
    command = [sys.executable, "-m", "spectra_sum.cli", "serve", "--port", "0", "--max-batch", str(most)]
    command += ["--model", options.model, "--timeout", str(SECONDS), "--max-text", "200000"]
    log = options.output / f"server-{most}.log"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        try:
            match = READY.fullmatch(process.stdout.readline())
            if match is None:
                raise SystemExit(f"the server did not start; {log} says why")
            yield match[1]
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def memory_of(url: str) -> int:
    """Bytes of the server in memory, as it tells them itself."""
    found = MEMORY.search(httpx.get(f"{url}/metrics", timeout=30).text)
    return int(float(found[1]))


def load(url: str, bodies: Sequence[Mapping[str, Any]], clients: int, requests: int, name: str) -> dict[str, Any]:
    """The figures of a load, with the server's memory from its beginning to its end."""
    memory = [memory_of(url)]
    with tqdm(total=requests, desc=name, unit="request", disable=None) as bar:

        def answered(answer: Answer) -> None:
            bar.update()
            if bar.n % LOOK == 0:
                memory.append(memory_of(url))

        answers, seconds = run_clients(
            url, bodies, clients=clients, requests=requests, timeout=SECONDS, answered=answered
        )
    memory.append(memory_of(url))
    return {"clients": clients, **figures(answers, seconds), "memory": memory}


def alone(options: argparse.Namespace, documents: Sequence[Document]) -> dict[str, Any]:
    """The library, one document after the other."""
    summarizer = Summarizer(load_any(options.model), SummaryOptions(**summary_options(options)))
    seconds = []
    # What is loaded when it is first needed is loaded before.
    for number, document in enumerate(tqdm([documents[0], *documents], desc=ALONE, unit="document", disable=None)):
        started = time.perf_counter()
        (result,) = summarizer.summarize_batch([document])
        if isinstance(result, DocumentError):
            raise result
        if number:
            seconds.append(time.perf_counter() - started)
    return {**figures([Answer(200, each, None) for each in seconds], sum(seconds)), "clients": 1}


def summary_options(options: argparse.Namespace) -> dict[str, Any]:
    """Of each request, and of the library."""
    return {"max_new_tokens": options.new_tokens} if options.new_tokens else {}


def keep(folder: Path, name: str, row: Mapping[str, Any]) -> None:
    """Writes what was measured under a name."""
    write_text_atomically(folder / f"{name}.json", json.dumps(row) + "\n")


def check_settings(options: argparse.Namespace) -> None:
    """Keeps a folder to one set of settings."""
    settings = {name: getattr(options, name) for name in ("model", "documents", "new_tokens", "requests")}
    file = options.output / "settings.json"
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != settings:
        raise SystemExit(f"{options.output} was made with other settings; choose another --output.")
    write_text_atomically(file, json.dumps(settings) + "\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rows by name, and the long load under `soak`; what was measured before is not measured again."""
    documents = documents_of(options.data, options.documents)
    bodies = [request_of(document, summary_options(options)) for document in documents]
    if not (options.output / f"{ALONE}.json").is_file():
        keep(options.output, ALONE, alone(options, documents))
    names = [ALONE]
    for most in options.batches:
        loads = {f"batch-{most}-clients-{clients}": (clients, options.requests) for clients in options.clients}
        if options.soak and most == options.batches[-1]:
            loads[SOAK] = (max(options.clients), options.soak)
        missing = [name for name in loads if not (options.output / f"{name}.json").is_file()]
        if missing:
            with server(options, most) as url:
                # What is loaded when it is first needed is loaded before.
                run_clients(url, bodies[:1], clients=1, requests=1, timeout=SECONDS)
                for name in missing:
                    keep(options.output, name, load(url, bodies, *loads[name], name))
        names += loads
    return {name: json.loads((options.output / f"{name}.json").read_text(encoding="utf-8")) for name in names}


def ratios(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Of each load with batches its requests a second by those without, of as many clients."""
    found = {}
    for name, row in rows.items():
        without = rows.get(f"batch-1-clients-{row['clients']}")
        if name.startswith("batch-") and without is not None and without is not row:
            found[name] = row["per_second"] / without["per_second"]
    return found


def render(result: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "| most in a batch | clients | requests | errors | requests a second | to batch 1 | p50 | p95 | p99 | first text, p50 |"
    ]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]

    def seconds(value: Mapping[str, float] | None, share: str) -> str:
        return f"{value[share]:.2f} s" if value else ""

    for name, row in result["rows"].items():
        shown = "no server" if name == ALONE else name.split("-")[1]
        cells = [shown, str(row["clients"]), str(row["requests"]), str(row["errors"]), f"{row['per_second']:.3f}"]
        cells += [f"{result['ratios'][name]:.2f} ×" if name in result["ratios"] else ""]
        cells += [seconds(row["seconds"], share) for share in ("p50", "p95", "p99")]
        lines.append("| " + " | ".join([*cells, seconds(row["first_text"], "p50")]) + " |")
    hardware, settings = result["hardware"], result["settings"]
    if result["soak"] is not None:
        memory = [each / 1e6 for each in result["soak"]["memory"]]
        lines += [
            "",
            f"Memory of the server over {result['soak']['requests']} requests of {result['soak']['clients']} clients "
            f"({result['soak']['errors']} errors): {memory[0]:,.0f} MB before, {memory[len(memory) // 2]:,.0f} MB half-way, "
            f"{memory[-1]:,.0f} MB after; most {max(memory):,.0f} MB.",
        ]
    most = max(settings["clients"])
    best = max((ratio for name, ratio in result["ratios"].items() if name.endswith(f"-clients-{most}")), default=None)
    goal = (
        ""
        if best is None
        else (
            f" Batches at {most} clients at least {result['goal']:.0f} × the throughput of one by one was the goal: "
            f"{'met' if best >= result['goal'] else 'missed'} ({best:.2f} ×)."
        )
    )
    new_tokens = f"at most {settings['new_tokens']} tokens" if settings["new_tokens"] else "its own length"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines += [
        "",
        f"Model {settings['model']}, {new_tokens}; {settings['documents']} sections of the test split.{goal} "
        f"{hardware['processor']}, {hardware['cores']} cores, {hardware['threads']} threads; {versions}; commit "
        f"{result['commit']}",
    ]
    return "\n".join(lines)


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="serve.py", description=__doc__.splitlines()[1], allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="in the MSMO layout")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="keeps what was measured")
    parser.add_argument("--model", default="default", help="as of `spectra-sum serve` (default: default)")
    parser.add_argument("--documents", type=int, default=16, help="sections that are sent in turn (default: 16)")
    parser.add_argument("--requests", type=int, default=48, help="of each load (default: 48)")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS, help="default: 1 4 16")
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 8), help="most requests at once (default: 1 8)")
    parser.add_argument("--new-tokens", type=int, help="of a summary (default: the model's own length)")
    parser.add_argument(
        "--soak", type=int, default=0, metavar="N", help="requests to watch the memory over (default: none)"
    )
    parser.add_argument("--result", type=Path, help="write the result as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the result."""
    options = parse_options(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    check_settings(options)
    rows = measure(options)
    soak = rows.pop(SOAK, None)
    result = {
        "rows": rows,
        "soak": soak,
        "ratios": ratios(rows),
        "goal": GOAL,
        "settings": {
            name: getattr(options, name)
            for name in ("model", "documents", "requests", "clients", "batches", "new_tokens", "soak")
        },
        "hardware": describe_hardware(),
        "versions": describe_versions(PACKAGES),
        "commit": describe_commit(),
    }
    if options.result is not None:
        options.result.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(options.result, json.dumps(result, indent=2) + "\n")
    print(render(result))


if __name__ == "__main__":
    main()
